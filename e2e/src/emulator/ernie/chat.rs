//! `chat/{model}`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::content::Prompt;
use super::error::ApiError;
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::fault::Refusal;
use crate::emulator::script::{Asked, Choice, End, Said};
use crate::emulator::strict::{Mistake, Object, document};
use crate::emulator::{ids, text};

const KNOWN: [&str; 15] = [
    "messages",
    "functions",
    "temperature",
    "top_p",
    "penalty_score",
    "stream",
    "system",
    "stop",
    "disable_search",
    "enable_citation",
    "enable_trace",
    "max_output_tokens",
    "response_format",
    "user_id",
    "tool_choice",
];
const STOPS_MAX: usize = 4;
const OUTPUT_TOKENS_MAX: u64 = 2048;
/// The coldest that there is; 0 is refused.
const TEMPERATURE_MIN: f64 = 0.000_001;

/// Answers one request.
pub(super) fn answer(body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let request = Object::read(&document, "", &KNOWN)?;
    let mut prompt = Prompt::read(request.list("messages")?)?;
    prompt.tokens += text::tokens(request.optional_text("system")?.unwrap_or_default()).len();
    request.number("temperature", TEMPERATURE_MIN..=1.0)?;
    request.number("top_p", 0.0..=1.0)?;
    request.number("penalty_score", 1.0..=2.0)?;
    let (tools, choice) = functions(&request)?;
    let format = request.optional_text("response_format")?.unwrap_or("text");
    if !matches!(format, "text" | "json_object") {
        return Err(Mistake::value("response_format", "must be text or json_object").into());
    }
    let asked = Asked {
        text: prompt.last_text,
        is_tool_result: prompt.is_tool_result,
        tools,
        choice,
        as_json: format == "json_object",
        tokens_max: request.whole("max_output_tokens", 2..=OUTPUT_TOKENS_MAX)?,
        stops: request.texts("stop", STOPS_MAX)?,
        ..Asked::default()
    };
    if asked.is_too_long() {
        return Err(ApiError::of(Refusal::ContextLength));
    }
    let said = asked.answer();
    Ok(if request.flag("stream")? {
        Answer::ok(Payload::Events(stream(&said, prompt.tokens)))
    } else {
        whole(&said, prompt.tokens)
    })
}

/// The functions' names, and which of them may be called; each must say what it does.
fn functions(request: &Object<'_>) -> Result<(Vec<String>, Choice), ApiError> {
    let mut names = Vec::new();
    for (index, function) in request.list("functions")?.iter().enumerate() {
        let known = ["name", "description", "parameters", "responses", "examples"];
        let function = Object::read(function, &format!("functions[{index}]"), &known)?;
        function.text("description")?;
        if function.required("parameters")?["type"] != "object" {
            return Err(Mistake::value(&function.at("parameters"), "must be of type object").into());
        }
        names.push(function.text("name")?.to_owned());
    }
    let Some(choice) = request.object("tool_choice", &["type", "function"])? else {
        return Ok((names, Choice::Auto));
    };
    let named = choice.object("function", &["name"])?.map(|function| function.text("name")).transpose()?;
    match named.filter(|name| names.iter().any(|known| known == name)) {
        Some(name) if choice.text("type")? == "function" => Ok((names, Choice::Named(name.to_owned()))),
        _ => Err(Mistake::value("tool_choice", "must name one of the functions").into()),
    }
}

fn call(said: &Said) -> Option<Value> {
    let (name, input) = said.calls.first()?;
    Some(json!({"name": name, "arguments": input.to_string(), "thoughts": "I call a function."}))
}

fn finish(said: &Said) -> &'static str {
    match said.end {
        End::Natural => "normal",
        End::Length => "length",
        End::Stop(_) => "stop",
        End::Tools => "function_call",
    }
}

fn usage(said: &Said, prompt_tokens: usize) -> Value {
    let output = said.tokens();
    json!({
        "prompt_tokens": prompt_tokens, "completion_tokens": output, "total_tokens": prompt_tokens + output,
    })
}

fn whole(said: &Said, prompt_tokens: usize) -> Answer {
    let mut document = json!({
        "id": ids::next("as-"), "object": "chat.completion", "created": ids::created(), "result": said.text,
        "is_truncated": said.end == End::Length, "need_clear_history": false, "finish_reason": finish(said),
        "usage": usage(said, prompt_tokens),
    });
    if let Some(call) = call(said) {
        document["function_call"] = call;
    }
    Answer::json(StatusCode::OK, &document)
}

/// A piece for each token; the last one says that it is the last.
fn stream(said: &Said, prompt_tokens: usize) -> Vec<Bytes> {
    let id = ids::next("as-");
    let mut tokens = text::tokens(&said.text);
    if tokens.is_empty() {
        tokens.push("");
    }
    let last = tokens.len() - 1;
    let piece = |(index, token): (usize, &&str)| {
        let is_end = index == last;
        let mut document = json!({
            "id": id, "object": "chat.completion", "created": ids::created(), "sentence_id": index,
            "is_end": is_end, "is_truncated": is_end && said.end == End::Length, "result": token,
            "need_clear_history": false, "usage": usage(said, prompt_tokens),
        });
        if is_end {
            document["finish_reason"] = json!(finish(said));
            if let Some(call) = call(said) {
                document["function_call"] = call;
            }
        }
        Bytes::from(format!("data: {document}\n\n"))
    };
    tokens.iter().enumerate().map(piece).collect()
}
