"""The official `anthropic` client against a gateway: what its users do first, and its error classes.

usage: anthropic_smoke.py BASE_URL KEY MODEL...

Each model is asked the same things, whichever protocol its provider speaks. Exits with 0 and
prints `ok` when everything holds; an assertion says what did not.
"""

import json
import sys

import anthropic

QUESTION = [{"role": "user", "content": "hello from python"}]
ANSWER = "You said: hello from python"
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
TOOL = {"name": "weather", "description": "Tells the weather", "input_schema": {"type": "object"}}


def client(base_url: str, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0, timeout=30)


def expect(error_class: type[anthropic.APIStatusError], kind: str, call) -> None:
    try:
        call()
    except error_class as error:
        assert error.body["error"]["type"] == kind, error.body
        assert error.body["type"] == "error" and error.body["error"]["message"], error.body
        return
    raise AssertionError(f"expected {error_class.__name__} ({kind})")


def answers(api: anthropic.Anthropic, model: str) -> None:
    whole = api.messages.create(model=model, max_tokens=100, system="Repeat.", messages=QUESTION)
    assert whole.content[0].text == ANSWER, whole
    assert whole.stop_reason == "end_turn" and whole.type == "message", whole
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0, whole

    cut = api.messages.create(model=model, max_tokens=2, messages=QUESTION)
    assert cut.stop_reason == "max_tokens", cut

    with api.messages.stream(model=model, max_tokens=100, messages=QUESTION) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == ANSWER and final.content[0].text == ANSWER, final
    assert final.stop_reason == "end_turn", final
    assert final.usage.output_tokens == whole.usage.output_tokens, final

    name = model.split("/", 1)[1]
    assert name in [listed.id for listed in api.models.list()], name
    assert api.models.retrieve(name).display_name == name

    counted = api.messages.count_tokens(model=model, messages=QUESTION)
    assert counted.input_tokens > 0, counted


def tools(api: anthropic.Anthropic, model: str) -> None:
    ask = [{"role": "user", "content": "use a tool: Köln"}]
    choice = {"type": "tool", "name": TOOL["name"]}
    used = api.messages.create(model=model, max_tokens=100, messages=ask, tools=[TOOL], tool_choice=choice)
    assert used.stop_reason == "tool_use", used
    use = used.content[-1]
    assert use.name == "weather" and use.input["text"] == "use a tool: Köln", use

    with api.messages.stream(
        model=model, max_tokens=100, messages=ask, tools=[TOOL], tool_choice=choice
    ) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[-1].input == use.input, streamed
    assert streamed.stop_reason == "tool_use", streamed

    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    told = api.messages.create(
        model=model,
        max_tokens=100,
        tools=[TOOL],
        messages=[
            *ask,
            {"role": "assistant", "content": [block.model_dump(include={"type", "text", "id", "name", "input"}) for block in used.content]},
            {"role": "user", "content": [result]},
        ],
    )
    assert told.stop_reason == "end_turn", told


def structures(api: anthropic.Anthropic, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "numbers": {"type": "array", "items": {"type": "integer"}}},
        "required": ["text", "numbers"],
        "additionalProperties": False,
    }
    output_config = {"format": {"type": "json_schema", "schema": schema}}
    answer = api.messages.create(model=model, max_tokens=100, messages=QUESTION, output_config=output_config)
    assert json.loads(answer.content[0].text) == {"text": QUESTION[0]["content"], "numbers": [1, 2]}, answer


def sees(api: anthropic.Anthropic, model: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    content = [{"type": "text", "text": "look"}, {"type": "image", "source": source}]
    asking = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": content}]}
    if model.startswith("ernie_classic/"):
        # The one that knows texts alone says so.
        expect(anthropic.BadRequestError, "invalid_request_error", lambda: api.messages.create(**asking))
        return
    seen = api.messages.create(**asking)
    assert seen.content[0].text == "You said: look (1 pictures)", seen


def errors(base_url: str, api: anthropic.Anthropic, model: str) -> None:
    def ask(**more):
        return lambda: api.messages.create(**{"model": model, "max_tokens": 9, "messages": QUESTION, **more})

    provider = model.split("/")[0]
    expect(anthropic.NotFoundError, "not_found_error", ask(model=f"{provider}/claude-9"))
    expect(anthropic.BadRequestError, "invalid_request_error", ask(extra_body={"temperature": 3.0}))
    expect(anthropic.BadRequestError, "invalid_request_error", ask(messages=[]))
    wrong_key = client(base_url, "wrong-key-0123456789")
    expect(
        anthropic.AuthenticationError,
        "authentication_error",
        lambda: wrong_key.messages.create(model=model, max_tokens=9, messages=QUESTION),
    )


def main() -> None:
    base_url, key, *models = sys.argv[1:]
    api = client(base_url, key)
    for model in models:
        answers(api, model)
        tools(api, model)
        structures(api, model)
        sees(api, model)
        errors(base_url, api, model)
    print("ok")


main()
