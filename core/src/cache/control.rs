//! `cache-control`, as far as a shared answer cache obeys it (RFC 9111, 5.2), and whether a
//! request is one whose answer may be reused at all.

use crate::chat::RequestView;
use crate::policy::L1Policy;

/// What a client's `cache-control` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestControl {
    /// A stored answer may be served.
    pub may_serve: bool,
    /// The answer may be stored.
    pub may_store: bool,
}

impl RequestControl {
    /// Everything is allowed: no such header.
    pub const FREE: Self = Self { may_serve: true, may_store: true };

    /// Reads the header's value: `no-store` passes the cache by, `no-cache` (and `max-age=0`)
    /// fetches a fresh answer, which may be stored.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let mut control = Self::FREE;
        for directive in directives(value) {
            if directive.eq_ignore_ascii_case(b"no-store") {
                control = Self { may_serve: false, may_store: false };
            } else if directive.eq_ignore_ascii_case(b"no-cache")
                || directive.eq_ignore_ascii_case(b"max-age=0")
            {
                control.may_serve = false;
            }
        }
        control
    }
}

/// Whether an answer's own `cache-control` lets a gateway store it.
#[must_use]
pub fn response_may_be_stored(value: &[u8]) -> bool {
    !directives(value)
        .any(|d| [&b"no-store"[..], b"private", b"no-cache"].iter().any(|w| d.eq_ignore_ascii_case(w)))
}

/// Whether the answer to this request may be reused for the next identical one.
#[must_use]
pub fn is_eligible(request: &RequestView<'_>, policy: &L1Policy) -> bool {
    policy.enabled
        && request.temperature.is_none_or(|t| t <= policy.temperature_max)
        && (policy.allow_tools || !request.has_tools)
}

fn directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::L1Admission;

    #[test]
    fn directives_are_read_in_any_case_and_place() {
        let control = |v: &str| {
            let c = RequestControl::parse(v.as_bytes());
            (c.may_serve, c.may_store)
        };
        assert_eq!(control("max-age=60"), (true, true));
        assert_eq!(control("max-age=60, No-Cache"), (false, true));
        assert_eq!(control("NO-STORE"), (false, false));
        assert_eq!(control("no-store,no-cache"), (false, false));
        assert_eq!(control("x-no-store"), (true, true));
        assert!(!response_may_be_stored(b"public, Private"));
        assert!(response_may_be_stored(b"max-age=3"));
    }

    #[test]
    fn hot_sampling_and_tools_are_not_cached_unless_allowed() {
        let policy = L1Policy {
            enabled: true,
            bytes_max: 1,
            ttl_ms: 1,
            temperature_max: 1.0,
            allow_tools: false,
            admission: L1Admission::Always,
            generation: 0,
        };
        let plain = RequestView::default();
        let hot = RequestView { temperature: Some(1.5), ..plain };
        let tools = RequestView { has_tools: true, ..RequestView::default() };
        assert!(is_eligible(&RequestView::default(), &policy));
        assert!(!is_eligible(&hot, &policy));
        assert!(!is_eligible(&tools, &policy));
        assert!(is_eligible(&tools, &L1Policy { allow_tools: true, ..policy }));
        assert!(!is_eligible(&RequestView::default(), &L1Policy { enabled: false, ..policy }));
    }
}
