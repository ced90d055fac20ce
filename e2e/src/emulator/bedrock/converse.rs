//! `Converse` and `ConverseStream`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::content::Prompt;
use super::error::ApiError;
use super::{frames, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::fault::Refusal;
use crate::emulator::script::{Asked, End, Said};
use crate::emulator::strict::{Object, document};
use crate::emulator::{ids, text};

const KNOWN: [&str; 10] = [
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "promptVariables",
    "requestMetadata",
    "performanceConfig",
];
const CONFIG: [&str; 4] = ["maxTokens", "temperature", "topP", "stopSequences"];
const STOPS_MAX: usize = 2500;
/// Models that are told how much to think.
const THINKING_MODELS: &str = "anthropic.";
/// The least that there may be of it, in tokens.
const BUDGET_MIN: u64 = 1024;

/// A request that holds.
struct Request {
    prompt_tokens: usize,
    said: Said,
    blocked: bool,
}

impl Request {
    fn stop_reason(&self) -> &'static str {
        match self.said.end {
            _ if self.blocked => "content_filtered",
            End::Natural => "end_turn",
            End::Length => "max_tokens",
            End::Stop(_) => "stop_sequence",
            End::Tools => "tool_use",
        }
    }

    fn usage(&self) -> Value {
        let output = self.said.tokens();
        json!({
            "inputTokens": self.prompt_tokens, "outputTokens": output, "totalTokens": self.prompt_tokens + output,
        })
    }
}

/// Answers a request whole.
pub(super) fn answer(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let request = read(model, body)?;
    let said = &request.said;
    let mut content = Vec::new();
    if let Some(thought) = &said.thought {
        let text = json!({"text": thought, "signature": "c2VhbA=="});
        content.push(json!({"reasoningContent": {"reasoningText": text}}));
    }
    if !said.text.is_empty() {
        content.push(json!({"text": said.text}));
    }
    content.extend(said.calls.iter().map(
        |(name, input)| json!({"toolUse": {"toolUseId": ids::next("tooluse_"), "name": name, "input": input}}),
    ));
    let message = json!({"role": "assistant", "content": content});
    let document = json!({
        "output": {"message": message}, "stopReason": request.stop_reason(), "usage": request.usage(),
        "metrics": {"latencyMs": 1},
    });
    Ok(Answer::json(StatusCode::OK, &document))
}

/// Answers a request in frames, in the order that Bedrock documents.
pub(super) fn stream(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let request = read(model, body)?;
    let said = &request.said;
    let mut frames = vec![frames::event("messageStart", &json!({"role": "assistant"}))];
    let mut index = 0;
    let mut block = |start: Option<Value>, deltas: Vec<Value>| {
        if let Some(start) = start {
            frames.push(frames::event(
                "contentBlockStart",
                &json!({"contentBlockIndex": index, "start": start}),
            ));
        }
        let delta = |delta: Value| {
            frames::event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}))
        };
        frames.extend(deltas.into_iter().map(delta));
        frames.push(frames::event("contentBlockStop", &json!({"contentBlockIndex": index})));
        index += 1;
    };
    if let Some(thought) = &said.thought {
        let text =
            text::tokens(thought).into_iter().map(|token| json!({"reasoningContent": {"text": token}}));
        let seal = json!({"reasoningContent": {"signature": "c2VhbA=="}});
        block(None, text.chain([seal]).collect());
    }
    if !said.text.is_empty() {
        block(None, text::tokens(&said.text).into_iter().map(|token| json!({"text": token})).collect());
    }
    for (name, input) in &said.calls {
        let start = json!({"toolUse": {"toolUseId": ids::next("tooluse_"), "name": name}});
        let input = input.to_string();
        let pieces = text::tokens(&input).into_iter().map(|piece| json!({"toolUse": {"input": piece}}));
        block(Some(start), pieces.collect());
    }
    frames.push(frames::event("messageStop", &json!({"stopReason": request.stop_reason()})));
    let metadata = json!({"usage": request.usage(), "metrics": {"latencyMs": 1}});
    frames.push(frames::event("metadata", &metadata));
    Ok(Answer::ok(Payload::Frames(frames.into_iter().collect::<Vec<Bytes>>())))
}

fn read(model: &str, body: &[u8]) -> Result<Request, ApiError> {
    let document = document(body)?;
    let request = Object::read(&document, "", &KNOWN)?;
    let mut prompt = Prompt::read(request.list("messages")?)?;
    prompt.add_system(request.list("system")?)?;
    let mut asked = Asked { text: prompt.heard.last_text, images: prompt.heard.images, ..Asked::default() };
    asked.is_tool_result = prompt.heard.is_tool_result;
    match request.object("toolConfig", &["tools", "toolChoice"])? {
        Some(config) => (asked.tools, asked.choice) = tools::read(&config)?,
        None if prompt.has_tools => {
            return Err(ApiError::invalid(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
            ));
        }
        None => {}
    }
    let config = request.object("inferenceConfig", &CONFIG)?;
    if let Some(config) = &config {
        asked.tokens_max = config.whole("maxTokens", 1..=200_000)?;
        config.number("temperature", 0.0..=1.0)?;
        config.number("topP", 0.0..=1.0)?;
        asked.stops = config.texts("stopSequences", STOPS_MAX)?;
    }
    if let Some(more) =
        request.object("additionalModelRequestFields", &["top_k", "thinking", "anthropic_beta"])?
    {
        more.whole("top_k", 0..=500)?;
        if let Some(thinking) = more.object("thinking", &["type", "budget_tokens"])? {
            if !model.contains(THINKING_MODELS) {
                return Err(ApiError::invalid(
                    "Malformed input request: #: extraneous key [thinking] is not permitted, please reformat your input and try again.",
                ));
            }
            let most = asked.tokens_max.map_or(u64::MAX, |most| most.saturating_sub(1));
            thinking.whole("budget_tokens", BUDGET_MIN..=most)?;
            asked.thinks = thinking.text("type")? == "enabled";
        }
    }
    if asked.is_too_long() {
        return Err(ApiError::of(Refusal::ContextLength));
    }
    let blocked = asked.is_forbidden();
    let mut said = asked.answer();
    if blocked {
        said = Said {
            text: "Sorry, I cannot answer that.".to_owned(),
            calls: Vec::new(),
            end: End::Natural,
            ..said
        };
    }
    Ok(Request { prompt_tokens: prompt.heard.tokens, said, blocked })
}
