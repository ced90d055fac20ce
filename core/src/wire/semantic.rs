//! What the filter asks and tells the semantic cache about LLM requests that do not pass the
//! sidecar. A body has two parts: a head as one line of JSON, and after it, byte for byte, what the
//! caller or the upstream sent; so nothing large is escaped.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest request body that is looked up, in bytes.
pub const CHAT_BYTES_MAX: usize = 256 << 10;
/// Largest head, in bytes; a client chooses path and pin.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// Head of [`super::path::LOOKUP`]; behind it is the chat's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupHead {
    /// The caller, as in [`super::header::IDENTITY`].
    pub identity: String,
    /// The request's path, without query.
    pub path: String,
    /// Name of the Envoy cluster it goes to: answers of one are never served for another.
    pub cluster: String,
    /// `x-gateway-provider`, or empty.
    pub pin: String,
    /// The caller speaks Anthropic's protocol, not OpenAI's.
    pub anthropic: bool,
    /// A stored answer may be served.
    pub may_serve: bool,
    /// The answer may be stored.
    pub may_store: bool,
}

/// Head of [`super::path::STORE`]; behind it is the answer's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreHead {
    /// [`super::header::TICKET`] of the look-up.
    pub ticket: String,
    /// The body is a whole event stream, not a JSON document.
    pub stream: bool,
    /// `x-gateway-provider` of the answer, or empty.
    pub provider: String,
    /// `x-gateway-model` of the answer, or empty.
    pub model: String,
}

/// Puts both parts into one body; `None` if the head cannot be written or is too long.
#[must_use]
pub fn join(head: &impl Serialize, rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = serde_json::to_vec(head).ok().filter(|head| head.len() <= HEAD_BYTES_MAX)?;
    // Line breaks inside a head are escaped.
    body.push(b'\n');
    body.extend_from_slice(rest);
    Some(body)
}

/// Takes both parts of a body apart; `None` for anything that [`join`] did not write.
#[must_use]
pub fn split<T: DeserializeOwned>(body: &[u8]) -> Option<(T, &[u8])> {
    let end = body.iter().take(HEAD_BYTES_MAX + 1).position(|b| *b == b'\n')?;
    let (head, rest) = body.split_at_checked(end)?;
    Some((serde_json::from_slice(head).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> StoreHead {
        StoreHead { ticket: text.into(), stream: true, provider: text.into(), model: String::new() }
    }

    proptest! {
        #[test]
        fn both_parts_survive(text in ".{0,40}", rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = join(&head(&text), &rest).expect("short");
            prop_assert_eq!(split::<StoreHead>(&body), Some((head(&text), rest.as_slice())));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(split::<StoreHead>(&bytes), None);
        }
    }

    #[test]
    fn a_head_is_bounded() {
        assert!(join(&head(&"x".repeat(HEAD_BYTES_MAX)), b"").is_none());
        assert!(split::<StoreHead>(&vec![b' '; 2 * HEAD_BYTES_MAX]).is_none());
    }
}
