//! The canonical request of "V3 request structure and signature method" (Alibaba Cloud's API
//! documentation), byte for byte what Alibaba's SDKs sign.

use tidegate_core::wire::signature::{CONTENT_SHA256, SignedRequest};

/// Most parameters of a query.
const PARAMETERS_MAX: usize = 256;

/// Method, path, query, headers, their names and the body's digest, a line each; `None` if a
/// signed header is not there.
pub fn request(request: &SignedRequest, signed_headers: &[&str]) -> Option<String> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut lines = format!("{}\n{path}\n{}\n", request.method, canonical_query(query)?);
    for name in signed_headers {
        let of_name = request.headers.iter().filter(|(n, _)| n == name);
        let mut values: Vec<&str> = of_name.map(|(_, value)| value.trim()).collect();
        if values.is_empty() {
            return None;
        }
        values.sort_unstable();
        lines.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let digest = request.headers.iter().find(|(name, _)| name == CONTENT_SHA256)?.1.trim();
    Some(format!("{lines}\n{}\n{digest}", signed_headers.join(";")))
}

/// Parameters sorted by name, each encoded as RFC 3986 says; `None` for too many, or for what is
/// no percent-encoding.
fn canonical_query(query: &str) -> Option<String> {
    let parts: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).collect();
    if parts.len() > PARAMETERS_MAX {
        return None;
    }
    let decoded = parts.into_iter().map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode(name)?, decode(value)?))
    });
    let mut parameters = decoded.collect::<Option<Vec<_>>>()?;
    parameters.sort();
    let encoded = parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    Some(encoded.collect::<Vec<_>>().join("&"))
}

/// A form's encoding: `+` is a space.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        out.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                *from_hex(std::str::from_utf8(digits).ok()?)?.first()?
            }
            other => *other,
        });
    }
    Some(out)
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Bytes from hexadecimal digits of either case.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    let digits = digits.collect::<Option<Vec<u8>>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_sorted_and_encoded_anew() {
        let canonical = |query: &str| canonical_query(query).expect(query);
        assert_eq!(canonical("b=two+words&a=%2a~%2F&A=1&flag&&e="), "A=1&a=%2A~%2F&b=two%20words&e=&flag=");
        assert_eq!(canonical("a=2&a=1"), "a=1&a=2");
        assert_eq!(canonical(""), "");
        for bad in ["a=%", "a=%1", "a=%zz", &"a&".repeat(PARAMETERS_MAX + 1)] {
            assert_eq!(canonical_query(bad), None, "{bad}");
        }
    }

    #[test]
    fn hexadecimal_has_pairs_of_digits() {
        assert_eq!(from_hex("00fF"), Some(vec![0, 255]));
        assert!(["0", "0g", "é1"].iter().all(|text| from_hex(text).is_none()));
    }
}
