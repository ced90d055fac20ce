//! A signed request: what of it the sidecar needs to check the signature, and the check of the
//! body, which only Envoy has.

use sha2::{Digest as _, Sha256};
use tidegate_core::reply::Reply;
use tidegate_core::wire::signature::{
    Authorization, CONTENT_SHA256, SIGNED_BYTES_MAX, SignatureFault, SignedRequest,
};

use crate::headers::HeaderMap;

/// What the headers of a signed request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The value of `authorization`.
    pub authorization: String,
    /// What was signed.
    pub request: SignedRequest,
}

impl Signed {
    /// Picks up the headers that `authorization` names; `None` if that is not well formed, or
    /// they are not text or too long.
    pub fn gather(authorization: &[u8], headers: HeaderMap<'_>) -> Option<Self> {
        let authorization = std::str::from_utf8(authorization).ok()?;
        let names = Authorization::parse(authorization)?.signed_headers;
        let mut request = SignedRequest { method: String::new(), target: String::new(), headers: Vec::new() };
        let mut bytes_left = SIGNED_BYTES_MAX;
        for (name, value) in headers.iter() {
            let name = std::str::from_utf8(name).ok()?;
            let text = || std::str::from_utf8(value).ok().map(str::to_owned);
            let name = match name {
                ":method" => {
                    request.method = text()?;
                    continue;
                }
                ":path" => {
                    request.target = text()?;
                    continue;
                }
                ":authority" => "host",
                name => name,
            };
            if names.binary_search(&name).is_ok() {
                bytes_left = bytes_left.checked_sub(value.len())?;
                request.headers.push((name.to_owned(), text()?));
            }
        }
        Some(Self { authorization: authorization.to_owned(), request })
    }

    /// Whether `body` is the one that was signed.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Reply> {
        let claimed = self.request.headers.iter().find(|(name, _)| name == CONTENT_SHA256);
        let digest = Sha256::digest(body);
        let fits = claimed.is_some_and(|(_, claimed)| is_hex_of(claimed.trim(), &digest));
        if fits { Ok(()) } else { Err(SignatureFault::Body.reply()) }
    }
}

fn is_hex_of(text: &str, bytes: &[u8]) -> bool {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = digits.map(|digit| char::from_digit(u32::from(digit), 16));
    hex.eq(text.chars().map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_compared_whole() {
        assert!(is_hex_of("00ff", &[0, 255]));
        for other in ["00fe", "00f", "00ff0", "00FF", ""] {
            assert!(!is_hex_of(other, &[0, 255]), "{other}");
        }
    }
}
