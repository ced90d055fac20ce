//! The members of an LLM request that decisions need.

use super::Tape;

/// What the filter knows of a request body; borrowed from it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RequestView<'t> {
    /// Raw JSON string of `model`, quotes included; empty when absent or not a string.
    pub model_raw: &'t [u8],
    /// `stream` is true.
    pub stream: bool,
    /// `temperature`, when it is a number.
    pub temperature: Option<f64>,
    /// `tools` or `functions` has members.
    pub has_tools: bool,
}

impl<'t> RequestView<'t> {
    /// Reads the view out of a tape of `text`.
    #[must_use]
    pub fn new(tape: &Tape, text: &'t [u8]) -> Self {
        let number = |name| {
            let raw = tape.member(text, name)?;
            std::str::from_utf8(raw).ok()?.parse::<f64>().ok()
        };
        let is_filled = |name| tape.member(text, name).is_some_and(|raw| !matches!(raw, b"null" | b"[]"));
        Self {
            model_raw: tape
                .member(text, "model")
                .filter(|raw| raw.first() == Some(&b'"'))
                .unwrap_or_default(),
            stream: tape.member(text, "stream") == Some(b"true"),
            temperature: number("temperature"),
            has_tools: is_filled("tools") || is_filled("functions"),
        }
    }
}

/// What a request says about the length of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBound {
    /// Most tokens of an answer, if there is a bound: OpenAI's `max_completion_tokens`,
    /// `max_tokens` or `max_output_tokens`, Anthropic's `max_tokens`.
    pub tokens: Option<u64>,
    /// How many answers are asked for (OpenAI's `n`), at least 1.
    pub answers: u64,
}

impl OutputBound {
    /// Most answers that count; OpenAI gives no more.
    const ANSWERS_MAX: u64 = 128;

    /// Reads the bound out of a tape of `text`.
    #[must_use]
    pub fn read(tape: &Tape, text: &[u8]) -> Self {
        let number = |name| std::str::from_utf8(tape.member(text, name)?).ok()?.parse::<u64>().ok();
        let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        Self {
            tokens: names.into_iter().find_map(number),
            answers: number("n").unwrap_or(1).clamp(1, Self::ANSWERS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_on_an_answer_has_three_names() {
        let read = |text: &[u8]| {
            let mut tape = Tape::default();
            tape.read(text).expect("valid");
            let OutputBound { tokens, answers } = OutputBound::read(&tape, text);
            (tokens, answers)
        };
        assert_eq!(read(br#"{"max_tokens":7}"#), (Some(7), 1));
        assert_eq!(read(br#"{"max_completion_tokens":8,"max_tokens":7,"n":3}"#), (Some(8), 3));
        assert_eq!(read(br#"{"max_output_tokens":9,"n":0}"#), (Some(9), 1));
        assert_eq!(read(br#"{"max_tokens":-1,"n":1e9}"#), (None, 1));
        assert_eq!(read(br#"{"max_tokens":null,"n":1000000000}"#), (None, 128));
    }

    #[test]
    fn members_of_the_wrong_type_are_absent() {
        let mut tape = Tape::default();
        let text = br#"{"model":"m","stream":true,"temperature":0.5,"tools":[{}]}"#;
        tape.read(text).expect("valid");
        let view = RequestView::new(&tape, text);
        assert_eq!(view.model_raw, b"\"m\"");
        assert!(view.stream && view.has_tools);
        assert_eq!(view.temperature, Some(0.5));

        let text = br#"{"model":7,"stream":"true","temperature":null,"tools":[]}"#;
        tape.read(text).expect("valid");
        assert_eq!(RequestView::new(&tape, text), RequestView::default());
    }
}
