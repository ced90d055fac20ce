//! Bodies of requests, and what is in the answers.

use serde_json::{Value, json};

use super::client::Answer;

/// A chat request to the emulated `gpt-4o`.
#[must_use]
pub fn chat(prompt: &str) -> String {
    chat_with("gpt-4o", prompt)
}

/// A chat request to a model.
#[must_use]
pub fn chat_with(model: &str, prompt: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

/// A streaming chat request to the emulated `gpt-4o`.
#[must_use]
pub fn stream(prompt: &str) -> String {
    stream_of("gpt-4o", prompt)
}

/// A streaming chat request to a model.
#[must_use]
pub fn stream_of(model: &str, prompt: &str) -> String {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

/// The text of a chat completion; empty if it is none.
#[must_use]
pub fn content(answer: &Answer) -> String {
    let text = answer.json()["choices"][0]["message"]["content"].take();
    text.as_str().unwrap_or_default().to_owned()
}

/// The text of a chat completion's stream, put together.
#[must_use]
pub fn streamed_content(answer: &Answer) -> String {
    let chunks = answer.events();
    let chunks = chunks.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}
