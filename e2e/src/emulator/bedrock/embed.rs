//! `InvokeModel` of the embedding models: Amazon's Titan and Cohere's.

use http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::emulator::answer::Answer;
use crate::emulator::strict::{Mistake, Object, document};
use crate::emulator::{ids, text, vector};

const TITAN: &str = "amazon.titan-embed-text-v2:0";
const COHERE: &str = "cohere.embed-multilingual-v3";
const TITAN_DIMENSIONS: [u64; 3] = [256, 512, 1024];
const COHERE_DIMENSIONS: usize = 1024;
const COHERE_TEXTS_MAX: usize = 96;
const COHERE_INPUT_TYPES: [&str; 4] = ["search_document", "search_query", "classification", "clustering"];

/// Answers one request.
pub(super) fn answer(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let answered = match model {
        TITAN => titan(&document)?,
        COHERE => cohere(&document)?,
        _ => return Err(ApiError::invalid("The provided model identifier is invalid.")),
    };
    Ok(Answer::json(StatusCode::OK, &answered))
}

fn titan(document: &Value) -> Result<Value, ApiError> {
    let request = Object::read(document, "", &["inputText", "dimensions", "normalize", "embeddingTypes"])?;
    let input = request.text("inputText")?;
    if input.is_empty() {
        return Err(Mistake::value("inputText", "must have length greater than or equal to 1").into());
    }
    let dimensions = request.whole("dimensions", 1..=1024)?.unwrap_or(1024);
    if !TITAN_DIMENSIONS.contains(&dimensions) {
        return Err(Mistake::value("dimensions", "must be one of 256, 512, 1024").into());
    }
    let embedding = vector::unit(input, usize::try_from(dimensions).unwrap_or(1));
    Ok(json!({
        "embedding": embedding, "embeddingsByType": {"float": embedding},
        "inputTextTokenCount": text::tokens(input).len(),
    }))
}

fn cohere(document: &Value) -> Result<Value, ApiError> {
    let request = Object::read(document, "", &["texts", "input_type", "truncate", "embedding_types"])?;
    let texts = request.texts("texts", COHERE_TEXTS_MAX)?;
    if texts.is_empty() {
        return Err(Mistake::value("texts", "must have length greater than or equal to 1").into());
    }
    if !COHERE_INPUT_TYPES.contains(&request.text("input_type")?) {
        return Err(Mistake::value("input_type", "must be a valid input type").into());
    }
    let embeddings: Vec<Vec<f32>> = texts.iter().map(|text| vector::unit(text, COHERE_DIMENSIONS)).collect();
    Ok(json!({
        "id": ids::next(""), "response_type": "embeddings_floats", "texts": texts, "embeddings": embeddings,
    }))
}
