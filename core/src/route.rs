//! What a request path is for. Both halves ask the same table, so that a path can never be
//! public on one side of the wire and protected on the other.

/// An LLM API operation that the gateway understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI chat completions.
    ChatCompletions,
    /// OpenAI (legacy) completions.
    Completions,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages and token counting.
    Messages,
    /// Model list and model look-up.
    Models,
}

impl Endpoint {
    /// Bounded label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Models => "models",
        }
    }

    /// The protocol a caller of this endpoint speaks, errors included.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Messages => Protocol::Anthropic,
            _ => Protocol::OpenAi,
        }
    }
}

/// The dialect in which a caller expects its answers and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
}

/// Who may use a path, and who answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// The filter-sidecar contract; never reachable through the gateway.
    Internal,
    /// Health, readiness, login, dashboard shell: no credential asked.
    Public,
    /// Needs a key with role admin or operator.
    Admin,
    /// An LLM API call.
    Llm(Endpoint),
    /// One of the operator's own Envoy routes.
    Other,
}

impl RouteClass {
    /// Bounded label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Public => "public",
            Self::Admin => "admin",
            Self::Llm(_) => "llm",
            Self::Other => "other",
        }
    }

    /// The protocol in which this path's errors are written.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Llm(endpoint) => endpoint.protocol(),
            _ => Protocol::OpenAi,
        }
    }
}

/// First path segments (or longer prefixes) answered by the sidecar; `tidegate envoy` renders
/// one Envoy route for each.
pub const SIDECAR_PREFIXES: [&str; 12] = [
    "/v1",
    "/local",
    "/auth",
    "/admin",
    "/api/v1",
    "/health",
    "/ready",
    "/livez",
    "/readyz",
    "/metrics",
    "/dashboard",
    "/openapi.json",
];

const ADMIN_PREFIXES: [&str; 7] =
    ["/admin", "/v1/providers", "/v1/routing", "/v1/admin", "/v1/cache", "/api/v1", "/metrics"];

const PUBLIC_PREFIXES: [&str; 7] =
    ["/health", "/ready", "/livez", "/readyz", "/dashboard", "/openapi.json", "/auth"];

/// Classifies a request path; the query string is ignored.
///
/// A path under `/v1` or `/local` that is not a known operation is treated as `Llm(Models)`, which
/// authenticates, limits and lets the sidecar answer 404.
#[must_use]
pub fn classify(path: &str) -> RouteClass {
    let path = path.split_once(['?', '#']).map_or(path, |(p, _)| p);
    if under(path, "/internal") {
        return RouteClass::Internal;
    }
    if let Some(endpoint) = llm_endpoint(path) {
        return RouteClass::Llm(endpoint);
    }
    if ADMIN_PREFIXES.iter().any(|p| under(path, p)) {
        return RouteClass::Admin;
    }
    if PUBLIC_PREFIXES.iter().any(|p| under(path, p)) {
        return RouteClass::Public;
    }
    if under(path, "/v1") || under(path, "/local") {
        return RouteClass::Llm(Endpoint::Models);
    }
    RouteClass::Other
}

/// As [`classify`], where an OpenAI-compatible server of the operator's own answers below each of
/// `prefixes`; the longest that fits counts.
#[must_use]
pub fn classify_with(path: &str, prefixes: &[String]) -> RouteClass {
    let class = classify(path);
    if class != RouteClass::Other || prefixes.is_empty() {
        return class;
    }
    let path = path.split_once(['?', '#']).map_or(path, |(p, _)| p);
    let fitting = prefixes.iter().filter(|prefix| under(path, prefix)).max_by_key(|prefix| prefix.len());
    let rest = fitting.and_then(|prefix| path.get(prefix.len()..));
    rest.and_then(llm_endpoint).map_or(RouteClass::Other, RouteClass::Llm)
}

fn llm_endpoint(path: &str) -> Option<Endpoint> {
    let operation = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/local/"))?;
    Some(match operation {
        "chat/completions" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "messages" | "messages/count_tokens" => Endpoint::Messages,
        "models" => Endpoint::Models,
        _ if operation.starts_with("models/") => Endpoint::Models,
        _ if operation.starts_with("responses/") => Endpoint::Responses,
        _ => return None,
    })
}

/// `path` equals `prefix` or lies below it at a segment boundary.
fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_the_class_the_contract_gives_it() {
        for (path, class) in [
            ("/v1/chat/completions", RouteClass::Llm(Endpoint::ChatCompletions)),
            ("/v1/chat/completions?x=/internal", RouteClass::Llm(Endpoint::ChatCompletions)),
            ("/local/completions", RouteClass::Llm(Endpoint::Completions)),
            ("/v1/models/gpt-4o", RouteClass::Llm(Endpoint::Models)),
            ("/v1/messages/count_tokens", RouteClass::Llm(Endpoint::Messages)),
            ("/v1/nonsense", RouteClass::Llm(Endpoint::Models)),
            ("/internal/v1/snapshot", RouteClass::Internal),
            ("/internal", RouteClass::Internal),
            ("/internals", RouteClass::Other),
            ("/admin/keys", RouteClass::Admin),
            ("/administrator", RouteClass::Other),
            ("/v1/providers/", RouteClass::Admin),
            ("/v1/providers/x/health", RouteClass::Admin),
            ("/v1/admin/status", RouteClass::Admin),
            ("/api/v1/monitoring/x", RouteClass::Admin),
            ("/api/test", RouteClass::Other),
            ("/metrics", RouteClass::Admin),
            ("/health/live", RouteClass::Public),
            ("/ready", RouteClass::Public),
            ("/auth/login", RouteClass::Public),
            ("/", RouteClass::Other),
            ("", RouteClass::Other),
        ] {
            assert_eq!(classify(path), class, "{path}");
        }
    }

    #[test]
    fn below_an_operators_prefix_only_the_llm_api_is_known() {
        let prefixes = ["/vllm".to_owned(), "/vllm/two".to_owned()];
        for (path, class) in [
            ("/vllm/v1/chat/completions?x=1", RouteClass::Llm(Endpoint::ChatCompletions)),
            ("/vllm/two/v1/messages", RouteClass::Llm(Endpoint::Messages)),
            ("/vllm/v1/nonsense", RouteClass::Other),
            ("/vllm/admin/keys", RouteClass::Other),
            ("/vllm/health", RouteClass::Other),
            ("/vllms/v1/chat/completions", RouteClass::Other),
            ("/v1/chat/completions", RouteClass::Llm(Endpoint::ChatCompletions)),
            ("/internal/v1/lookup", RouteClass::Internal),
        ] {
            assert_eq!(classify_with(path, &prefixes), class, "{path}");
        }
    }

    #[test]
    fn whatever_is_not_the_operators_own_is_routed_to_the_sidecar() {
        for path in ["/v1/x", "/admin/x", "/api/v1/x", "/metrics", "/auth/login", "/readyz"] {
            assert_ne!(classify(path), RouteClass::Other);
            assert!(SIDECAR_PREFIXES.iter().any(|p| under(path, p)), "{path}");
        }
    }
}
