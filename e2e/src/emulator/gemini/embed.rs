//! `embedContent` and `batchEmbedContents`.

use http::StatusCode;
use serde_json::{Value, json};

use super::content;
use super::error::ApiError;
use crate::emulator::answer::Answer;
use crate::emulator::strict::{Mistake, Object, document};
use crate::emulator::vector;

const KNOWN: [&str; 5] = ["model", "content", "taskType", "title", "outputDimensionality"];
const DIMENSIONS_MAX: u64 = 3072;
/// Most requests of one batch.
const BATCH_MAX: usize = 100;

/// Embeds one text.
pub(super) fn one(body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let embedding = embedding(&Object::read(&document, "", &KNOWN)?)?;
    Ok(Answer::json(StatusCode::OK, &json!({ "embedding": embedding })))
}

/// Embeds several texts; each request in the batch names the model again.
pub(super) fn batch(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let batch = Object::read(&document, "", &["requests"])?;
    let requests = batch.list("requests")?;
    if requests.is_empty() || requests.len() > BATCH_MAX {
        return Err(ApiError::invalid(format!(
            "* BatchEmbedContentsRequest.requests: at most {BATCH_MAX} requests can be in one batch"
        )));
    }
    let mut embeddings: Vec<Value> = Vec::with_capacity(requests.len());
    for (index, request) in requests.iter().enumerate() {
        let request = Object::read(request, &format!("requests[{index}]"), &KNOWN)?;
        if request.text("model")? != format!("models/{model}") {
            return Err(Mistake::value(&request.at("model"), "must be the model of the batch").into());
        }
        embeddings.push(embedding(&request)?);
    }
    Ok(Answer::json(StatusCode::OK, &json!({ "embeddings": embeddings })))
}

fn embedding(request: &Object<'_>) -> Result<Value, ApiError> {
    let dimensions = request.whole("outputDimensionality", 1..=DIMENSIONS_MAX)?.unwrap_or(DIMENSIONS_MAX);
    let prompt = content::read(std::slice::from_ref(request.required("content")?), false)?;
    let values = vector::unit(&prompt.last_text, usize::try_from(dimensions).unwrap_or(1));
    Ok(json!({ "values": values }))
}
