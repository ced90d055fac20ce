#!/usr/bin/env python3
"""How many texts a second Python's onnxruntime embeds with one thread, in batches of 32.

Standard input: one JSON object with model, tokenizer, prefix, pad_id, tokens_max and texts.
Standard output: one number. Needs `pip install onnxruntime tokenizers numpy`.
"""

import json
import sys
import time

import numpy
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32


def main():
    task = json.load(sys.stdin)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(task["model"], options)
    inputs = {node.name for node in session.get_inputs()}
    tokenizer = Tokenizer.from_file(task["tokenizer"])
    tokenizer.enable_truncation(task["tokens_max"])
    tokenizer.enable_padding(pad_id=task["pad_id"])
    # Texts of like length together, as the sidecar's benchmark does.
    texts = sorted((task["prefix"] + text for text in task["texts"]), key=len)
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(texts[first : first + BATCH])
        ids = numpy.array([e.ids for e in encoded], dtype=numpy.int64)
        mask = numpy.array([e.attention_mask for e in encoded], dtype=numpy.int64)
        feed = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in inputs:
            feed["token_type_ids"] = numpy.zeros_like(ids)
        tokens = session.run(None, feed)[0]
        weights = mask[:, :, None].astype(numpy.float32)
        vectors = (tokens * weights).sum(1) / weights.sum(1)
        vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    print(len(texts) / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
