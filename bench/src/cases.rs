//! What is compared, as data.

use crate::http::Template;

/// The key that the benchmark's client sends. The emulated provider accepts it too, so the same
/// request works with and without the gateway.
pub(crate) const KEY: &str = "sk-bench-0123456789abcdef0123456789abcdef";

/// Numbers of connections that are compared.
pub(crate) const CONNECTIONS: [usize; 2] = [1, 32];

/// The question; about as long as a short real one with a system prompt.
const UNIQUE_BODY: &str = r#"{"model":"gpt-4o-mini","temperature":0,"messages":[{"role":"system","content":"You are a careful assistant. Answer in one short paragraph, name your sources, and say so when you do not know."},{"role":"user","content":"Question @@@@@@@@@@@@: which rivers flow into the North Sea, and how long is each of them?"}]}"#;
const CONSTANT_BODY: &str = r#"{"model":"gpt-4o-mini","temperature":0,"messages":[{"role":"system","content":"You are a careful assistant. Answer in one short paragraph, name your sources, and say so when you do not know."},{"role":"user","content":"Question 000000000000: which rivers flow into the North Sea, and how long is each of them?"}]}"#;

/// What stands between the client and the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bed {
    /// Envoy as a plain proxy.
    Bare,
    /// The same Envoy with a wasm filter that does nothing.
    Noop,
    /// Our filter, with the provider as Envoy's own upstream.
    FilterOnly,
    /// Our filter, then the sidecar, then the provider.
    Full,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// Its name on the command line.
    pub(crate) id: &'static str,
    /// Its name in the table.
    pub(crate) title: &'static str,
    pub(crate) bed: Bed,
    /// Whether every request asks something new.
    pub(crate) unique: bool,
    /// A header line that proves that the case measures what it says.
    pub(crate) expected_line: Option<&'static str>,
}

/// All cases; the first is what the others are compared with.
pub(crate) const CASES: [Case; 5] = [
    Case {
        id: "bare",
        title: "bare Envoy",
        bed: Bed::Bare,
        unique: true,
        expected_line: None,
    },
    Case {
        id: "noop",
        title: "no-op filter",
        bed: Bed::Noop,
        unique: true,
        expected_line: None,
    },
    Case {
        id: "filter",
        title: "filter only, L1 miss",
        bed: Bed::FilterOnly,
        unique: true,
        expected_line: Some("x-gateway-cache: miss"),
    },
    Case {
        id: "l1",
        title: "L1 hit",
        bed: Bed::Full,
        unique: false,
        expected_line: Some("x-gateway-cache-layer: l1"),
    },
    Case {
        id: "full",
        title: "full path, L1 miss",
        bed: Bed::Full,
        unique: true,
        expected_line: Some("x-gateway-cache: miss"),
    },
];

impl Case {
    /// What the client sends.
    pub(crate) fn template(&self) -> Template {
        let body = if self.unique { UNIQUE_BODY } else { CONSTANT_BODY };
        let authorization = format!("Bearer {KEY}");
        Template::post("/v1/chat/completions", &[("authorization", &authorization)], body)
    }
}
