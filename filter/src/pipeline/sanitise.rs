//! First stage: one pass over the headers takes out what is the gateway's own, and picks up what
//! the other stages need, so that no header is asked of the host twice.

use std::net::IpAddr;

use tidegate_core::address::{Network, client_of};
use tidegate_core::cache::control::RequestControl;
use tidegate_core::hash::hash;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::{RouteClass, classify_with};
use tidegate_core::wire::signature::Authorization;
use tidegate_core::wire::{CREDENTIAL_HEADERS, header};

use super::signed::Signed;
use crate::headers::HeaderMap;
use crate::ports::{EditHeaders, StreamInfo};

/// Longest client-chosen request id that is echoed, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Longest credential looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 8 << 10;

/// What a credential header held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// There was none.
    #[default]
    Absent,
    /// One, without its scheme.
    Present(Vec<u8>),
    /// A signature over this request.
    Signed(Box<Signed>),
    /// One that cannot be valid: an unknown scheme, empty, or too long.
    Malformed,
    /// More than one; which of them counts is not ours to guess.
    Several,
}

/// What the request's headers said.
#[derive(Debug)]
pub struct Head {
    /// Path without query.
    pub path: String,
    /// What the path is for.
    pub class: RouteClass,
    /// The method is POST.
    pub is_post: bool,
    /// The method, if it is one of those that are in use.
    pub method: &'static str,
    /// What the first of the region headers says.
    pub region: Vec<u8>,
    /// `content-length`, if it was given.
    pub content_length: Option<u64>,
    /// The one credential.
    pub credential: Credential,
    /// The client's address: what connected to Envoy, unless that is a trusted proxy.
    pub source: Option<IpAddr>,
    /// What the client's `cache-control` allows.
    pub control: RequestControl,
    /// `x-gateway-provider`.
    pub pin: Vec<u8>,
    /// The client's request id, or one made here.
    pub request_id: String,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            path: String::new(),
            class: RouteClass::Other,
            is_post: false,
            method: "",
            region: Vec::new(),
            content_length: None,
            credential: Credential::Absent,
            source: None,
            control: RequestControl::FREE,
            pin: Vec::new(),
            request_id: String::new(),
        }
    }
}

impl Head {
    /// Reads and cleans the headers.
    ///
    /// # Errors
    /// A path that is not text.
    pub fn sanitise(
        headers: HeaderMap<'_>,
        host: &(impl EditHeaders + StreamInfo),
        trusted: &[Network],
        region_headers: &[String],
        prefixes: &[String],
        now_ns: u64,
    ) -> Result<Self, Reply> {
        let mut head = Self::default();
        let mut region = region_headers.len();
        let mut path_is_text = true;
        // Asked for only where it matters: without trusted proxies Envoy's word is enough.
        let peer = if trusted.is_empty() { None } else { host.peer() };
        for (name, value) in headers.iter() {
            match name {
                b":path" => path_is_text = head.read_path(value, prefixes),
                b":method" => {
                    head.is_post = value == b"POST";
                    head.method = known_method(value);
                }
                b"content-length" => head.content_length = parse(value),
                b"cache-control" => head.control = RequestControl::parse(value),
                b"x-gateway-provider" => head.pin = value.to_vec(),
                b"x-forwarded-for" => head.source = client_of(value, peer, trusted),
                b"x-request-id" => head.read_request_id(value),
                name if CREDENTIAL_HEADERS.iter().any(|header| header.as_bytes() == name) => {
                    head.credential = match head.credential {
                        Credential::Absent if name == b"authorization" && Authorization::is_meant(value) => {
                            Signed::gather(value, headers)
                                .map_or(Credential::Malformed, |signed| Credential::Signed(Box::new(signed)))
                        }
                        Credential::Absent => Credential::read(name, value),
                        _ => Credential::Several,
                    };
                }
                _ => match region_headers.iter().position(|header| header.as_bytes() == name) {
                    Some(place) if place < region && !value.is_empty() => {
                        region = place;
                        head.region = value.to_vec();
                    }
                    _ => strip(name, host),
                },
            }
        }
        if head.request_id.is_empty() {
            head.make_request_id(headers, now_ns);
            host.set_request_header(header::REQUEST_ID, &head.request_id);
        }
        if !path_is_text {
            return Err(Reply::new(Code::InvalidHeader, "the path is not valid UTF-8"));
        }
        Ok(head)
    }

    fn read_path(&mut self, value: &[u8], prefixes: &[String]) -> bool {
        let Ok(text) = std::str::from_utf8(value) else {
            return false;
        };
        let path = text.split_once(['?', '#']).map_or(text, |(path, _)| path);
        self.class = classify_with(path, prefixes);
        path.clone_into(&mut self.path);
        true
    }

    fn read_request_id(&mut self, value: &[u8]) {
        let is_fit = |v: &str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic())
        };
        if let Ok(id) = std::str::from_utf8(value)
            && is_fit(id)
        {
            id.clone_into(&mut self.request_id);
        }
    }

    /// Envoy makes ids itself unless told not to; this is for those that were, and for ids that
    /// are not fit to be echoed. Unique enough to find a request in a log.
    fn make_request_id(&mut self, headers: HeaderMap<'_>, now_ns: u64) {
        let mut state = hash(&[self.path.as_bytes(), &now_ns.to_le_bytes()]);
        for (name, value) in headers.iter() {
            state = state.rotate_left(5) ^ hash(&[name, value]);
        }
        self.request_id = format!("tg-{state:016x}");
    }
}

impl Credential {
    fn read(name: &[u8], value: &[u8]) -> Self {
        let secret = if name == b"authorization" {
            match value.split_at_checked(7) {
                Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest.trim_ascii(),
                _ => return Self::Malformed,
            }
        } else {
            value.trim_ascii()
        };
        if secret.is_empty() || secret.len() > CREDENTIAL_BYTES_MAX || std::str::from_utf8(secret).is_err() {
            return Self::Malformed;
        }
        Self::Present(secret.to_vec())
    }
}

/// Whether a path asks if the gateway can take traffic.
#[must_use]
pub fn is_readiness(path: &str) -> bool {
    matches!(path, "/ready" | "/readyz" | "/health/ready")
}

/// Callers may invent methods; what is counted by has to be bounded.
fn known_method(value: &[u8]) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    METHODS.into_iter().find(|method| method.as_bytes() == value).unwrap_or("OTHER")
}

fn strip(name: &[u8], host: &impl EditHeaders) {
    if name.starts_with(header::PREFIX.as_bytes())
        && let Ok(name) = std::str::from_utf8(name)
    {
        host.remove_request_header(name);
    }
}

fn parse(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_one_form() {
        let present = |s: &str| Credential::Present(s.as_bytes().to_vec());
        assert_eq!(Credential::read(b"authorization", b"Bearer abc"), present("abc"));
        assert_eq!(Credential::read(b"authorization", b"bEARER  abc "), present("abc"));
        assert_eq!(Credential::read(b"x-api-key", b"abc"), present("abc"));
        for value in [&b"Basic abc"[..], b"abc", b"Bearer ", b"Bearer \xff"] {
            assert_eq!(Credential::read(b"authorization", value), Credential::Malformed);
        }
        assert_eq!(
            Credential::read(b"api-key", &vec![b'a'; CREDENTIAL_BYTES_MAX + 1]),
            Credential::Malformed
        );
    }
}
