//! Which headers cross the gateway. Both directions go by allow-list: the caller's credentials
//! are not the provider's business, nor the provider's rate limits and cookies the caller's.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use tidegate_core::provider::Format;
use tidegate_core::route::Protocol;

/// Headers that OpenAI's own deployments use to say what happened.
const OPENAI_PREFIX: &str = "openai-";

/// Version of Anthropic's API that the gateway itself speaks.
const ANTHROPIC_VERSION_VALUE: HeaderValue = HeaderValue::from_static("2023-06-01");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const OPENAI_BETA: HeaderName = HeaderName::from_static("openai-beta");

/// Request headers passed on to any provider.
const REQUEST: [HeaderName; 5] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-client-request-id"),
    HeaderName::from_static("x-request-id"),
];

/// Response headers passed back, besides those under [`OPENAI_PREFIX`].
const RESPONSE: [HeaderName; 5] = [
    CONTENT_TYPE,
    RETRY_AFTER,
    HeaderName::from_static("request-id"),
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
];

/// Adds what of the caller's request a provider may see. What a protocol has of its own passes
/// only to a provider of the same protocol.
pub fn forward_request(caller: Protocol, provider: Format, from: &HeaderMap, to: &mut HeaderMap) {
    let own: &[HeaderName] = match (caller, provider) {
        (Protocol::OpenAi, Format::OpenAi) => &[OPENAI_BETA],
        (Protocol::Anthropic, Format::Anthropic) => &[ANTHROPIC_VERSION, ANTHROPIC_BETA],
        _ => &[],
    };
    for name in REQUEST.iter().chain(own) {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
    if provider == Format::Anthropic {
        to.entry(ANTHROPIC_VERSION).or_insert(ANTHROPIC_VERSION_VALUE);
    }
}

/// Adds what of a provider's answer the caller may see. Of `cache-control` only `no-store` is
/// kept: the rest is about HTTP caches, that much also binds ours.
pub fn forward_response(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if RESPONSE.contains(name) || name.as_str().starts_with(OPENAI_PREFIX) {
            to.insert(name, value.clone());
        }
    }
    if from.get_all(CACHE_CONTROL).iter().any(forbids_storing) {
        to.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn forbids_storing(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|v| v.split(',').any(|d| d.trim().eq_ignore_ascii_case("no-store")))
}

/// The `content-type` of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether `content-type` is `essence`, whatever its parameters.
#[must_use]
pub fn is_type(headers: &HeaderMap, essence: &str) -> bool {
    headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(essence))
    })
}

/// Whether a body with these headers is a stream of events.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    is_type(headers, EVENT_STREAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn no_credential_and_nothing_of_ours_reaches_a_provider() {
        let mut to = HeaderMap::new();
        let from = map(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("api-key", "client"),
            ("cookie", "a=b"),
            ("x-tidegate-proxied", "token"),
            ("x-tidegate-identity", "who"),
            ("x-gateway-provider", "p"),
            ("host", "gateway"),
            ("accept-encoding", "gzip"),
            ("x-request-id", "r1"),
            ("traceparent", "00-1"),
        ]);
        forward_request(Protocol::OpenAi, Format::OpenAi, &from, &mut to);
        assert_eq!(to, map(&[("x-request-id", "r1"), ("traceparent", "00-1")]));
    }

    #[test]
    fn what_a_protocol_has_of_its_own_stays_with_it() {
        let from = map(&[
            ("anthropic-beta", "b"),
            ("anthropic-version", "2024-01-01"),
            ("openai-beta", "o"),
            ("x-api-key", "client"),
        ]);
        let forwarded = |caller, provider| {
            let mut to = HeaderMap::new();
            forward_request(caller, provider, &from, &mut to);
            to
        };
        let (openai, anthropic) = (Protocol::OpenAi, Protocol::Anthropic);
        assert_eq!(forwarded(openai, Format::OpenAi), map(&[("openai-beta", "o")]));
        assert_eq!(forwarded(anthropic, Format::OpenAi), HeaderMap::new());
        assert_eq!(forwarded(openai, Format::Anthropic), map(&[("anthropic-version", "2023-06-01")]));
        let own = map(&[("anthropic-version", "2024-01-01"), ("anthropic-beta", "b")]);
        assert_eq!(forwarded(anthropic, Format::Anthropic), own);
    }

    #[test]
    fn hop_by_hop_limits_and_cookies_stay_behind() {
        let mut to = HeaderMap::new();
        let from = map(&[
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("set-cookie", "a=b"),
            ("x-ratelimit-remaining-requests", "1"),
            ("x-gateway-cache", "hit"),
            ("openai-processing-ms", "12"),
            ("content-type", "application/json"),
            ("cache-control", "private, No-Store"),
        ]);
        forward_response(&from, &mut to);
        let expected = map(&[
            ("openai-processing-ms", "12"),
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
        ]);
        assert_eq!(to, expected);
    }

    #[test]
    fn a_content_type_is_compared_without_its_parameters() {
        assert!(is_type(&map(&[("content-type", "Text/Event-Stream; charset=utf-8")]), "text/event-stream"));
        assert!(!is_type(&map(&[("content-type", "text/event-streams")]), "text/event-stream"));
        assert!(!is_type(&HeaderMap::new(), "text/event-stream"));
    }
}
