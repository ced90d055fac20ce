//! What is compared, as data.

use crate::http::Template;
use crate::peers::Peer;

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
    /// The Envoy configuration that `tidegate envoy` prints, without its filter.
    Settings,
    /// Our filter, with the provider as Envoy's own upstream.
    FilterOnly,
    /// The same, with a cache that stores every answer.
    StoreAll,
    /// The same with a limit at each of six levels.
    Limits,
    /// Our filter, then the sidecar, then the provider.
    Full(Link),
    /// Another gateway, without an Envoy.
    Peer(Peer),
}

/// How Envoy reaches the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// h2c over loopback TCP, the default.
    Tcp,
    /// h2c over a Unix socket.
    Socket,
    /// HTTP/1.1 over loopback TCP.
    Http1,
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
    /// A header that the client adds.
    pub(crate) header: Option<(&'static str, &'static str)>,
    /// A header line that proves that the case measures what it says.
    pub(crate) expected_line: Option<&'static str>,
}

/// Proof that a request was looked for in L1 and passed on.
const MISS: Option<&str> = Some("x-gateway-cache: miss");

const fn case(id: &'static str, title: &'static str, bed: Bed, expected_line: Option<&'static str>) -> Case {
    Case { id, title, bed, unique: true, header: None, expected_line }
}

/// All cases; the first is what the others are compared with, the last are run only when asked for.
pub(crate) const CASES: [Case; 14] = [
    case("bare", "bare Envoy", Bed::Bare, None),
    case("noop", "no-op filter", Bed::Noop, None),
    case("settings", "our Envoy settings, no filter", Bed::Settings, None),
    Case {
        header: Some(("cache-control", "no-store")),
        ..case("nostore", "filter only, cache passed by", Bed::FilterOnly, Some("x-gateway-cache: bypass"))
    },
    Case {
        header: Some(("cache-control", "no-store")),
        ..case("limits", "the same, six levels of limits", Bed::Limits, Some("x-gateway-cache: bypass"))
    },
    case("filter", "filter only, L1 miss", Bed::FilterOnly, MISS),
    case("store", "filter only, L1 miss, every answer stored", Bed::StoreAll, MISS),
    Case { unique: false, ..case("l1", "L1 hit", Bed::Full(Link::Tcp), Some("x-gateway-cache-layer: l1")) },
    case("full", "full path, L1 miss", Bed::Full(Link::Tcp), MISS),
    Case {
        header: Some(("cache-control", "no-store")),
        ..case("plain", "full path, cache passed by", Bed::Full(Link::Tcp), Some("x-gateway-cache: bypass"))
    },
    case("socket", "full path, Unix socket", Bed::Full(Link::Socket), MISS),
    case("http1", "full path, HTTP/1.1", Bed::Full(Link::Http1), MISS),
    case("litellm", "LiteLLM", Bed::Peer(Peer::LiteLlm), Some("x-litellm-model-group: gpt-4o-mini")),
    case("portkey", "Portkey", Bed::Peer(Peer::Portkey), Some("x-portkey-provider: openai")),
];

impl Case {
    /// Whether it needs programs that `make bench` does not install.
    pub(crate) const fn is_peer(&self) -> bool {
        matches!(self.bed, Bed::Peer(_))
    }

    /// Whether it is about answers that a full cache of young ones turns away.
    pub(crate) const fn fills_cache(&self) -> bool {
        self.unique && self.header.is_none() && matches!(self.bed, Bed::FilterOnly | Bed::Full(_))
    }

    /// What the client sends, with the headers that its bed asks for.
    pub(crate) fn template(&self, of_bed: &[(&'static str, String)]) -> Template {
        let body = if self.unique { UNIQUE_BODY } else { CONSTANT_BODY };
        let authorization = format!("Bearer {KEY}");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(self.header);
        headers.extend(of_bed.iter().map(|(name, value)| (*name, value.as_str())));
        Template::post("/v1/chat/completions", &headers, body)
    }
}
