//! A provider's event stream, after its frames were opened ([`super::FrameDecoder`]).

use serde::Deserialize;

use super::answer::{Usage, finish};
use crate::chat::{StreamError, StreamEvent, TokenUsage};
use crate::provider::Malformed;

/// Reads events one by one.
#[derive(Debug)]
pub struct Reader {
    exchange: String,
    model: String,
    finished: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    message_start: Option<serde::de::IgnoredAny>,
    content_block_start: Option<BlockStart>,
    content_block_delta: Option<BlockDelta>,
    message_stop: Option<MessageStop>,
    metadata: Option<Metadata>,
    internal_server_exception: Option<Exception>,
    model_stream_error_exception: Option<Exception>,
    model_timeout_exception: Option<Exception>,
    service_unavailable_exception: Option<Exception>,
    throttling_exception: Option<Exception>,
    validation_exception: Option<Exception>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    start: Start,
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolStart {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    delta: Delta,
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<ToolDelta>,
    reasoning_content: Option<ThoughtDelta>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThoughtDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    #[serde(default)]
    stop_reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Exception {
    message: Option<String>,
}

impl Found {
    /// The exception that ended the stream, with its kind in words that all protocols have.
    fn exception(&mut self) -> Option<(Exception, &'static str)> {
        let invalid = self.validation_exception.take().map(|e| (e, "invalid_request_error"));
        let limited = || Some((self.throttling_exception.take()?, "rate_limit_error"));
        invalid
            .or_else(limited)
            .or_else(|| Some((self.service_unavailable_exception.take()?, "overloaded_error")))
            .or_else(|| Some((self.model_timeout_exception.take()?, "timeout_error")))
            .or_else(|| Some((self.model_stream_error_exception.take()?, "api_error")))
            .or_else(|| Some((self.internal_server_exception.take()?, "api_error")))
    }
}

impl Reader {
    /// A reader at the start of a stream for the request of this id, for this model: the stream
    /// names neither.
    pub fn new(request_id: &str, model: &str) -> Self {
        Self { exchange: request_id.to_owned(), model: model.to_owned(), finished: false }
    }

    /// Whether the stream may end now.
    pub const fn is_complete(&self) -> bool {
        self.finished
    }

    /// Reads the data of one event. What is of an unknown type passes unseen.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let mut found: Found = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if let Some((exception, kind)) = found.exception() {
            let message = exception.message.unwrap_or_default();
            each(StreamEvent::Error(StreamError { kind: kind.to_owned(), message, code: None }));
            return Ok(());
        }
        if found.message_start.is_some() {
            each(StreamEvent::Start { id: self.exchange.clone(), model: self.model.clone() });
        }
        if let Some(BlockStart { start, content_block_index: index }) = found.content_block_start
            && let Some(ToolStart { tool_use_id: id, name }) = start.tool_use
        {
            each(StreamEvent::ToolStart { index, id, name, signature: None });
        }
        if let Some(BlockDelta { delta, content_block_index }) = found.content_block_delta {
            read_delta(delta, content_block_index, each);
        }
        if let Some(stop) = found.message_stop {
            self.finished = true;
            each(StreamEvent::Finish(finish(&stop.stop_reason)));
        }
        if let Some(usage) = found.metadata.and_then(|metadata| metadata.usage) {
            each(StreamEvent::Usage(TokenUsage::from(usage)));
        }
        Ok(())
    }
}

fn read_delta(delta: Delta, index: u64, each: &mut dyn FnMut(StreamEvent)) {
    if let Some(text) = delta.text.filter(|text| !text.is_empty()) {
        each(StreamEvent::Text(text));
    }
    if let Some(json) = delta.tool_use.map(|tool| tool.input).filter(|json| !json.is_empty()) {
        each(StreamEvent::ToolInput { index, json });
    }
    if let Some(thought) = delta.reasoning_content {
        if let Some(text) = thought.text.filter(|text| !text.is_empty()) {
            each(StreamEvent::Thought(text));
        }
        if let Some(signature) = thought.signature {
            each(StreamEvent::ThoughtSignature(signature));
        }
        if let Some(data) = thought.redacted_content {
            each(StreamEvent::RedactedThought(data));
        }
    }
}
