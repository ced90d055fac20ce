//! Keys, ids and tokens from the system's random source.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The system gave no random bytes; nothing that needs them may go on.
#[derive(Debug)]
pub struct NoRandomness(getrandom::Error);

impl std::fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the system gives no random bytes: {}", self.0)
    }
}

impl std::error::Error for NoRandomness {}

/// Random bytes.
///
/// # Errors
/// The system gives no random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// A new API key: `tg-` and 43 characters that carry 256 random bits.
///
/// # Errors
/// The system gives no random bytes.
pub fn api_key() -> Result<String, NoRandomness> {
    Ok(format!("tg-{}", URL_SAFE_NO_PAD.encode(bytes::<32>()?)))
}

/// A new id of a key, which is no secret.
///
/// # Errors
/// The system gives no random bytes.
pub fn key_id() -> Result<String, NoRandomness> {
    Ok(format!("key_{}", hex(&bytes::<8>()?)))
}

/// A new name for something that is no secret, in 32 hex digits.
///
/// # Errors
/// The system gives no random bytes.
pub fn name() -> Result<String, NoRandomness> {
    Ok(hex(&bytes::<16>()?))
}

/// A number drawn evenly from [0, 1).
///
/// # Errors
/// The system gives no random bytes.
pub fn draw() -> Result<f64, NoRandomness> {
    // 53 bits are what a float between 0 and 1 holds.
    Ok((u64::from_le_bytes(bytes()?) >> 11) as f64 / (1_u64 << 53) as f64)
}

/// A new secret of 64 hex digits.
///
/// # Errors
/// The system gives no random bytes.
pub fn token() -> Result<String, NoRandomness> {
    Ok(hex(&bytes::<32>()?))
}

/// Lower-case hex digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_documented_shape_and_differ() {
        let (a, b) = (api_key().expect("random"), api_key().expect("random"));
        assert!(a.starts_with("tg-") && a.len() == 46 && a != b);
        assert!(tidegate_core::wire::is_name(&key_id().expect("random")));
        assert_eq!(token().expect("random").len(), 64);
    }
}
