//! Tokens of a request: foretold before it leaves, settled when it is over.

use tidegate_core::chat::{OutputBound, RequestView, Tape, estimate_json_tokens};
use tidegate_core::route::Endpoint;

use crate::vm::Vm;

/// Bytes of JSON that no tokeniser makes less than one token of; what is larger by this measure
/// is larger by any.
const BYTES_OF_TOKEN_MAX: u64 = 16;

/// Tokens that a request will use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Of its prompt, estimated.
    pub prompt: u64,
    /// Of its prompt, at the very least.
    pub prompt_least: u64,
    /// Of its answer, at most or as learned.
    pub output: u64,
}

impl Need {
    /// What the body of a request to `endpoint` asks for. An answer without a bound is foretold
    /// from earlier ones of its `model`.
    pub fn of(vm: &Vm, endpoint: Endpoint, tape: &Tape, body: &[u8], model: u64) -> Self {
        let output = match endpoint {
            Endpoint::Embeddings | Endpoint::Models => 0,
            _ => {
                let OutputBound { tokens, answers } = OutputBound::read(tape, body);
                tokens.unwrap_or_else(|| vm.lengths.predict(model)).saturating_mul(answers)
            }
        };
        let prompt = estimate_json_tokens(body);
        Self { prompt, prompt_least: prompt.min(body.len() as u64 / BYTES_OF_TOKEN_MAX), output }
    }

    /// Of prompt and answer.
    pub const fn total(self) -> u64 {
        self.prompt.saturating_add(self.output)
    }
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// It was refused, failed, or answered from a cache.
    Nothing,
    /// The provider has said so.
    Reported {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens of the answer.
        completion: u64,
    },
    /// The prompt was read, and so much of an answer came by.
    Seen {
        /// Tokens of the answer, about.
        completion: u64,
    },
    /// There was an answer, and nobody said how long it is.
    AsReserved,
}

impl Used {
    /// The number, where `need` was reserved.
    pub const fn tokens(self, need: Need) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Reported { prompt, completion } => prompt.saturating_add(completion),
            Self::Seen { completion } => need.prompt.saturating_add(completion),
            Self::AsReserved => need.total(),
        }
    }
}

/// The name of the model, unless it is none that a provider could have.
pub fn model_of(request: &RequestView<'_>) -> Option<String> {
    let name: String = serde_json::from_slice(request.model_raw).ok()?;
    (1..=tidegate_core::policy::MODEL_BYTES_MAX).contains(&name.len()).then_some(name)
}
