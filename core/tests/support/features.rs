//! The features that callers ask for, front by front, each as the fields that ask for it.

use serde_json::{Value, json};
use tidegate_core::provider::Front;

/// A feature, and the fields by which a caller asks for it.
pub struct Feature {
    pub title: &'static str,
    pub fields: Value,
}

/// What callers may ask for at `front`.
pub fn of(front: Front) -> Vec<Feature> {
    match front {
        Front::Chat => chat(),
        Front::Completions => completions(),
        Front::Responses => responses(),
        Front::Messages => messages(),
    }
}

/// A request for `model` that asks for nothing in particular.
pub fn plain(front: Front, model: &str) -> Value {
    match front {
        Front::Chat | Front::Messages => {
            json!({"model": model, "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]})
        }
        Front::Completions => json!({"model": model, "prompt": "hi", "max_tokens": 4096}),
        Front::Responses => json!({"model": model, "input": "hi", "max_output_tokens": 4096}),
    }
}

fn feature(title: &'static str, fields: Value) -> Feature {
    Feature { title, fields }
}

fn user(content: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

const PIXEL: &str = "iVBORw0KGgo=";

fn chat() -> Vec<Feature> {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let called = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    vec![
        feature("streams", json!({"stream": true})),
        feature(
            "`system` and `developer` messages",
            json!({"messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}]}),
        ),
        feature("`tools`", json!({"tools": [tool]})),
        feature("tools' results", json!({"tools": [tool], "messages": called})),
        feature("`tool_choice: required`", json!({"tools": [tool], "tool_choice": "required"})),
        feature("`parallel_tool_calls: false`", json!({"tools": [tool], "parallel_tool_calls": false})),
        feature(
            "pictures, in the request",
            user(
                &json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PIXEL}")}}]),
            ),
        ),
        feature(
            "pictures, by URL",
            user(&json!([{"type": "image_url", "image_url": {"url": "https://h/a.png"}}])),
        ),
        feature(
            "sound",
            user(&json!([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])),
        ),
        feature(
            "files, in the request",
            user(
                &json!([{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]),
            ),
        ),
        feature("`response_format: json_object`", json!({"response_format": {"type": "json_object"}})),
        feature("`response_format: json_schema`", json!({"response_format": schema})),
        feature("`reasoning_effort`", json!({"reasoning_effort": "high"})),
        feature("`logprobs`", json!({"logprobs": true})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`max_tokens`", json!({"max_tokens": 7})),
        feature("`stop`", json!({"stop": ["END"]})),
        feature("`seed`", json!({"seed": 7})),
        feature(
            "`presence_penalty`, `frequency_penalty`",
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}),
        ),
        feature("`logit_bias`", json!({"logit_bias": {"50": 1}})),
        feature("`user`", json!({"user": "u1"})),
    ]
}

fn messages() -> Vec<Feature> {
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let called = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}]}]);
    let picture = |source: Value| user(&json!([{"type": "image", "source": source}]));
    let schema = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    vec![
        feature("streams", json!({"stream": true})),
        feature("`system`", json!({"system": [{"type": "text", "text": "be brief"}]})),
        feature("`tools`", json!({"tools": [tool]})),
        feature("tools' results", json!({"tools": [tool], "messages": called})),
        feature("`tool_choice: any`", json!({"tools": [tool], "tool_choice": {"type": "any"}})),
        feature(
            "`disable_parallel_tool_use`",
            json!({"tools": [tool], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
        ),
        feature(
            "pictures, in the request",
            picture(json!({"type": "base64", "media_type": "image/png", "data": PIXEL})),
        ),
        feature("pictures, by URL", picture(json!({"type": "url", "url": "https://h/a.png"}))),
        feature(
            "documents, in the request",
            user(
                &json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}]),
            ),
        ),
        feature("`output_config.format`", json!({"output_config": schema})),
        feature("`thinking`", json!({"thinking": {"type": "enabled", "budget_tokens": 2048}})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`top_k`", json!({"top_k": 5})),
        feature("`stop_sequences`", json!({"stop_sequences": ["END"]})),
        feature("`metadata.user_id`", json!({"metadata": {"user_id": "u1"}})),
    ]
}

fn completions() -> Vec<Feature> {
    vec![
        feature("streams", json!({"stream": true, "stream_options": {"include_usage": true}})),
        feature("`max_tokens`", json!({"max_tokens": 7})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`stop`", json!({"stop": ["END"]})),
        feature("`seed`", json!({"seed": 7})),
        feature(
            "`presence_penalty`, `frequency_penalty`",
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}),
        ),
        feature("`echo`", json!({"echo": true})),
        feature("`suffix`", json!({"suffix": "end"})),
        feature("`logprobs`", json!({"logprobs": 1})),
        feature("`logit_bias`", json!({"logit_bias": {"50": 1}})),
        feature("`user`", json!({"user": "u1"})),
    ]
}

fn responses() -> Vec<Feature> {
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let called = json!([{"role": "user", "content": "hi"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"}]);
    let said = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    let schema = json!({"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}});
    vec![
        feature("streams", json!({"stream": true})),
        feature("`instructions`", json!({"instructions": "be brief"})),
        feature("`tools`", json!({"tools": [tool]})),
        feature("tools' results", json!({"tools": [tool], "input": called})),
        feature("`tool_choice: required`", json!({"tools": [tool], "tool_choice": "required"})),
        feature("`parallel_tool_calls: false`", json!({"tools": [tool], "parallel_tool_calls": false})),
        feature("tools that OpenAI runs", json!({"tools": [{"type": "web_search"}]})),
        feature(
            "pictures, in the request",
            said(json!({"type": "input_image", "image_url": format!("data:image/png;base64,{PIXEL}")})),
        ),
        feature("pictures, by URL", said(json!({"type": "input_image", "image_url": "https://h/a.png"}))),
        feature(
            "files, in the request",
            said(
                json!({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}),
            ),
        ),
        feature("`text.format: json_object`", json!({"text": {"format": {"type": "json_object"}}})),
        feature("`text.format: json_schema`", json!({"text": schema})),
        feature("`reasoning.effort`", json!({"reasoning": {"effort": "high"}})),
        feature("`temperature`, `top_p`", json!({"temperature": 0.5, "top_p": 0.9})),
        feature("`max_output_tokens`", json!({"max_output_tokens": 7})),
        feature("`top_logprobs`", json!({"top_logprobs": 1})),
        feature("`user`", json!({"user": "u1"})),
    ]
}
