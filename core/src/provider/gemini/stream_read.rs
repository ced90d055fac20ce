//! A provider's event stream: each event is a piece of an answer, and the last one has a reason
//! to finish. Nothing comes after it.

use std::borrow::Cow;

use super::answer::{Found, FoundCall, FoundPart, Logprobs, call_id, finish};
use super::partial::Arguments;
use crate::chat::{Finish, StreamEvent, TokenUsage};
use crate::provider::Malformed;

/// Reads events one by one.
#[derive(Debug)]
pub struct Reader {
    exchange: String,
    model: String,
    /// Which of several candidates is read; the only one without it.
    candidate: Option<u32>,
    started: bool,
    tools: u64,
    /// The call whose arguments come piece by piece: its number, and what has come.
    open: Option<(u64, Arguments)>,
    finished: bool,
}

impl Reader {
    /// A reader at the start of a stream for the request of this id, for this model.
    pub fn new(request_id: &str, model: &str) -> Self {
        Self {
            exchange: request_id.to_owned(),
            model: model.to_owned(),
            candidate: None,
            started: false,
            tools: 0,
            open: None,
            finished: false,
        }
    }

    /// The reader of one of several candidates, whose pieces come in one stream. The first one's
    /// tells what all of them use, and why the prompt is not answered.
    pub fn of_candidate(self, index: u32) -> Self {
        Self { candidate: Some(index), ..self }
    }

    /// Whether there was anything to be read.
    pub const fn has_begun(&self) -> bool {
        self.started
    }

    /// Whether the stream may end now.
    pub const fn is_complete(&self) -> bool {
        self.finished
    }

    /// Reads the data of one event.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let found: Found<'_> = serde_json::from_slice(data).map_err(|_| Malformed)?;
        let blocked = found.is_blocked();
        if found.candidates.is_empty() && found.usage_metadata.is_none() && found.prompt_feedback.is_none() {
            return Err(Malformed);
        }
        let mut candidates = found.candidates.into_iter();
        let candidate = match self.candidate {
            None => candidates.next(),
            Some(index) => candidates.find(|candidate| candidate.index == index),
        };
        if candidate.is_none() && self.candidate.is_some_and(|index| index > 0) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            let id = found.response_id.map_or_else(|| self.exchange.clone(), Cow::into_owned);
            let model = found.model_version.map_or_else(|| self.model.clone(), Cow::into_owned);
            each(StreamEvent::Start { id, model });
        }
        if let Some(usage) = found.usage_metadata.filter(|_| self.candidate.is_none_or(|index| index == 0)) {
            each(StreamEvent::Usage(TokenUsage::from(usage)));
        }
        let mut reason = None;
        if let Some(candidate) = candidate {
            for part in candidate.content.into_iter().flat_map(|content| content.parts) {
                self.part(part, each)?;
            }
            if let Some(logprobs) = candidate.logprobs_result.and_then(Logprobs::openais) {
                each(StreamEvent::Logprobs(logprobs));
            }
            reason = candidate.finish_reason;
        }
        if (blocked || reason.is_some()) && !std::mem::replace(&mut self.finished, true) {
            self.close(each);
            let refused = blocked.then_some(Finish::Refusal);
            let reason = reason.as_deref().unwrap_or_default();
            each(StreamEvent::Finish(refused.unwrap_or_else(|| finish(reason, self.tools > 0))));
        }
        Ok(())
    }

    fn part(&mut self, part: FoundPart, each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        match (part.function_call, part.text) {
            (Some(call), _) if call.name.is_none() => self.more(call, each)?,
            (Some(call), _) if call.will_continue || !call.partial_args.is_empty() => {
                self.open(call, part.thought_signature, each)?;
            }
            (Some(call), _) => {
                self.close(each);
                let index = self.tools;
                self.tools += 1;
                let tool = call.tool_use(index, part.thought_signature, &self.exchange)?;
                let json = tool.input.get().to_owned();
                let (id, name, signature) = (tool.id, tool.name, tool.signature);
                each(StreamEvent::ToolStart { index, id, name, signature });
                each(StreamEvent::ToolInput { index, json });
            }
            (None, Some(text)) if text.is_empty() => {}
            (None, Some(text)) if part.thought => each(StreamEvent::Thought(text)),
            (None, Some(text)) => each(StreamEvent::Text(text)),
            (None, None) => {}
        }
        Ok(())
    }

    /// A call begins whose arguments follow.
    fn open(
        &mut self,
        call: FoundCall,
        signature: Option<String>,
        each: &mut dyn FnMut(StreamEvent),
    ) -> Result<(), Malformed> {
        self.close(each);
        let index = self.tools;
        self.tools += 1;
        let id =
            call.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(&self.exchange, index));
        let name = call.name.clone().unwrap_or_default();
        each(StreamEvent::ToolStart { index, id, name, signature });
        self.open = Some((index, Arguments::default()));
        self.more(call, each)
    }

    /// More of the call that is open; an empty piece ends it.
    fn more(&mut self, call: FoundCall, each: &mut dyn FnMut(StreamEvent)) -> Result<(), Malformed> {
        let (_, arguments) = self.open.as_mut().ok_or(Malformed)?;
        for piece in call.partial_args {
            arguments.take(piece)?;
        }
        if !call.will_continue {
            self.close(each);
        }
        Ok(())
    }

    /// Tells the arguments of the call that is open.
    fn close(&mut self, each: &mut dyn FnMut(StreamEvent)) {
        if let Some((index, arguments)) = self.open.take() {
            each(StreamEvent::ToolInput { index, json: arguments.json() });
        }
    }
}
