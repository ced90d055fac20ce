//! What happens to a wish that a provider cannot fulfil: refused, or dropped and said so.

use crate::chat::Tool;
use crate::reply::Reply;

/// Most dropped fields that are named; each is one more name in a response header.
const DROPPED_MAX: usize = 32;

/// How strictly a request is held to what the provider can do, and what was dropped so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    lenient: bool,
    dropped: Vec<String>,
}

impl Fit {
    /// Everything asked for must be possible.
    #[must_use]
    pub const fn strict() -> Self {
        Self { lenient: false, dropped: Vec::new() }
    }

    /// What is not possible is left out.
    #[must_use]
    pub const fn lenient() -> Self {
        Self { lenient: true, dropped: Vec::new() }
    }

    /// The fields left out, as paths in the caller's request.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
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
}
