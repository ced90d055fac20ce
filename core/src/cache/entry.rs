//! One stored answer as bytes:
//! version, kind, two header lengths, key (32), stored at (8), expires at (8), headers, body.

use super::CacheKey;

const VERSION: u8 = 1;
const FIXED: usize = 4 + 32 + 8 + 8;

/// How an answer is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON document.
    Json,
    /// A whole event stream.
    Sse,
}

impl Kind {
    /// The `content-type` to replay with.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Sse => "text/event-stream",
        }
    }
}

/// A stored answer; borrowed from the slot it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// How it is replayed.
    pub kind: Kind,
    /// Whose answer it is; the whole digest, since slots are found by a part of it.
    pub key: CacheKey,
    /// When it was stored, in milliseconds of the host's clock.
    pub stored_at_ms: u64,
    /// When it stops being served.
    pub expires_at_ms: u64,
    /// `x-gateway-provider` of the original answer, possibly empty.
    pub provider: &'a [u8],
    /// `x-gateway-model` of the original answer, possibly empty.
    pub model: &'a [u8],
    /// The body, exactly as it was sent.
    pub body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Size of the encoded entry, in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        FIXED + self.provider.len() + self.model.len() + self.body.len()
    }

    /// The bytes of the slot; `None` if a header value is longer than 255 bytes.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let provider_len = u8::try_from(self.provider.len()).ok()?;
        let model_len = u8::try_from(self.model.len()).ok()?;
        let kind = match self.kind {
            Kind::Json => 0,
            Kind::Sse => 1,
        };
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(&[VERSION, kind, provider_len, model_len]);
        out.extend_from_slice(self.key.bytes());
        out.extend_from_slice(&self.stored_at_ms.to_le_bytes());
        out.extend_from_slice(&self.expires_at_ms.to_le_bytes());
        out.extend_from_slice(self.provider);
        out.extend_from_slice(self.model);
        out.extend_from_slice(self.body);
        Some(out)
    }

    /// Reads a slot; `None` for anything that [`Entry::encode`] did not write.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&[version, kind, provider_len, model_len], rest) = bytes.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (stored, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (provider, rest) = rest.split_at_checked(usize::from(provider_len))?;
        let (model, body) = rest.split_at_checked(usize::from(model_len))?;
        let kind = match (version, kind) {
            (VERSION, 0) => Kind::Json,
            (VERSION, 1) => Kind::Sse,
            _ => return None,
        };
        Some(Self {
            kind,
            key: CacheKey::from_bytes(*key),
            stored_at_ms: u64::from_le_bytes(*stored),
            expires_at_ms: u64::from_le_bytes(*expires),
            provider,
            model,
            body,
        })
    }

    /// Whether it may be served for `key` now.
    #[must_use]
    pub fn serves(&self, key: &CacheKey, now_ms: u64) -> bool {
        self.key == *key && now_ms < self.expires_at_ms
    }

    /// Whole seconds since it was stored, the value of `age`.
    #[must_use]
    pub const fn age_s(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.stored_at_ms) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_slot_and_a_torn_one_does_not() {
        let entry = Entry {
            kind: Kind::Sse,
            key: CacheKey::of(b"{}"),
            stored_at_ms: 1_000,
            expires_at_ms: 9_000,
            provider: b"openai",
            model: b"gpt-4o",
            body: b"data: [DONE]\n\n",
        };
        let bytes = entry.encode().expect("short headers");
        assert_eq!(bytes.len(), entry.encoded_len());
        assert_eq!(Entry::decode(&bytes), Some(entry));
        assert_eq!(Entry::decode(&bytes[..FIXED + 3]), None);
        assert_eq!(Entry::decode(b""), None);
        assert!(entry.serves(&entry.key, 8_999) && !entry.serves(&entry.key, 9_000));
        assert_eq!(entry.age_s(3_999), 2);
    }
}
