"""The official `openai` client against providers of any kind behind a gateway.

usage: openai_providers.py BASE_URL KEY EMULATOR MODEL...

EMULATOR is where the emulated providers are told to fail. Exits with 0 and prints `ok` when
everything holds for every model; an assertion says what did not.
"""

import json
import sys
import urllib.request

import openai
import pydantic

SAID = "hello from python"
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


class Reply(pydantic.BaseModel):
    text: str
    numbers: list[int]


TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells the weather.", "parameters": Reply.model_json_schema()},
}


def user(content) -> dict:
    return {"role": "user", "content": content}


def chats(api: openai.OpenAI, model: str) -> None:
    messages = [{"role": "developer", "content": "Repeat."}, user(SAID)]
    whole = api.chat.completions.create(model=model, messages=messages, max_tokens=100)
    assert whole.choices[0].message.content == f"You said: {SAID}", whole
    assert whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 0, whole

    stream = api.chat.completions.create(
        model=model, messages=messages, max_tokens=100, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == f"You said: {SAID}", said
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens, chunks[-1]


def uses_tools(api: openai.OpenAI, model: str) -> None:
    messages = [user("use a tool: Köln")]
    with api.chat.completions.stream(model=model, messages=messages, tools=[TOOL]) as stream:
        used = stream.get_final_completion().choices[0]
    assert used.finish_reason == "tool_calls", used
    call = used.message.tool_calls[0]
    assert call.function.name == "weather", call
    assert json.loads(call.function.arguments)["text"] == "use a tool: Köln", call
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump(include={"id": True, "type": True, "function": {"name", "arguments"}})]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    told = api.chat.completions.create(model=model, messages=messages, tools=[TOOL])
    assert told.choices[0].message.content == "You said: rain", told


def structures(api: openai.OpenAI, model: str) -> None:
    parsed = api.chat.completions.parse(model=model, messages=[user(SAID)], response_format=Reply)
    assert parsed.choices[0].message.parsed == Reply(text=SAID, numbers=[1, 2]), parsed


def sees(api: openai.OpenAI, model: str) -> None:
    url = f"data:image/png;base64,{PICTURE}"
    content = [{"type": "text", "text": SAID}, {"type": "image_url", "image_url": {"url": url}}]
    try:
        seen = api.chat.completions.create(model=model, messages=[user(content)])
    except openai.BadRequestError as error:
        # The one that knows texts alone says so.
        assert model.startswith("ernie_classic/") and error.param == "messages", error
    else:
        assert seen.choices[0].message.content == f"You said: {SAID} (1 pictures)", seen


def responds(api: openai.OpenAI, model: str) -> None:
    first = api.responses.create(model=model, input=SAID)
    assert first.output_text == f"You said: {SAID}", first
    with api.responses.stream(model=model, input="and now?", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    assert second.output_text == "You said: and now?" and second.status == "completed", second


def fails(api: openai.OpenAI, model: str, emulator: str) -> None:
    provider = model.split("/")[0]
    for wrong, expected in [
        ({"temperature": 3}, openai.BadRequestError),
        ({"model": f"{provider}/gpt-9"}, openai.NotFoundError),
    ]:
        try:
            api.chat.completions.create(**{"model": model, "messages": [user(SAID)], **wrong})
        except expected as error:
            assert error.request_id and error.body["message"], error.body
        else:
            raise AssertionError(f"{wrong} was not refused")

    # A failure that passes: the client tries again, as soon as it is told to.
    fault = {"status": 503, "headers": {"retry-after-ms": "1"}, "times": 1, "match": {"contains": "try again"}}
    request = urllib.request.Request(f"{emulator}/__faults", json.dumps(fault).encode(), method="POST")
    urllib.request.urlopen(request).close()
    retrying = api.with_options(max_retries=1)
    raw = retrying.chat.completions.with_raw_response.create(model=model, messages=[user("try again")])
    assert raw.retries_taken == 1, raw
    assert raw.parse().choices[0].message.content == "You said: try again"


def main() -> None:
    base_url, key, emulator, *models = sys.argv[1:]
    api = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=30)
    for model in models:
        for part in (chats, uses_tools, structures, sees, responds):
            try:
                part(api, model)
            except Exception as error:
                raise AssertionError(f"{part.__name__} on {model}") from error
        fails(api, model, emulator)
    print("ok")


main()
