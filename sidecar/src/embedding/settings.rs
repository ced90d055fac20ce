//! What the operator says about the embedding model, already validated.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::secret::Secret;

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean: MiniLM, E5, GTE.
    Mean,
    /// That of the first token: BGE.
    Cls,
}

impl Pooling {
    /// The value of `pooling:` in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// What belongs to a model and is known of the common ones, from their model cards.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The model's name, as in `all-MiniLM-L6-v2`.
    pub model: &'static str,
    /// Its folder among the models that scripts/setup fetches.
    pub folder: &'static str,
    /// How it pools.
    pub pooling: Pooling,
    /// What every text is to begin with.
    pub prefix: &'static str,
    /// The token that fills a batch up.
    pub pad_id: u32,
    /// Numbers of a vector.
    pub dimension: usize,
    /// Longest text, in tokens.
    pub tokens_max: usize,
}

/// The models known by name; the first is the default.
pub const PRESETS: [Preset; 5] = [
    Preset {
        model: "all-MiniLM-L6-v2",
        folder: "minilm",
        pooling: Pooling::Mean,
        prefix: "",
        pad_id: 0,
        dimension: 384,
        tokens_max: 512,
    },
    Preset {
        model: "multilingual-e5-small",
        folder: "e5",
        pooling: Pooling::Mean,
        prefix: "query: ",
        pad_id: 1,
        dimension: 384,
        tokens_max: 512,
    },
    Preset {
        model: "bge-small-en-v1.5",
        folder: "bge-small-en-v1.5",
        pooling: Pooling::Cls,
        prefix: "",
        pad_id: 0,
        dimension: 384,
        tokens_max: 512,
    },
    Preset {
        model: "bge-small-zh-v1.5",
        folder: "bge-small-zh-v1.5",
        pooling: Pooling::Cls,
        prefix: "",
        pad_id: 0,
        dimension: 512,
        tokens_max: 512,
    },
    Preset {
        model: "gte-small",
        folder: "gte-small",
        pooling: Pooling::Mean,
        prefix: "",
        pad_id: 0,
        dimension: 384,
        tokens_max: 512,
    },
];

/// A model elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The part of its address before `/embeddings`.
    pub base_url: Uri,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
}

/// The embedding model and the threads it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether there is one at all.
    pub enabled: bool,
    /// Where it is, unless in this process: then files, library, pooling and padding have no meaning.
    pub remote: Option<Remote>,
    /// Its name in the API.
    pub model: String,
    /// ONNX file.
    pub model_path: PathBuf,
    /// The model's `tokenizer.json`.
    pub tokenizer_path: PathBuf,
    /// ONNX Runtime's shared library.
    pub library_path: PathBuf,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// What every text is to begin with.
    pub prefix: String,
    /// The token that fills a batch up.
    pub pad_id: u32,
    /// Numbers of a vector.
    pub dimension: usize,
    /// Longest text, in tokens.
    pub tokens_max: usize,
    /// Threads, each with a session of its own; calls at once of a model elsewhere.
    pub threads: usize,
    /// Texts that may wait.
    pub queue: usize,
    /// Longest that a request waits for its embedding before it goes on without.
    pub deadline: Duration,
    /// Vectors remembered by their text's digest.
    pub memo: usize,
}
