//! Why a text has no embedding.

use std::fmt;

/// Why a text has no embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedError {
    /// The model is still being loaded.
    Loading,
    /// There is no model, and why.
    Unavailable(String),
    /// The queue is full.
    Busy,
    /// It did not come in time.
    Late,
    /// The text at this index has more tokens than the model takes.
    TooLong {
        /// Which of the texts.
        index: usize,
        /// Tokens the model takes.
        tokens_max: usize,
    },
    /// The model failed on these texts.
    Failed,
}

impl EmbedError {
    /// Its metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Unavailable(_) => "unavailable",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::TooLong { .. } => "too_long",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loading => f.write_str("the embedding model is loading"),
            Self::Unavailable(why) => write!(f, "there is no embedding model: {why}"),
            Self::Busy => f.write_str("the embedding queue is full"),
            Self::Late => f.write_str("the embedding did not come in time"),
            Self::TooLong { index, tokens_max } => {
                write!(f, "text {index} is longer than the model's {tokens_max} tokens")
            }
            Self::Failed => f.write_str("the embedding model failed on this text"),
        }
    }
}

impl std::error::Error for EmbedError {}
