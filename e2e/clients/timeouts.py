"""What the official Python clients make of answers that do not come in time.

usage: timeouts.py BASE_URL KEY MODEL...

The provider takes a minute to answer whoever says `take your time`. Exits with 0 and prints `ok` when
everything holds for every model; an assertion says what did not.
"""

import sys

import anthropic
import openai

ASKED = {"messages": [{"role": "user", "content": "take your time"}], "max_tokens": 9}
# Shorter than what the gateway is told, so that the client's own patience ends first.
OWN = {"timeout": 0.5, "extra_headers": {"x-stainless-timeout": "600"}}
# The other way round.
TOLD = {"timeout": 30, "extra_headers": {"x-request-timeout-ms": "300"}}


def times_out(library, create) -> None:
    for stream in [False, True]:
        try:
            create(stream=stream, **ASKED, **OWN)
        except library.APITimeoutError:
            pass
        else:
            raise AssertionError("the client waits on")
        try:
            create(stream=stream, **ASKED, **TOLD)
        except library.InternalServerError as error:
            assert error.status_code == 504, error
            assert error.body["type" if library is openai else "error"], error.body
        else:
            raise AssertionError("the gateway waits on")


def main() -> None:
    base_url, key, *models = sys.argv[1:]
    chat = openai.OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0).chat.completions
    messages = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0).messages
    for model in models:
        for library, api in [(openai, chat), (anthropic, messages)]:
            try:
                times_out(library, lambda **more: api.create(model=model, **more))
            except Exception as error:
                raise AssertionError(f"{library.__name__} on {model}") from error
    print("ok")


main()
