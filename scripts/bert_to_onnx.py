"""Turns a BERT sentence encoder's safetensors weights into an int8 ONNX graph, without torch.

usage: bert_to_onnx.py WEIGHTS_DIR OUT.onnx

WEIGHTS_DIR holds model.safetensors and config.json as the model hubs lay them out. The graph takes input_ids,
attention_mask and token_type_ids (int64, batch x sequence) and gives last_hidden_state (batch x sequence x hidden);
pooling is left to the caller, since it differs between models that are otherwise the same.
The int8 graph is compared with the fp32 one before it is kept.
"""

import json
import math
import pathlib
import struct
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
# Added to the scores of padding; large enough that softmax gives them nothing, small enough for any float type.
MASK_PENALTY = -10000.0
# Mean-pooled sentence vectors of the two graphs must agree at least this well. Measured for MiniLM: 0.98 and up.
COSINE_MIN = 0.95
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(path):
    """The format is a u64 length, a JSON table of contents of that length, and the raw tensors."""
    raw = path.read_bytes()
    (header_len,) = struct.unpack_from("<Q", raw)
    start = 8 + header_len
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(raw[start + begin : start + end], NUMPY_TYPES[entry["dtype"]])
        tensors[name.removeprefix("bert.")] = array.reshape(entry["shape"])
    return tensors


class Graph:
    """Collects nodes and weights; every method returns the name of the tensor that it made."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.nodes = []
        self.constants = []

    def constant(self, name, value):
        if all(known.name != name for known in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, inputs, **attributes):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def weight(self, name):
        return self.constant(name, self.tensors[name].astype(np.float32))

    def linear(self, x, layer):
        """Checkpoints keep a linear layer as (out, in); MatMul wants (in, out)."""
        kernel = self.constant(f"{layer}.kernel", self.tensors[f"{layer}.weight"].astype(np.float32).T)
        return self.op("Add", [self.op("MatMul", [x, kernel]), self.weight(f"{layer}.bias")])

    def layer_norm(self, x, layer, epsilon):
        inputs = [x, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")]
        return self.op("LayerNormalization", inputs, axis=-1, epsilon=epsilon)


def embed(g, config):
    sequence = g.op("Shape", ["input_ids"], start=1, end=2)
    zero = g.constant("zero", np.array([0], np.int64))
    positions = g.op("Slice", [g.weight("embeddings.position_embeddings.weight"), zero, sequence, zero])
    words = g.op("Gather", [g.weight("embeddings.word_embeddings.weight"), "input_ids"])
    types = g.op("Gather", [g.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"])
    total = g.op("Add", [g.op("Add", [words, types]), positions])
    return g.layer_norm(total, "embeddings.LayerNorm", config["layer_norm_eps"])


def padding_bias(g):
    """0 where there is a token and MASK_PENALTY where there is padding, shaped (batch, 1, 1, sequence)."""
    axes = g.constant("head_and_query_axes", np.array([1, 2], np.int64))
    mask = g.op("Cast", [g.op("Unsqueeze", ["attention_mask", axes])], to=TensorProto.FLOAT)
    absent = g.op("Sub", [g.constant("one", np.float32(1.0)), mask])
    return g.op("Mul", [absent, g.constant("mask_penalty", np.float32(MASK_PENALTY))])


def attention(g, x, bias, layer, config):
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    split = g.constant("split_heads", np.array([0, 0, heads, width], np.int64))
    joined = g.constant("join_heads", np.array([0, 0, config["hidden_size"]], np.int64))

    def per_head(name, order):
        projected = g.linear(x, f"{layer}.attention.self.{name}")
        return g.op("Transpose", [g.op("Reshape", [projected, split])], perm=order)

    query, value = per_head("query", [0, 2, 1, 3]), per_head("value", [0, 2, 1, 3])
    key = per_head("key", [0, 2, 3, 1])
    scale = g.constant("score_scale", np.float32(1.0 / math.sqrt(width)))
    scores = g.op("Add", [g.op("Mul", [g.op("MatMul", [query, key]), scale]), bias])
    mixed = g.op("MatMul", [g.op("Softmax", [scores], axis=-1), value])
    merged = g.op("Reshape", [g.op("Transpose", [mixed], perm=[0, 2, 1, 3]), joined])
    projected = g.linear(merged, f"{layer}.attention.output.dense")
    residual = g.op("Add", [projected, x])
    return g.layer_norm(residual, f"{layer}.attention.output.LayerNorm", config["layer_norm_eps"])


def gelu(g, x):
    """The exact form, x/2 * (1 + erf(x / sqrt 2)): what "hidden_act": "gelu" means in these checkpoints."""
    erf = g.op("Erf", [g.op("Mul", [x, g.constant("sqrt_half", np.float32(math.sqrt(0.5)))])])
    half = g.op("Mul", [x, g.constant("half", np.float32(0.5))])
    return g.op("Mul", [half, g.op("Add", [erf, g.constant("one", np.float32(1.0))])])


def build(tensors, config):
    g = Graph(tensors)
    x, bias = embed(g, config), padding_bias(g)
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        x = attention(g, x, bias, layer, config)
        hidden = gelu(g, g.linear(x, f"{layer}.intermediate.dense"))
        residual = g.op("Add", [g.linear(hidden, f"{layer}.output.dense"), x])
        x = g.layer_norm(residual, f"{layer}.output.LayerNorm", config["layer_norm_eps"])
    g.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"], name="node_output"))
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    shape = ["batch", "sequence", config["hidden_size"]]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    graph = helper.make_graph(g.nodes, "bert", ids, [output], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def quantise(source, target):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = ["MatMul", "Gather"]
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=kinds)


def sentence_vectors(path, ids, mask):
    """Mean over the real tokens, scaled to length one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], feed)
    mean = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def agreement(full, small, vocabulary):
    """The worst cosine between the two graphs over fixed pseudo-random token rows of several lengths."""
    rng = np.random.default_rng(7)
    lengths = np.array([4, 9, 17, 32])
    ids = rng.integers(1000, vocabulary, size=(len(lengths), lengths.max()), dtype=np.int64)
    mask = (np.arange(lengths.max())[None, :] < lengths[:, None]).astype(np.int64)
    return float((sentence_vectors(full, ids, mask) * sentence_vectors(small, ids, mask)).sum(axis=1).min())


def main(weights_dir, out):
    config = json.loads((weights_dir / "config.json").read_text())
    if config.get("hidden_act") != "gelu":
        sys.exit(f"config.json: hidden_act is {config.get('hidden_act')!r}; only 'gelu' is built here")
    model = build(read_safetensors(weights_dir / "model.safetensors"), config)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        full, small = pathlib.Path(scratch, "full.onnx"), pathlib.Path(scratch, "int8.onnx")
        onnx.save(model, full)
        quantise(full, small)
        cosine = agreement(full, small, config["vocab_size"])
        if cosine < COSINE_MIN:
            sys.exit(f"the int8 graph differs too much from the fp32 one: cosine {cosine:.3f}, at least {COSINE_MIN}")
        small.replace(out)
    print(f"{out}: {out.stat().st_size} bytes, cosine to fp32 at least {cosine:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
