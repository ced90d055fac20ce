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

#[cfg(test)]
mod tests {
    use super::*;

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
