//! `embeddings/{model}`.

use http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::emulator::answer::Answer;
use crate::emulator::strict::{Mistake, Object, document};
use crate::emulator::{ids, text, vector};

const DIMENSIONS: usize = 384;
const INPUTS_MAX: usize = 16;

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let request = Object::read(&document, "", &["input", "user_id"])?;
    let inputs = request.texts("input", INPUTS_MAX)?;
    if inputs.is_empty() || inputs.iter().any(|input| input.is_empty()) {
        return Err(Mistake::value("input", "must not be empty").into());
    }
    let tokens: usize = inputs.iter().map(|input| text::tokens(input).len()).sum();
    let data = inputs.iter().enumerate().map(|(index, input)| {
        json!({"object": "embedding", "embedding": vector::unit(input, DIMENSIONS), "index": index})
    });
    let data: Vec<Value> = data.collect();
    Ok(Answer::json(
        StatusCode::OK,
        &json!({
            "id": ids::next("as-"), "object": "embedding_list", "created": ids::created(), "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }),
    ))
}
