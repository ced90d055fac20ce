//! What the bodies of the gateway's own operations may have in them. Those that take exactly these fields are checked
//! against what the handlers read, in `tests/control_plane.rs`.

use serde_json::{Map, Value, json};

/// A field's type.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Whole,
    Flag,
    Texts,
    Object,
    Objects,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// Name, type, whether it has to be there, and what it says.
type Field = (&'static str, Kind, bool, &'static str);

/// A body: whether it may have other fields too, and those that are described.
struct Body {
    open: bool,
    fields: &'static [Field],
}

const fn exactly(fields: &'static [Field]) -> Body {
    Body { open: false, fields }
}

const fn at_least(fields: &'static [Field]) -> Body {
    Body { open: true, fields }
}

const KEY: &[Field] = &[
    ("name", Kind::Text, true, "1 to 64 of A-Z a-z 0-9 . _ -"),
    ("tenant", Kind::Text, true, "Whose key it is"),
    ("role", Kind::Word(&["user", "operator", "admin"]), false, "user unless given"),
    ("expires_at", Kind::Whole, false, "Seconds since 1970"),
    ("allowed_models", Kind::Texts, false, "All unless given"),
];
const ROTATION: &[Field] = &[("grace_s", Kind::Whole, false, "How long the old secret is good, in seconds")];
const LIMITS: &[Field] = &[
    ("default_rate", Kind::Number, false, "Requests per second of each tenant"),
    ("max_rate", Kind::Number, false, "Requests per second of all tenants together"),
    ("burst", Kind::Whole, false, "Requests that a tenant may send at once"),
    ("rules", Kind::Objects, false, "As limiter.rules of the configuration"),
    ("budgets", Kind::Objects, false, "As limiter.budgets of the configuration"),
    ("weights", Kind::Object, false, "By tenant, as limiter.weights of the configuration"),
];
const DESCRIBED: &[Field] = &[
    ("tenant", Kind::Text, true, "Tenant"),
    ("key", Kind::Text, false, "Id of the key or user"),
    ("ip", Kind::Text, false, "Client's address"),
    ("route", Kind::Text, false, "Operation or upstream"),
    ("model", Kind::Text, false, "Model"),
    ("tokens", Kind::Whole, false, "Tokens it would use"),
];
const POLICY: &[Field] = &[
    ("pinned", Kind::Flag, false, "Keep it as it is"),
    ("silenced", Kind::Flag, false, "Do not carry it out, and do not propose it again"),
    ("mode", Kind::Word(&["enforce", "shadow"]), false, "Whether it is carried out"),
    ("scope", Kind::Object, false, "The slice, by attribute"),
    ("action", Kind::Text, false, "What is done: break, limit, ..."),
    ("rate", Kind::Number, false, "Requests per second of a limit"),
    ("recovery_timeout_ms", Kind::Whole, false, "How long a broken slice is left alone, in milliseconds"),
    ("ttl_ms", Kind::Whole, false, "How long it lives, in milliseconds"),
    ("sentence", Kind::Text, false, "What refused callers read"),
    ("retry", Kind::Flag, false, "Whether they are told that trying again can help"),
];
const PURGE: &[Field] = &[
    ("tenant", Kind::Text, false, "Answers of this tenant"),
    ("model", Kind::Text, false, "Answers of this model"),
    ("prefix", Kind::Text, false, "Answers to prompts that begin so"),
    ("older_than", Kind::Text, false, "Answers older than a duration such as 30m"),
    ("entry", Kind::Text, false, "One answer, by its x-gateway-cache-entry"),
    ("all", Kind::Flag, false, "Everything"),
];
const TRIED: &[Field] = &[
    ("message", Kind::Text, true, "An error's body or its text"),
    ("provider", Kind::Text, false, "The provider it came from"),
    ("status", Kind::Whole, false, "The status it came with"),
    ("learn", Kind::Flag, false, "Whether it is learnt, as if it had happened"),
];
const PROVIDER: &[Field] = &[
    ("name", Kind::Text, false, "Its name; in the path where there is one"),
    ("type", Kind::Text, false, "openai, anthropic, ...; docs/providers.md lists all"),
    ("base_url", Kind::Text, false, "Where it is; known types have a default"),
    ("api_key", Kind::Text, false, "Its key; never shown again"),
    ("weight", Kind::Whole, false, "Share of the traffic"),
    ("enabled", Kind::Flag, false, "Whether it takes requests"),
    ("models", Kind::Texts, false, "What it serves"),
    ("price", Kind::Object, false, "US dollars per million tokens: input, output, cached_input"),
    ("timeout", Kind::Text, false, "A duration such as 60s"),
];
const ROUTING: &[Field] = &[
    ("strategy", Kind::Text, false, "least_latency, ...; docs/routing.md lists all"),
    ("enabled", Kind::Flag, false, "Whether other providers are tried"),
    ("fallbacks", Kind::Objects, false, "Who is asked when everybody before has failed"),
];
const CHAT: &[Field] =
    &[("model", Kind::Text, true, "The model"), ("messages", Kind::Objects, true, "The conversation")];
const PROMPT: &[Field] =
    &[("model", Kind::Text, true, "The model"), ("prompt", Kind::Text, true, "What is to be continued")];
const EMBEDDINGS: &[Field] =
    &[("model", Kind::Text, true, "The model"), ("input", Kind::Texts, true, "One text or several")];
const RESPONSE: &[Field] = &[("model", Kind::Text, true, "The model")];
const LOGIN: &[Field] =
    &[("username", Kind::Text, true, "The user"), ("password", Kind::Text, true, "The password")];
const REFRESH: &[Field] = &[("refresh_token", Kind::Text, true, "Good once")];
const FEEDBACK: &[Field] = &[("entry", Kind::Text, true, "x-gateway-cache-entry of the wrong answer")];

/// The schema of an operation's body.
pub(super) fn schema(method: &str, path: &str) -> Value {
    let Body { open, fields } = body(method, path);
    let mut properties = Map::new();
    for (name, kind, _, what) in fields {
        let mut property = of_kind(*kind);
        property["description"] = json!(what);
        properties.insert((*name).to_owned(), property);
    }
    let required: Vec<&str> = fields.iter().filter(|field| field.2).map(|field| field.0).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": open})
}

fn body(method: &str, path: &str) -> Body {
    match (method, path) {
        ("post", "/admin/keys") => exactly(KEY),
        ("post", "/admin/keys/{id}/rotate") => exactly(ROTATION),
        ("put", "/admin/limits") => exactly(LIMITS),
        ("post", "/admin/limits/simulate") => exactly(DESCRIBED),
        ("put", "/admin/policies/{id}") => exactly(POLICY),
        ("post", "/admin/cache/purge") => exactly(PURGE),
        ("post", "/admin/clusters/classify") => at_least(TRIED),
        ("post", "/v1/cache/feedback") => exactly(FEEDBACK),
        ("post", "/auth/login") => exactly(LOGIN),
        ("post", "/auth/refresh") => exactly(REFRESH),
        ("post", "/v1/providers") | ("put", "/v1/providers/{name}") => at_least(PROVIDER),
        ("put", "/v1/routing/config") => at_least(ROUTING),
        (_, "/v1/completions" | "/local/completions") => at_least(PROMPT),
        (_, "/v1/embeddings" | "/local/embeddings") => at_least(EMBEDDINGS),
        (_, "/v1/responses") => at_least(RESPONSE),
        _ => at_least(CHAT),
    }
}

fn of_kind(kind: Kind) -> Value {
    let list = |of: &str| json!({"type": "array", "items": {"type": of}});
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Whole => json!({"type": "integer", "minimum": 0}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Object => json!({"type": "object"}),
        Kind::Objects => list("object"),
        Kind::Texts => list("string"),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
    }
}
