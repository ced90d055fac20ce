//! `cache_control`, as Anthropic has it and its callers and those of LiteLLM and OpenRouter write it.
//! <https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching>

use serde::{Deserialize, Serialize};

use super::document::wrong;
use crate::chat::CacheTtl;
use crate::reply::Reply;

/// Where a prompt is worth caching, in a caller's request.
#[derive(Deserialize)]
pub(super) struct Found {
    r#type: String,
    ttl: Option<String>,
}

impl Found {
    /// How long it is to be kept; `path` is that of what is marked.
    ///
    /// # Errors
    /// `invalid_request` for a kind of cache or a time that there is not.
    pub(super) fn ttl(self, path: &str) -> Result<CacheTtl, Reply> {
        if self.r#type != "ephemeral" {
            return Err(wrong(&field(path, "type"), "ephemeral"));
        }
        match self.ttl.as_deref() {
            None | Some("5m") => Ok(CacheTtl::Short),
            Some("1h") => Ok(CacheTtl::Hour),
            Some(_) => Err(wrong(&field(path, "ttl"), "5m or 1h")),
        }
    }
}

fn field(path: &str, name: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}cache_control.{name}")
}

/// The same in a request for Anthropic.
#[derive(Serialize)]
pub(super) struct CacheControl {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheTtl> for CacheControl {
    fn from(ttl: CacheTtl) -> Self {
        Self { r#type: "ephemeral", ttl: asked(ttl) }
    }
}

/// The time to be asked for, where it is not the usual one; Amazon writes it alike.
pub(super) const fn asked(ttl: CacheTtl) -> Option<&'static str> {
    match ttl {
        CacheTtl::Short => None,
        CacheTtl::Hour => Some("1h"),
    }
}
