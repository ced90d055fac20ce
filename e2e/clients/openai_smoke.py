"""The official `openai` client against a gateway: what its users do first, and its error classes.

usage: openai_smoke.py BASE_URL KEY LIMITED_KEY

LIMITED_KEY belongs to a tenant with a burst of one request. Exits with 0 and prints `ok` when
everything holds; an assertion says what did not.
"""

import sys

import openai

QUESTION = [{"role": "user", "content": "hello from python"}]
ANSWER = "You said: hello from python"


def client(base_url: str, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=retries, timeout=30)


def expect(error_class: type[openai.APIStatusError], code: str, call) -> openai.APIStatusError:
    try:
        call()
    except error_class as error:
        assert error.code == code, f"{error_class.__name__} has code {error.code}, expected {code}"
        assert error.request_id, f"{error_class.__name__} has no request id"
        return error
    raise AssertionError(f"expected {error_class.__name__} ({code})")


def answers(base_url: str, key: str) -> None:
    api = client(base_url, key)
    whole = api.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert whole.choices[0].message.content == ANSWER, whole
    assert whole.usage and whole.usage.total_tokens > 0

    raw = api.chat.completions.with_raw_response.create(model="gpt-4o", messages=QUESTION)
    assert raw.headers["x-gateway-cache"] == "hit"
    assert raw.parse().choices[0].message.content == ANSWER

    for _ in range(2):  # fresh, then replayed from the cache
        stream = api.chat.completions.create(
            model="gpt-4o", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == ANSWER, said
        assert chunks[-1].usage and chunks[-1].usage.total_tokens == whole.usage.total_tokens

    models = [model.id for model in api.models.list()]
    assert "gpt-4o" in models, models
    assert api.models.retrieve("gpt-4o").id == "gpt-4o"
    assert api.get("/models/openai/gpt-4o", cast_to=openai.types.Model).owned_by == "openai"

    raw = api.chat.completions.with_raw_response.create(
        model="openai/gpt-4o",
        messages=QUESTION,
        extra_headers={"x-request-id": "mine"},
        extra_body={"metadata": {"team": "a"}},
    )
    assert raw.headers["x-request-id"] == "mine", raw.headers
    assert raw.parse().choices[0].message.content == ANSWER

    legacy = api.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi")
    assert legacy.choices[0].text == "You said: hi", legacy


def errors(base_url: str, key: str, limited_key: str) -> None:
    api = client(base_url, key)

    def ask(model: str = "gpt-4o", **more):
        return lambda: api.chat.completions.create(model=model, messages=QUESTION, **more)

    missing = expect(openai.NotFoundError, "model_not_found", ask("gpt-9"))
    assert missing.param == "model"
    expect(openai.BadRequestError, "invalid_value", ask(temperature=3))
    wrong_key = client(base_url, "wrong-key-0123456789")
    expect(openai.AuthenticationError, "invalid_api_key", lambda: list(wrong_key.models.list()))
    expect(openai.PermissionDeniedError, "permission_denied", lambda: api.get("/admin/status", cast_to=object))

    limited = client(base_url, limited_key)
    limited.models.retrieve("gpt-4o")
    error = expect(openai.RateLimitError, "rate_limit_exceeded", lambda: limited.models.retrieve("gpt-4o"))
    assert int(error.response.headers["retry-after"]) >= 1
    # With retries on, the client waits as it is told, and gets in.
    client(base_url, limited_key, retries=3).models.retrieve("gpt-4o")


def main() -> None:
    base_url, key, limited_key = sys.argv[1:]
    answers(base_url, key)
    errors(base_url, key, limited_key)
    print("ok")


main()
