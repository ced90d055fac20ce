//! A provider's event stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{UsageFound, arguments as arguments_of, finish};
use crate::chat::{Finish, StreamError, StreamEvent, TokenUsage};
use crate::provider::Malformed;
use crate::provider::document::{Piece, TextOr};

/// Most tools of one answer.
const TOOLS_MAX: usize = 1024;

/// Reads events one by one.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    finished: bool,
    /// Tool calls seen: the provider's number and id of each. They are numbered from 0, but some
    /// servers call all of them 0 and tell them apart by their ids.
    tools: Vec<(u64, String)>,
}

#[derive(Deserialize)]
struct Chunk {
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<UsageFound>,
    error: Option<ErrorFound>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<Delta>,
    /// Of the older completions.
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<TextOr<Piece>>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Call>>,
    /// As it was before there could be several.
    function_call: Option<Function>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorFound {
    Object { r#type: Option<String>, message: Option<String>, code: Option<serde_json::Value> },
    Text(String),
}

impl Reader {
    /// Reads the data of one event.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        if data.trim_ascii() == b"[DONE]" {
            each(StreamEvent::End);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if let Some(error) = chunk.error {
            each(StreamEvent::Error(error.into()));
            return Ok(());
        }
        if chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(Malformed);
        }
        let (id, model) = (chunk.id.unwrap_or_default(), chunk.model.unwrap_or_default());
        let choices = chunk.choices.unwrap_or_default();
        if !self.started && id.is_empty() && choices.is_empty() && chunk.usage.is_none() {
            // Azure begins with what its filters say of the prompt, before there is an answer.
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            each(StreamEvent::Start { id, model });
        }
        if let Some(usage) = chunk.usage {
            each(StreamEvent::Usage(TokenUsage::from(usage)));
        }
        let first = choices.into_iter().find(|choice| choice.index == 0);
        let Some(choice) = first else { return Ok(()) };
        let delta = choice.delta.unwrap_or_default();
        let (content, inner) = delta.content.map(TextOr::joined).unzip();
        let thought = delta.reasoning_content.or(delta.reasoning).or(inner);
        if let Some(thought) = thought.filter(|text| !text.is_empty()) {
            each(StreamEvent::Thought(thought));
        }
        for text in
            [content, delta.refusal, choice.text].into_iter().flatten().filter(|text| !text.is_empty())
        {
            each(StreamEvent::Text(text));
        }
        if let Some(logprobs) = choice.logprobs.filter(|l| l.get() != "null") {
            each(StreamEvent::Logprobs(logprobs));
        }
        let older =
            delta.function_call.map(|function| Call { index: None, id: None, function: Some(function) });
        for call in delta.tool_calls.unwrap_or_default().into_iter().chain(older) {
            self.call(call, each)?;
        }
        // Some servers send an empty reason with every chunk, some the last one twice.
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty())
            && !std::mem::replace(&mut self.finished, true)
        {
            each(StreamEvent::Finish(match finish(&reason) {
                Finish::Stop if !self.tools.is_empty() => Finish::ToolUse,
                finish => finish,
            }));
        }
        Ok(())
    }

    /// The first delta of a call names it; a name repeated in later ones adds nothing.
    fn call(&mut self, call: Call, each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let id = call.id.filter(|id| !id.is_empty());
        let Function { name, arguments } = call.function.unwrap_or(Function { name: None, arguments: None });
        let number = call.index.unwrap_or(0);
        let is_it = |(index, known): &(u64, String)| {
            *index == number && (name.is_none() || id.as_ref().is_none_or(|id| id == known))
        };
        let place = match self.tools.iter().rposition(is_it) {
            Some(place) => place,
            None if self.tools.len() >= TOOLS_MAX => return Err(Malformed),
            None => {
                let (place, name) = (self.tools.len(), name.ok_or(Malformed)?);
                let id = id.unwrap_or_else(|| format!("call_{place}"));
                self.tools.push((number, id.clone()));
                each(StreamEvent::ToolStart { index: place as u64, id, name, signature: None });
                place
            }
        };
        let index = place as u64;
        let found = arguments.filter(|found| found.get() != "null");
        let json = found.map(|found| arguments_of(&found).ok_or(Malformed)).transpose()?;
        if let Some(json) = json.filter(|json| !json.is_empty()) {
            each(StreamEvent::ToolInput { index, json });
        }
        Ok(())
    }
}

impl From<ErrorFound> for StreamError {
    fn from(found: ErrorFound) -> Self {
        match found {
            ErrorFound::Object { r#type, message, code } => Self {
                kind: r#type.unwrap_or_default(),
                message: message.unwrap_or_default(),
                code: code.and_then(|code| code.as_str().map(str::to_owned)),
            },
            ErrorFound::Text(message) => Self { kind: String::new(), message, code: None },
        }
    }
}
