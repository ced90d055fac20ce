//! `security`: TLS towards clients, and the headers that Envoy adds to answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::server::Server;
use super::tls::{self, Tls};
use super::value::Switch;
use super::{Check, Problems};

/// Most headers that may be added to every answer.
const HEADERS_MAX: usize = 32;
/// Longest value of such a header, in bytes.
const HEADER_BYTES_MAX: usize = 4096;
/// What `headers: true` adds: the part of the OWASP Secure Headers Project's list that suits an API.
const HEADERS: [(&str, &str); 3] =
    [("referrer-policy", "no-referrer"), ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")];
/// What it adds besides where the gateway speaks TLS (RFC 6797): no other way for a year.
const TLS_HEADER: (&str, &str) = ("strict-transport-security", "max-age=31536000");
/// Headers that say how an answer is framed, or that are the gateway's own.
const FORBIDDEN: [&str; 5] =
    ["connection", "content-encoding", "content-length", "content-type", "transfer-encoding"];

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    headers: Option<Switch<BTreeMap<String, HeaderValue>>>,
    tls: Option<tls::Document>,
}

/// A value, or `false` for one of the usual headers that is not wanted.
#[derive(Debug)]
enum HeaderValue {
    Text(String),
    Left,
}

struct HeaderVisitor;

impl Visitor<'_> for HeaderVisitor {
    type Value = HeaderValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the header's value as text, or false to leave it out")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<HeaderValue, E> {
        Ok(HeaderValue::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<HeaderValue, E> {
        if value {
            Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self))
        } else {
            Ok(HeaderValue::Left)
        }
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Headers for every answer that has none of that name, by name.
    pub headers: BTreeMap<String, String>,
    /// TLS, if the gateway speaks it.
    pub tls: Option<Tls>,
}

/// Checks the section.
pub fn validate(document: Document, server: &Server, check: &mut Check<'_>) -> Security {
    let Document { headers, tls } = document;
    let has_tls = tls.is_some();
    let tls = tls.and_then(|document| tls::validate(document, server, check));
    let headers = match headers {
        None | Some(Switch::Off) => BTreeMap::new(),
        Some(Switch::On) => usual(has_tls),
        Some(Switch::With(written)) => laid_over(usual(has_tls), written, &mut check.problems),
    };
    Security { headers, tls }
}

/// What `headers: true` adds.
fn usual(has_tls: bool) -> BTreeMap<String, String> {
    let over_tls = has_tls.then_some(TLS_HEADER);
    let all = HEADERS.into_iter().chain(over_tls);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn laid_over(
    mut headers: BTreeMap<String, String>,
    written: BTreeMap<String, HeaderValue>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    if written.len() > HEADERS_MAX {
        let what = format!("has {} headers; at most {HEADERS_MAX} are allowed", written.len());
        problems.add("security.headers", what);
    }
    for (name, value) in written.into_iter().take(HEADERS_MAX) {
        let path = format!("security.headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_free(&lower) {
            problems.add(path, "is not a header that may be added; take one such as permissions-policy");
            continue;
        }
        match value {
            HeaderValue::Left => {
                headers.remove(&lower);
            }
            HeaderValue::Text(text) if is_value(&text) => {
                headers.insert(lower, text);
            }
            HeaderValue::Text(_) => {
                let what = format!("must be 1 to {HEADER_BYTES_MAX} visible ASCII characters and spaces");
                problems.add(path, what);
            }
        }
    }
    headers
}

/// A header's name (RFC 9110, 5.1, without what few servers take) that the gateway leaves to others.
fn is_free(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let own = ["x-tidegate-", "x-gateway-", "x-ratelimit-"].iter().any(|prefix| name.starts_with(prefix));
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !own && !FORBIDDEN.contains(&name)
}

fn is_value(text: &str) -> bool {
    let visible = |b: u8| b.is_ascii_graphic() || b == b' ';
    (1..=HEADER_BYTES_MAX).contains(&text.len()) && text.bytes().all(visible)
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};

    fn headers(yaml: &str) -> Vec<(String, String)> {
        let config = parse(yaml, &Env::new()).unwrap_or_else(|problems| panic!("{problems}"));
        config.security.headers.into_iter().collect()
    }

    #[test]
    fn headers_are_off_usual_or_ones_own() {
        assert!(headers("").is_empty() && headers("security: {headers: false}").is_empty());
        let usual = headers("security: {headers: true}");
        assert_eq!(usual.len(), 3);
        assert!(usual.contains(&("x-content-type-options".to_owned(), "nosniff".to_owned())));
        let own = "security: {headers: {X-Frame-Options: false, permissions-policy: camera=()}}";
        let names: Vec<String> = headers(own).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["permissions-policy", "referrer-policy", "x-content-type-options"]);
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        for (yaml, words) in [
            ("security: {headers: 1}", "security.headers: invalid type: integer `1`, expected true, false"),
            (
                "security: {headers: {content-length: '1'}}",
                "security.headers.content-length: is not a header",
            ),
            ("security: {headers: {x-tidegate-a: '1'}}", "security.headers.x-tidegate-a: is not a header"),
            ("security: {headers: {x-a: true}}", "or false to leave it out"),
            ("security: {headers: {x-a: \"b\\nc\"}}", "security.headers.x-a: must be 1 to 4096 visible"),
            ("security: {header: true}", "security.header: unknown field"),
        ] {
            let problems = parse(yaml, &Env::new()).expect_err(yaml).to_string();
            assert!(problems.contains(words), "{yaml}: {problems}");
        }
    }
}
