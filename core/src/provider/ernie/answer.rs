//! Answers, whole and as streams: a stream's events are answers with a piece of the text each.

use serde::Deserialize;

use crate::chat::{ChatAnswer, Finish, StreamEvent, TokenUsage, ToolUse};
use crate::provider::{Malformed, document};

#[derive(Deserialize)]
struct Found {
    id: Option<String>,
    result: Option<String>,
    finish_reason: Option<String>,
    #[serde(default)]
    is_truncated: bool,
    is_end: Option<bool>,
    function_call: Option<FoundCall>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct FoundCall {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input: usage.prompt_tokens.unwrap_or(0),
            output: usage.completion_tokens.unwrap_or(0),
            ..Self::default()
        }
    }
}

impl Found {
    fn finish(&self, has_tools: bool) -> Finish {
        match self.finish_reason.as_deref() {
            Some("length") => Finish::Length,
            Some("content_filter") => Finish::Refusal,
            Some("function_call") => Finish::ToolUse,
            _ if has_tools => Finish::ToolUse,
            _ if self.is_truncated => Finish::Length,
            _ => Finish::Stop,
        }
    }
}

fn tool_use(call: FoundCall, exchange: &str) -> Result<ToolUse, Malformed> {
    let input = document::object(&call.arguments).ok_or(Malformed)?;
    let part: String = exchange.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    Ok(ToolUse { id: format!("call_{part}_0"), name: call.name, input, signature: None })
}

/// Reads an answer. It does not name its model.
pub fn read_answer(request_id: &str, body: &[u8]) -> Result<ChatAnswer, Malformed> {
    let mut found: Found = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let call = found.function_call.take().map(|call| tool_use(call, request_id)).transpose()?;
    if call.is_none() && found.result.is_none() {
        return Err(Malformed);
    }
    let finish = found.finish(call.is_some());
    Ok(ChatAnswer {
        id: found.id.unwrap_or_default(),
        model: String::new(),
        text: found.result.unwrap_or_default(),
        thoughts: Vec::new(),
        tool_uses: call.into_iter().collect(),
        finish,
        usage: found.usage.map(TokenUsage::from).unwrap_or_default(),
        logprobs: None,
    })
}

/// Reads events one by one.
#[derive(Debug)]
pub struct Reader {
    exchange: String,
    model: String,
    started: bool,
    called: bool,
    finished: bool,
}

impl Reader {
    /// A reader at the start of a stream for the request of this id, for this model.
    pub fn new(request_id: &str, model: &str) -> Self {
        let (exchange, model) = (request_id.to_owned(), model.to_owned());
        Self { exchange, model, started: false, called: false, finished: false }
    }

    /// Whether the stream may end now.
    pub const fn is_complete(&self) -> bool {
        self.finished
    }

    /// Reads the data of one event.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let mut found: Found = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if found.result.is_none() && found.function_call.is_none() && found.is_end.is_none() {
            return Err(Malformed);
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = found.id.take().unwrap_or_else(|| self.exchange.clone());
            each(StreamEvent::Start { id, model: self.model.clone() });
        }
        if let Some(text) = found.result.take().filter(|text| !text.is_empty()) {
            each(StreamEvent::Text(text));
        }
        if let Some(call) = found.function_call.take()
            && !std::mem::replace(&mut self.called, true)
        {
            let ToolUse { id, name, input, signature } = tool_use(call, &self.exchange)?;
            let index = 0;
            each(StreamEvent::ToolStart { index, id, name, signature });
            each(StreamEvent::ToolInput { index, json: input.get().to_owned() });
        }
        if let Some(usage) = found.usage.take() {
            each(StreamEvent::Usage(TokenUsage::from(usage)));
        }
        if found.is_end == Some(true) && !std::mem::replace(&mut self.finished, true) {
            each(StreamEvent::Finish(found.finish(self.called)));
        }
        Ok(())
    }
}
