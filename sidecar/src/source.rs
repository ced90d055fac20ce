//! Where a request comes from.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;

use crate::attempts::Place;
use crate::headers::PROXIED;
use crate::identity::carries;
use crate::secret::Secret;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that connected to Envoy, or none for requests that did not come through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(Option<IpAddr>);

impl Source {
    /// Envoy adds the address of its peer last; what clients write stands before it. Without
    /// Envoy's secret nothing is believed.
    #[must_use]
    pub fn of(headers: &HeaderMap, token: &Secret) -> Self {
        if !carries(headers, &PROXIED, token) {
            return Self(None);
        }
        let last = headers.get_all(FORWARDED_FOR).into_iter().next_back();
        let text = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        Self(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Where its attempts are counted.
    #[must_use]
    pub fn place(&self) -> Place {
        self.0.map_or(Place::Unknown, |address| Place::of(&address.to_string()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("direct"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_envoy_added_is_believed() {
        let token = Secret::new("0123456789abcdef");
        let source = |forwarded: &'static str, secret: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
            headers.append(FORWARDED_FOR, HeaderValue::from_static(forwarded));
            headers.insert(PROXIED, HeaderValue::from_static(secret));
            Source::of(&headers, &token).to_string()
        };
        assert_eq!(source("198.51.100.1, 192.0.2.7", "0123456789abcdef"), "192.0.2.7");
        assert_eq!(source("2001:db8::1", "0123456789abcdef"), "2001:db8::1");
        assert_eq!(source("nonsense", "0123456789abcdef"), "direct");
        assert_eq!(source("192.0.2.7", "guess"), "direct");
    }
}
