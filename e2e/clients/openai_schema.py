"""What the gateway says in OpenAI's words, against the types of the official `openai` package, which
are generated from OpenAI's API description: strictly, and without a field that they do not have.

usage: openai_schema.py GOLDEN BASE_URL KEY MODEL...

GOLDEN is the folder of golden files; their answers and chunks are checked, and then live ones from
each model. Exits with 0 and prints `ok`; an assertion says what does not fit.
"""

import json
import pathlib
import sys
import urllib.error
import urllib.request

import pydantic
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject

# What thinking models have and OpenAI's API has no field for, in the names of DeepSeek, LiteLLM and
# Google; `store`, which OpenAI sends without describing it; and what Azure's filters add, which passes.
EXTENSIONS = {"reasoning_content", "thinking_blocks", "extra_content", "store"}
EXTENSIONS |= {"prompt_filter_results", "content_filter_results", "content_filter_offsets"}
SAID = "hello schema"
TOOL = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def extras(value, path: str = "") -> list[str]:
    """Paths of fields that no type has."""
    if isinstance(value, pydantic.BaseModel):
        found = [f"{path}.{name}" for name in value.model_extra or {} if name not in EXTENSIONS]
        fields = type(value).model_fields
        return found + [extra for name in fields for extra in extras(getattr(value, name), f"{path}.{name}")]
    if isinstance(value, (list, tuple)):
        return [extra for index, item in enumerate(value) for extra in extras(item, f"{path}[{index}]")]
    return []


def fits(kind, document: dict, what: str):
    text = json.dumps(document)
    try:
        value = pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        raise AssertionError(f"{what}: {error}\n{text}") from None
    unknown = extras(value)
    assert not unknown, f"{what}: no field of OpenAI's: {unknown}\n{text}"
    return value


def failure(document: dict, what: str) -> None:
    fits(ErrorObject, document["error"], what)
    assert set(document) == {"error"}, f"{what}: {document}"


def event(name: str, document: dict, what: str) -> None:
    """One event of a stream of chunks of this kind."""
    if "error" in document and "type" not in document:
        failure(document, what)
    elif "prompt_filter_results" in document and not document["choices"]:
        pass  # Azure's first event is no chunk of OpenAI's, and passes as it is.
    elif name == "openai":
        fits(ChatCompletionChunk, document, what)
    elif name == "completions":
        # Described as never null, and null until the last chunk from OpenAI itself.
        for choice in document["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        fits(Completion, document, what)
    else:
        fits(ResponseStreamEvent, document, what)


def events(text: str) -> list[dict]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def golden(root: pathlib.Path) -> None:
    kinds = {"openai": ChatCompletion, "completions": Completion, "responses": Response}
    checked = 0
    for path in sorted(root.glob("answers/*/*.json")):
        kind = kinds.get(path.parent.name.split("-to-")[1])
        document = json.loads(path.read_text())
        if kind and "out" in document:
            fits(kind, document["out"], str(path))
            checked += 1
    for path in sorted(root.glob("streams/*/*.out.sse")):
        name = path.parent.name.split("-to-")[1]
        for document in events(path.read_text()) if name in kinds else []:
            event(name, document, str(path))
            checked += 1
    assert checked > 100, checked


class Api:
    def __init__(self, base_url: str, key: str) -> None:
        self.base_url, self.key = base_url, key

    def send(self, path: str, body: dict | None = None) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base_url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def whole(self, kind, path: str, body: dict) -> None:
        status, text = self.send(path, body)
        assert status == 200, (path, body, status, text)
        fits(kind, json.loads(text), f"{path} {body}")

    def stream(self, name: str, path: str, body: dict) -> None:
        status, text = self.send(path, {**body, "stream": True})
        assert status == 200, (path, body, status, text)
        for document in events(text):
            event(name, document, f"{path} {body}")


def live(api: Api, model: str) -> None:
    messages = [{"role": "user", "content": SAID}]
    tool = {"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": TOOL}}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": TOOL}}
    for more in [
        {},
        {"n": 2},
        {"messages": [{"role": "user", "content": "use a tool"}], "tools": [tool]},
        {"response_format": schema},
        {"max_tokens": 2},
        {"stream_options": {"include_usage": True}},
    ]:
        body = {"model": model, "messages": messages, "max_tokens": 100, **more}
        if "stream_options" not in more:
            api.whole(ChatCompletion, "/chat/completions", body)
        api.stream("openai", "/chat/completions", body)
    answer = {"model": model, "input": SAID}
    respond = {"type": "function", "name": "weather", "description": "Tells.", "parameters": TOOL}
    for more in [{}, {"input": "use a tool", "tools": [respond]}, {"max_output_tokens": 2}]:
        api.whole(Response, "/responses", {**answer, **more})
        api.stream("responses", "/responses", {**answer, **more})
    provider = model.split("/")[0]
    if provider not in ("openai", "azure"):
        api.whole(Completion, "/completions", {"model": model, "prompt": SAID, "max_tokens": 100})
        api.stream("completions", "/completions", {"model": model, "prompt": SAID, "max_tokens": 100})
    for wrong in [{"temperature": 3}, {"model": f"{provider}/none"}, {"messages": []}]:
        status, text = api.send("/chat/completions", {"model": model, "messages": messages, **wrong})
        assert status in (400, 404), (status, text)
        failure(json.loads(text), f"{wrong} on {model}")


def main() -> None:
    root, base_url, key, *models = sys.argv[1:]
    golden(pathlib.Path(root))
    api = Api(base_url, key)
    status, text = api.send("/models")
    assert status == 200, text
    for model in json.loads(text)["data"]:
        fits(Model, model, "/models")
    for model in models:
        live(api, model)
    api.whole(CreateEmbeddingResponse, "/embeddings", {"model": "gemini/gemini-embedding-001", "input": SAID})
    print("ok")


main()
