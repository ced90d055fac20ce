//! The page itself.

use prometheus_client::registry::Registry;

/// What the page is written in.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as text.
///
/// # Errors
/// A collector failed to write.
pub fn page(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(16 << 10);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}
