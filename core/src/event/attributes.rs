//! What is known of a request when its outcome is counted: the dimensions along which a failure
//! can be attributed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest value of an attribute, in bytes; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 96;

macro_rules! attributes {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// A dimension of the traffic.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(usize)]
        pub enum Attribute { $($(#[$doc])* $variant,)* }

        impl Attribute {
            /// All of them, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in documents and to people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

attributes! {
    /// The tenant of the caller.
    Tenant => "tenant",
    /// The id of the caller's key.
    Key => "key",
    /// The LLM operation, or the name of the operator's Envoy route.
    Route => "route",
    /// The path with ids replaced.
    Path => "path",
    /// The HTTP method.
    Method => "method",
    /// The model asked for.
    Model => "model",
    /// The provider that answered.
    Provider => "provider",
    /// Which of the provider's API keys was used: `openai#1` for the first of its `api_keys`. Absent
    /// where it has no more than one.
    ProviderKey => "provider_key",
    /// Whether a stream was asked for.
    Stream => "stream",
    /// Whether tools were offered.
    Tools => "tools",
    /// The size of the request body, in coarse steps.
    PromptLength => "prompt_length",
    /// What the region header says.
    Region => "region",
}

/// How many attributes there are.
pub const ATTRIBUTES: usize = Attribute::ALL.len();

impl Attribute {
    /// Whether the value is known before the request is sent on; the others are decided, and
    /// therefore acted on, in the sidecar.
    #[must_use]
    pub const fn is_known_at_entry(self) -> bool {
        !self.is_of_provider()
    }

    /// Whether it says who was asked.
    #[must_use]
    pub const fn is_of_provider(self) -> bool {
        matches!(self, Self::Provider | Self::ProviderKey)
    }
}

/// The values of one request, or of one slice of the traffic; absent where they mean nothing.
pub type Attributes = BTreeMap<Attribute, String>;

/// Upper bounds of the steps of [`Attribute::PromptLength`], in bytes, with their labels.
const PROMPT_STEPS: [(usize, &str); 5] = [
    (1 << 10, "<1KiB"),
    (4 << 10, "<4KiB"),
    (16 << 10, "<16KiB"),
    (64 << 10, "<64KiB"),
    (256 << 10, "<256KiB"),
];

/// The label of a body's size.
#[must_use]
pub fn prompt_length(bytes: usize) -> &'static str {
    PROMPT_STEPS.iter().find(|(most, _)| bytes < *most).map_or(">=256KiB", |(_, label)| label)
}

/// Longest path template, in bytes.
pub const PATH_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// A path with what looks like an id replaced by `{id}`, on the stack: it is made for every request.
#[derive(Debug, Clone, Copy)]
pub struct PathTemplate {
    bytes: [u8; PATH_BYTES_MAX],
    len: usize,
}

impl PathTemplate {
    /// Replaces segments that have a digit and no meaning to people: numbers, hashes, UUIDs,
    /// tokens. What does not fit is cut.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut template = Self { bytes: [0; PATH_BYTES_MAX], len: 0 };
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                template.push(b"/");
            }
            template.push(if is_id(segment) { b"{id}" } else { segment.as_bytes() });
        }
        template
    }

    fn push(&mut self, piece: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let take = piece.len().min(room.len());
        for (to, from) in room.iter_mut().zip(piece) {
            *to = *from;
        }
        self.len += take;
    }

    /// The template; cut before a character that does not fit whole.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => bytes
                .get(..error.valid_up_to())
                .and_then(|whole| std::str::from_utf8(whole).ok())
                .unwrap_or_default(),
        }
    }
}

/// Numbers; hexadecimal of eight digits or more; anything long in which digits are frequent. `v1`
/// and `oauth2` are names.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let is_hex = segment.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    digits == segment.len()
        || (is_hex && segment.len() >= 8)
        || (segment.len() >= 12 && digits * 5 >= segment.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_replaced_and_names_are_not() {
        for (path, template) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/shop/orders/12345/items", "/shop/orders/{id}/items"),
            ("/u/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/u/{id}"),
            ("/b/deadbeef01", "/b/{id}"),
            ("/t/tok_8f3k29dk10zz", "/t/{id}"),
            ("/oauth2/token", "/oauth2/token"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(PathTemplate::of(path).as_str(), template);
        }
    }

    #[test]
    fn names_and_indices_follow_the_list() {
        for (index, attribute) in Attribute::ALL.iter().enumerate() {
            assert_eq!(*attribute as usize, index);
            let json = serde_json::to_string(attribute).expect("serialises");
            assert_eq!(json, format!("\"{}\"", attribute.name()));
        }
    }

    #[test]
    fn sizes_have_steps() {
        assert_eq!(prompt_length(0), "<1KiB");
        assert_eq!(prompt_length(4096), "<16KiB");
        assert_eq!(prompt_length(usize::MAX), ">=256KiB");
    }

    proptest! {
        #[test]
        fn a_template_is_bounded_text(path in ".{0,300}") {
            prop_assert!(PathTemplate::of(&path).as_str().len() <= PATH_BYTES_MAX);
        }
    }
}
