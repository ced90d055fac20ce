"""The official `openai` client against the embedding model inside the sidecar.

usage: openai_embeddings.py BASE_URL KEY MODEL

Exits with 0 and prints `ok` when everything holds; an assertion says what did not.
"""

import base64
import math
import struct
import sys

import openai

TEXTS = ["How do I reset my password?", "I forgot my password", "Water boils at 100 degrees"]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def main(base_url: str, key: str, model: str) -> None:
    api = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=30)
    assert model in [m.id for m in api.models.list()], "the model is not listed"
    assert api.models.retrieve(model).owned_by == "local"

    # The client asks for base64 unless told otherwise, and decodes it.
    decoded = api.embeddings.create(model=model, input=TEXTS)
    assert decoded.model == model and decoded.object == "list"
    assert [e.index for e in decoded.data] == [0, 1, 2]
    assert decoded.usage.prompt_tokens == decoded.usage.total_tokens > 10
    plain = api.embeddings.create(model=model, input=TEXTS, encoding_format="float")
    for a, b in zip(decoded.data, plain.data, strict=True):
        assert math.isclose(cosine(a.embedding, b.embedding), 1.0, abs_tol=1e-3)
    vectors = [e.embedding for e in plain.data]
    assert cosine(vectors[0], vectors[1]) > 0.7 > 0.3 > cosine(vectors[0], vectors[2])

    raw = api.embeddings.with_raw_response.create(model=model, input=TEXTS[0], encoding_format="base64")
    numbers = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    numbers = struct.unpack(f"<{len(numbers) // 4}f", numbers)
    assert math.isclose(cosine(list(numbers), vectors[0]), 1.0, abs_tol=0.05)

    for field, wrong in [("input", {"input": [1, 2, 3]}), ("dimensions", {"input": "x", "dimensions": 3})]:
        try:
            api.embeddings.create(model=model, **wrong)
        except openai.BadRequestError as error:
            assert error.param == field, error
        else:
            raise AssertionError(f"{wrong} was not refused")
    try:
        api.embeddings.create(model="text-embedding-3-small", input="x")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("an unknown model answered")
    print("ok")


main(*sys.argv[1:])
