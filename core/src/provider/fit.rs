//! What happens to a wish that a provider cannot fulfil: refused, or dropped and said so.

use super::Front;
use crate::chat::Tool;
use crate::reply::Reply;

/// Most dropped fields that are named; each is one more name in a response header.
const DROPPED_MAX: usize = 32;

/// How strictly a request is held to what the provider can do, and what was dropped so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    lenient: bool,
    dropped: Vec<String>,
    /// Where the request that is being written came in: what cannot be written is named as there.
    front: Option<Front>,
}

impl Fit {
    /// Everything asked for must be possible.
    #[must_use]
    pub const fn strict() -> Self {
        Self { lenient: false, dropped: Vec::new(), front: None }
    }

    /// What is not possible is left out.
    #[must_use]
    pub const fn lenient() -> Self {
        Self { lenient: true, dropped: Vec::new(), front: None }
    }

    /// The fields left out, as paths in the caller's request.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// The request has been read: from now on fields have the names of OpenAI's chat completions, as
    /// all that is about the canonical form.
    pub(super) const fn has_read(&mut self, front: Front) {
        self.front = Some(front);
    }

    /// A refusal of what was read, with the field as its caller knows it.
    pub(super) fn in_callers_words(&self, mut refusal: Reply) -> Reply {
        if let Some(field) = refusal.param.take() {
            let own = self.callers(&field);
            refusal.message = refusal.message.replace(&format!("`{field}`"), &format!("`{own}`"));
            refusal.param = Some(own);
        }
        refusal
    }

    /// What a field of chat completions is called where the request came in.
    fn callers(&self, field: &str) -> String {
        let own = match (self.front, field) {
            (Some(Front::Messages), "reasoning_effort") => "thinking",
            (Some(Front::Messages), "parallel_tool_calls") => "tool_choice.disable_parallel_tool_use",
            (Some(Front::Messages), "response_format") => "output_config.format",
            (Some(Front::Messages), "stop") => "stop_sequences",
            (Some(Front::Messages), "user") => "metadata.user_id",
            (Some(Front::Responses), "reasoning_effort") => "reasoning.effort",
            (Some(Front::Responses), "response_format") => "text.format",
            (Some(Front::Responses), "messages") => "input",
            (Some(Front::Completions), "messages") => "prompt",
            (Some(Front::Messages | Front::Responses), field) => return field.replace(".function.", "."),
            (_, field) => field,
        };
        own.to_owned()
    }

    /// Leaves out the field that `refusal` names.
    ///
    /// # Errors
    /// `refusal`, when nothing may be left out.
    pub(super) fn cannot(&mut self, refusal: Reply) -> Result<(), Reply> {
        if !self.lenient {
            return Err(refusal);
        }
        if let Some(field) = refusal.param {
            self.note(field);
        }
        Ok(())
    }

    /// Leaves out a promise that the provider does not give but mostly keeps: the answer means
    /// the same without it.
    pub(super) fn note(&mut self, field: String) {
        let field = self.callers(&field);
        if self.dropped.len() < DROPPED_MAX && !self.dropped.contains(&field) {
            self.dropped.push(field);
        }
    }

    /// Notes that tools' inputs may stray from their schemas.
    pub(super) fn note_strict_tools(&mut self, tools: &[Tool]) {
        for (index, _) in tools.iter().enumerate().filter(|(_, tool)| tool.strict) {
            self.note(format!("tools[{index}].function.strict"));
        }
    }

    /// As [`Fit::cannot`], for a field that is asked for when `asked`.
    ///
    /// # Errors
    /// `refusal`, when it is asked for and nothing may be left out.
    pub(super) fn cannot_if(&mut self, asked: bool, refusal: impl FnOnce() -> Reply) -> Result<(), Reply> {
        if asked { self.cannot(refusal()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::document::unsupported;

    #[test]
    fn strictness_refuses_and_lenience_remembers_each_field_once_and_boundedly() {
        assert!(Fit::strict().cannot(unsupported("seed")).is_err());
        let mut fit = Fit::lenient();
        for index in 0..100 {
            fit.cannot(unsupported("seed")).expect("lenient");
            fit.cannot(unsupported(&format!("f{index}"))).expect("lenient");
        }
        assert_eq!(fit.dropped()[0], "seed");
        assert_eq!(fit.dropped().len(), DROPPED_MAX);
    }

    #[test]
    fn what_cannot_be_written_has_the_name_that_its_caller_knows() {
        for (front, field, own) in [
            (Front::Chat, "reasoning_effort", "reasoning_effort"),
            (Front::Messages, "reasoning_effort", "thinking"),
            (Front::Messages, "tools[2].function.strict", "tools[2].strict"),
            (Front::Responses, "messages", "input"),
            (Front::Completions, "messages", "prompt"),
        ] {
            let mut fit = Fit::lenient();
            fit.has_read(front);
            fit.cannot(unsupported(field)).expect("lenient");
            assert_eq!(fit.dropped(), [own]);
            let refusal = fit.in_callers_words(unsupported(field));
            assert_eq!((refusal.param, refusal.message), (Some(own.to_owned()), unsupported(own).message));
        }
    }
}
