//! The models on offer and what each may be asked.

use serde_json::{Value, json};

use super::error::ApiError;
use crate::emulator::answer::Answer;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
    Embedding,
}

struct Model {
    id: &'static str,
    kind: Kind,
    created: u64,
}

const MODELS: [Model; 5] = [
    Model { id: "gpt-4o", kind: Kind::Chat, created: 1_715_367_049 },
    Model { id: "gpt-4o-mini", kind: Kind::Chat, created: 1_721_172_741 },
    // Version 2 of Baidu's API is served from here too.
    Model { id: "ernie-4.5-turbo-128k", kind: Kind::Chat, created: 1_745_452_800 },
    Model { id: "gpt-3.5-turbo-instruct", kind: Kind::Completion, created: 1_692_901_427 },
    Model { id: "text-embedding-3-small", kind: Kind::Embedding, created: 1_705_948_997 },
];

/// Refuses a model that does not exist or does something else.
pub(super) fn check(id: &str, wanted: Kind) -> Result<(), ApiError> {
    let model = find(id)?;
    if model.kind == wanted {
        return Ok(());
    }
    let message = match wanted {
        Kind::Completion => {
            "This is a chat model and not supported in the v1/completions endpoint. \
                             Did you mean to use v1/chat/completions?"
        }
        Kind::Chat => {
            "This is not a chat model and thus not supported in the v1/chat/completions \
                       endpoint. Did you mean to use v1/completions?"
        }
        Kind::Embedding => "You are not allowed to generate embeddings from this model",
    };
    Err(ApiError::invalid(message).param("model"))
}

/// `GET /models`.
pub(super) fn list() -> Answer {
    let data: Vec<Value> = MODELS.iter().map(described).collect();
    super::document(&json!({ "object": "list", "data": data }))
}

/// `GET /models/{id}`.
pub(super) fn one(id: &str) -> Result<Answer, ApiError> {
    find(id).map(|model| super::document(&described(model)))
}

fn find(id: &str) -> Result<&'static Model, ApiError> {
    MODELS.iter().find(|m| m.id == id).ok_or_else(|| ApiError::no_such_model(id))
}

fn described(model: &Model) -> Value {
    json!({ "id": model.id, "object": "model", "created": model.created, "owned_by": "system" })
}
