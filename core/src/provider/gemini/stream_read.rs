//! A provider's event stream: each event is a piece of an answer, and the last one has a reason
//! to finish. Nothing comes after it.

use super::answer::{Candidate, Found, FoundCall, FoundPart, Logprobs, call_id, finish};
use super::partial::Arguments;
use crate::chat::{Finish, StreamEvent, TokenUsage};
use crate::provider::Malformed;
use crate::provider::stream::Progress;

/// Reads events one by one; each may hold pieces of several answers.
#[derive(Debug)]
pub struct Reader {
    model: String,
    answers: Vec<Answer>,
}

/// What is known of one answer. The first one tells what all of them use, and why the prompt is not
/// answered.
#[derive(Debug)]
struct Answer {
    exchange: String,
    started: bool,
    tools: u64,
    /// The call whose arguments come piece by piece: its number, and what has come.
    open: Option<(u64, Arguments)>,
    finished: bool,
}

impl Reader {
    /// A reader at the start of a stream of so many answers to the request of this id, by this model.
    pub fn new(request_id: &str, model: &str, answers: usize) -> Self {
        let answer = |_| Answer {
            exchange: request_id.to_owned(),
            started: false,
            tools: 0,
            open: None,
            finished: false,
        };
        Self { model: model.to_owned(), answers: (0..answers).map(answer).collect() }
    }

    /// How far one of the answers is.
    pub fn progress(&self, number: usize) -> Progress {
        match self.answers.get(number) {
            Some(Answer { finished: true, .. }) => Progress::Complete,
            Some(Answer { started: true, .. }) => Progress::Begun,
            _ => Progress::None,
        }
    }

    /// Reads the data of one event, and tells of each answer by its number.
    pub fn read(&mut self, data: &[u8], each: &mut dyn FnMut(usize, StreamEvent)) -> Result<(), Malformed> {
        let mut found: Found<'_> = serde_json::from_slice(data).map_err(|_| Malformed)?;
        if found.candidates.is_empty() && found.usage_metadata.is_none() && found.prompt_feedback.is_none() {
            return Err(Malformed);
        }
        let is_one = self.answers.len() == 1;
        for (number, answer) in self.answers.iter_mut().enumerate() {
            let is_meant = |candidate: &Candidate| is_one || usize::try_from(candidate.index) == Ok(number);
            let place = found.candidates.iter().position(is_meant);
            let candidate = place.map(|place| found.candidates.remove(place));
            let mut tell = |event| each(number, event);
            if !answer.started && (candidate.is_some() || number == 0) {
                answer.started = true;
                let id = found.response_id.as_deref().unwrap_or(&answer.exchange).to_owned();
                let model = found.model_version.as_deref().unwrap_or(&self.model).to_owned();
                tell(StreamEvent::Start { id, model });
            }
            if let Some(usage) = found.usage_metadata.filter(|_| number == 0) {
                tell(StreamEvent::Usage(TokenUsage::from(usage)));
            }
            let blocked = number == 0 && found.is_blocked();
            answer.read(candidate.unwrap_or_default(), blocked, &mut tell)?;
        }
        Ok(())
    }
}

impl Answer {
    fn read(
        &mut self,
        piece: Candidate,
        blocked: bool,
        each: &mut dyn FnMut(StreamEvent),
    ) -> Result<(), Malformed> {
        for part in piece.content.into_iter().flat_map(|content| content.parts) {
            self.part(part, each)?;
        }
        if let Some(logprobs) = piece.logprobs_result.and_then(Logprobs::openais) {
            each(StreamEvent::Logprobs(logprobs));
        }
        let reason = piece.finish_reason;
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
