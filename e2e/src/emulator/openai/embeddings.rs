//! `POST /embeddings`: unit vectors that depend on the text and nothing else.

use serde_json::{Value, json};

use super::document;
use super::error::ApiError;
use super::models::{self, Kind};
use super::params::Params;
use crate::emulator::answer::Answer;
use crate::emulator::{text, vector};

const KNOWN: [&str; 5] = ["dimensions", "encoding_format", "input", "model", "user"];
const DIMENSIONS_MAX: u64 = 1536;
const INPUTS_MAX: usize = 2048;

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let params = Params::read(body, &KNOWN)?;
    let model = params.model()?;
    models::check(model, Kind::Embedding)?;
    let inputs = inputs(params.required("input")?)?;
    let dimensions = params.whole("dimensions", 1..=DIMENSIONS_MAX)?.unwrap_or(DIMENSIONS_MAX);
    let dimensions = usize::try_from(dimensions).unwrap_or(1);
    let as_base64 = wants_base64(&params)?;

    let tokens: usize = inputs.iter().map(|input| input.tokens).sum();
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector::unit(&input.text, dimensions);
            let embedding = if as_base64 { json!(base64(&vector)) } else { json!(vector) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    Ok(document(&json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

fn wants_base64(params: &Params) -> Result<bool, ApiError> {
    match params.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => Ok(false),
        Some(Some("base64")) => Ok(true),
        Some(_) => Err(ApiError::wrong_type("encoding_format", "'float' or 'base64'")),
    }
}

struct Input {
    text: String,
    tokens: usize,
}

/// A string, an array of strings, an array of tokens, or an array of arrays of tokens.
fn inputs(value: &Value) -> Result<Vec<Input>, ApiError> {
    let inputs: Option<Vec<Input>> = match value {
        Value::String(_) => one_input(value).map(|input| vec![input]),
        Value::Array(items) if items.iter().all(Value::is_u64) => one_input(value).map(|input| vec![input]),
        Value::Array(items) if items.len() <= INPUTS_MAX => items.iter().map(one_input).collect(),
        _ => None,
    };
    inputs
        .ok_or_else(|| ApiError::wrong_type("input", "non-empty text or tokens, or an array of at most 2048"))
}

fn one_input(value: &Value) -> Option<Input> {
    match value {
        Value::String(text) if !text.is_empty() => {
            Some(Input { text: text.clone(), tokens: text::tokens(text).len() })
        }
        Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => {
            Some(Input { text: value.to_string(), tokens: tokens.len() })
        }
        _ => None,
    }
}

/// Little-endian floats in base64, as the official clients ask for them.
fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let six = (word >> (18 - 6 * position)) & 63;
            let shown = position <= group.len();
            text.push(if shown { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_floats() {
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 1.0]), "AACAPwAAgD8=");
        assert_eq!(base64(&[0.0, 0.0, 0.0]), "AAAAAAAAAAAAAAAA");
    }
}
