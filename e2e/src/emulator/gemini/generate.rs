//! `generateContent`, `streamGenerateContent` and `countTokens`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::content;
use super::error::ApiError;
use super::{event, tools};
use crate::emulator::answer::{Answer, Payload};
use crate::emulator::fault::Refusal;
use crate::emulator::script::{Asked, End, Said};
use crate::emulator::strict::{Mistake, Object, document};
use crate::emulator::{ids, text};

const KNOWN: [&str; 8] = [
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "labels",
];
const CONFIG: [&str; 19] = [
    "candidateCount",
    "stopSequences",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "thinkingConfig",
    "speechConfig",
    "mediaResolution",
    "enableEnhancedCivicAnswers",
];
const STOPS_MAX: usize = 5;
const LOGPROBS_MAX: u64 = 20;
const CANDIDATES_MAX: u64 = 8;
const BUDGET_MAX: u64 = 24_576;
/// Models that are told in words how much to think, and want their seals back.
const LEVEL_MODELS: &str = "gemini-3";

/// A request that holds.
struct Request {
    prompt_tokens: usize,
    logprobs: bool,
    /// How many answers are wanted; all of them say the same.
    candidates: u64,
    said: Said,
    blocked: bool,
}

/// Answers a request whole.
pub(super) fn answer(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let request = read(model, body)?;
    let id = ids::next("resp-");
    if request.blocked {
        return Ok(Answer::json(StatusCode::OK, &blocked(&request, model, &id)));
    }
    let mut parts = Vec::new();
    if let Some(thought) = &request.said.thought {
        parts.push(json!({"text": thought, "thought": true}));
    }
    if !request.said.text.is_empty() {
        parts.push(json!({"text": request.said.text}));
    }
    parts.extend(calls(&request.said));
    let each = |index| {
        let mut candidate = candidate(index, parts.clone(), Some(reason(&request.said)));
        if request.logprobs {
            candidate["logprobsResult"] = logprobs(&text::tokens(&request.said.text));
        }
        candidate
    };
    let candidates = (0..request.candidates).map(each).collect();
    Ok(Answer::json(StatusCode::OK, &chunk(&request, model, &id, candidates)))
}

/// Answers a request piece by piece: as events, or as one JSON list when `alt=sse` is not asked for.
pub(super) fn stream(model: &str, body: &[u8], as_events: bool) -> Result<Answer, ApiError> {
    let request = read(model, body)?;
    let chunks = chunks(&request, model);
    if !as_events {
        return Ok(Answer::json(StatusCode::OK, &json!(chunks)));
    }
    let events: Vec<Bytes> = chunks.iter().map(event).collect();
    Ok(Answer::ok(Payload::Events(events)))
}

/// Counts the tokens of a request.
pub(super) fn count(model: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let document = document(body)?;
    let request = Object::read(&document, "", &["contents", "generateContentRequest"])?;
    let prompt = content::read(request.list("contents")?, model.contains(LEVEL_MODELS))?;
    Ok(Answer::json(StatusCode::OK, &json!({"totalTokens": prompt.tokens})))
}

fn read(model: &str, body: &[u8]) -> Result<Request, ApiError> {
    let document = document(body)?;
    let request = Object::read(&document, "", &KNOWN)?;
    let by_level = model.contains(LEVEL_MODELS);
    let mut prompt = content::read(request.list("contents")?, by_level)?;
    if let Some(system) = request.object("systemInstruction", &["role", "parts"])? {
        content::add_system(&mut prompt, &system)?;
    }
    let (tools, choice) = tools::read(&request)?;
    let config = request.object("generationConfig", &CONFIG)?;
    let mut asked = Asked {
        text: prompt.last_text,
        is_tool_result: prompt.is_tool_result,
        images: prompt.images,
        tools,
        choice,
        ..Asked::default()
    };
    let mut wishes = Wishes { logprobs: false, candidates: 1 };
    if let Some(config) = &config {
        wishes = configure(config, by_level, &mut asked)?;
    }
    if asked.is_too_long() {
        return Err(ApiError::of(Refusal::ContextLength));
    }
    let blocked = asked.is_forbidden();
    let Wishes { logprobs, candidates } = wishes;
    Ok(Request { prompt_tokens: prompt.tokens, logprobs, candidates, said: asked.answer(), blocked })
}

/// What `generationConfig` asks for beside what all providers know.
struct Wishes {
    logprobs: bool,
    candidates: u64,
}

/// Reads `generationConfig`.
fn configure<'a>(config: &Object<'a>, by_level: bool, asked: &mut Asked<'a>) -> Result<Wishes, ApiError> {
    let candidates = config.whole("candidateCount", 1..=CANDIDATES_MAX)?.unwrap_or(1);
    if by_level && candidates > 1 {
        return Err(ApiError::invalid("Multiple candidates is not enabled for this model"));
    }
    config.number("temperature", 0.0..=2.0)?;
    config.number("topP", 0.0..=1.0)?;
    config.number("topK", 1.0..=1000.0)?;
    config.number("seed", f64::from(i32::MIN)..=f64::from(i32::MAX))?;
    config.number("presencePenalty", -2.0..=1.999)?;
    config.number("frequencyPenalty", -2.0..=1.999)?;
    asked.tokens_max = config.whole("maxOutputTokens", 1..=65_536)?;
    asked.stops = config.texts("stopSequences", STOPS_MAX)?;
    let mime_type = config.optional_text("responseMimeType")?.unwrap_or("text/plain");
    if !matches!(mime_type, "text/plain" | "application/json" | "text/x.enum") {
        return Err(Mistake::value(&config.at("responseMimeType"), "must be a supported type").into());
    }
    asked.as_json = mime_type == "application/json";
    let schema = config.get("responseJsonSchema").or_else(|| config.get("responseSchema"));
    if schema.is_some() && !asked.as_json {
        return Err(ApiError::invalid(
            "* GenerateContentRequest.generation_config.response_schema: only allowed when response mime type is \
             'application/json'",
        ));
    }
    let logprobs = config.flag("responseLogprobs")?;
    if config.whole("logprobs", 0..=LOGPROBS_MAX)?.is_some() && !logprobs {
        return Err(ApiError::invalid("logprobs is only allowed when response_logprobs is true"));
    }
    if let Some(thinking) =
        config.object("thinkingConfig", &["includeThoughts", "thinkingBudget", "thinkingLevel"])?
    {
        let (wrong, why) = if by_level {
            ("thinkingBudget", "Budget is not supported for this model.")
        } else {
            ("thinkingLevel", "Thinking level is not supported for this model.")
        };
        if thinking.get(wrong).is_some() {
            return Err(ApiError::invalid(why));
        }
        let budget = thinking.whole("thinkingBudget", 0..=BUDGET_MAX)?;
        asked.thinks = thinking.flag("includeThoughts")? && budget != Some(0);
    }
    Ok(Wishes { logprobs, candidates })
}

/// A piece for each thought, token and call, of each candidate in turn; the last ones have the
/// reason to finish.
fn chunks(request: &Request, model: &str) -> Vec<Value> {
    let id = ids::next("resp-");
    if request.blocked {
        return vec![blocked(request, model, &id)];
    }
    let said = &request.said;
    let mut pieces: Vec<Value> = Vec::new();
    pieces.extend(said.thought.iter().map(|thought| json!({"text": thought, "thought": true})));
    pieces.extend(text::tokens(&said.text).iter().map(|token| json!({"text": token})));
    pieces.extend(calls(said));
    if pieces.is_empty() {
        pieces.push(json!({"text": ""}));
    }
    let last = pieces.len() - 1;
    let each = |(place, piece): (usize, &Value), index| {
        let finish = (place == last).then(|| reason(said));
        let mut candidate = candidate(index, vec![piece.clone()], finish);
        if request.logprobs && piece["text"].is_string() && piece["thought"].is_null() {
            candidate["logprobsResult"] = logprobs(&[piece["text"].as_str().unwrap_or_default()]);
        }
        chunk(request, model, &id, vec![candidate])
    };
    let in_turn = |piece| (0..request.candidates).map(move |index| each(piece, index));
    pieces.iter().enumerate().flat_map(in_turn).collect()
}

fn calls(said: &Said) -> Vec<Value> {
    let call = |(index, (name, args)): (usize, &(String, Value))| {
        let mut part = json!({"functionCall": {"name": name, "args": args}});
        if index == 0 {
            part["thoughtSignature"] = json!("c2VhbA==");
        }
        part
    };
    said.calls.iter().enumerate().map(call).collect()
}

fn reason(said: &Said) -> &'static str {
    if said.end == End::Length { "MAX_TOKENS" } else { "STOP" }
}

fn candidate(index: u64, parts: Vec<Value>, finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    candidate
}

fn chunk(request: &Request, model: &str, id: &str, candidates: Vec<Value>) -> Value {
    let count = usize::try_from(request.candidates).unwrap_or(1);
    let (thoughts, all) = (request.said.thought_tokens() * count, request.said.tokens() * count);
    let mut usage = json!({
        "promptTokenCount": request.prompt_tokens, "candidatesTokenCount": all - thoughts,
        "totalTokenCount": request.prompt_tokens + all,
    });
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = json!(thoughts);
    }
    json!({"candidates": candidates, "usageMetadata": usage, "modelVersion": model, "responseId": id})
}

/// What comes instead of an answer to a prompt that the filter refuses.
fn blocked(request: &Request, model: &str, id: &str) -> Value {
    let usage = json!({"promptTokenCount": request.prompt_tokens, "totalTokenCount": request.prompt_tokens});
    json!({
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage, "modelVersion": model,
        "responseId": id,
    })
}

fn logprobs(tokens: &[&str]) -> Value {
    let chosen = |token: &&str| json!({"token": token, "tokenId": 1, "logProbability": -0.5});
    let chosen: Vec<Value> = tokens.iter().map(chosen).collect();
    let top: Vec<Value> = chosen.iter().map(|one| json!({"candidates": [one]})).collect();
    json!({"chosenCandidates": chosen, "topCandidates": top})
}
