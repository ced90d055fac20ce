//! What the emulated model says, whatever protocol it is asked in: the same for the same request.
//!
//! It repeats what it was told. It uses a tool when it must, or when the text begins with
//! `use a tool`; all of them when it begins with `use all tools`. What it gives to a tool, and what
//! it says when JSON is wanted, is always `{"text": ..., "numbers": [1, 2]}`.

use serde_json::{Value, json};

use super::text;

/// A text that begins so makes the model use its first tool.
const ONE_TOOL: &str = "use a tool";
/// And so all of them.
const ALL_TOOLS: &str = "use all tools";
/// A text with this is more than the model can hold.
const TOO_LONG: &str = "more than fits";
/// A text with this is refused by those who filter.
const FORBIDDEN: &str = "trip the filter";

/// A request, as far as the model cares.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    /// What the user said last, or what a tool gave.
    pub(super) text: String,
    /// Whether it is a tool that has spoken last.
    pub(super) is_tool_result: bool,
    /// Pictures in what the user said last.
    pub(super) images: usize,
    pub(super) tools: Vec<String>,
    pub(super) choice: Choice,
    /// The answer must be JSON.
    pub(super) as_json: bool,
    /// The model is to say what it thinks.
    pub(super) thinks: bool,
    pub(super) tokens_max: Option<u64>,
    pub(super) stops: Vec<&'a str>,
}

/// Which tools may be used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    #[default]
    Auto,
    Never,
    Any,
    Named(String),
}

/// What the model said.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub(super) thought: Option<String>,
    pub(super) text: String,
    /// Names of the tools it uses, and what it gives them.
    pub(super) calls: Vec<(String, Value)>,
    pub(super) end: End,
}

/// Why it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Natural,
    Length,
    /// At this text.
    Stop(String),
    Tools,
}

impl Said {
    /// The tokens it took.
    pub(super) fn tokens(&self) -> usize {
        let calls = self.calls.iter().map(|(_, input)| text::tokens(&input.to_string()).len());
        text::tokens(&self.text).len() + self.thought_tokens() + calls.sum::<usize>()
    }

    /// Those of them that it thought.
    pub(super) fn thought_tokens(&self) -> usize {
        self.thought.as_deref().map_or(0, |thought| text::tokens(thought).len())
    }
}

impl Asked<'_> {
    /// Whether the request is too long for the model.
    pub(super) fn is_too_long(&self) -> bool {
        self.text.contains(TOO_LONG)
    }

    /// Whether a filter refuses the request.
    pub(super) fn is_forbidden(&self) -> bool {
        self.text.contains(FORBIDDEN)
    }

    /// The answer.
    pub(super) fn answer(&self) -> Said {
        let thought = self.thinks.then(|| format!("They said: {}", self.text));
        let input = json!({"text": self.text, "numbers": [1, 2]});
        let calls: Vec<_> = self.used().into_iter().map(|name| (name, input.clone())).collect();
        if !calls.is_empty() {
            return Said { thought, text: String::new(), calls, end: End::Tools };
        }
        if self.as_json {
            return Said { thought, text: input.to_string(), calls, end: End::Natural };
        }
        let said = match self.images {
            0 => self.text.clone(),
            images => format!("{} ({images} pictures)", self.text),
        };
        let reply = text::reply(&said, self.tokens_max);
        let end = if reply.finish_reason == "length" { End::Length } else { End::Natural };
        let mut said = Said { thought, text: reply.text, calls, end };
        if let Some((at, stop)) = self.stops.iter().filter_map(|s| Some((said.text.find(s)?, *s))).min() {
            said.text.truncate(at);
            said.end = End::Stop(stop.to_owned());
        }
        said
    }

    fn used(&self) -> Vec<String> {
        match &self.choice {
            Choice::Never => Vec::new(),
            Choice::Named(name) => vec![name.clone()],
            Choice::Auto | Choice::Any if !self.is_tool_result && self.text.starts_with(ALL_TOOLS) => {
                self.tools.clone()
            }
            Choice::Any => self.tools.first().cloned().into_iter().collect(),
            Choice::Auto if self.is_tool_result || !self.text.starts_with(ONE_TOOL) => Vec::new(),
            Choice::Auto => self.tools.first().cloned().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked<'_> {
        Asked { text: text.to_owned(), tools: vec!["a".to_owned(), "b".to_owned()], ..Asked::default() }
    }

    fn used(asked: &Asked<'_>) -> Vec<String> {
        asked.answer().calls.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn tools_are_used_when_they_must_be_or_on_cue() {
        assert!(used(&asked("hello")).is_empty());
        assert_eq!(used(&asked("use a tool: x")), ["a"]);
        assert_eq!(used(&asked("use all tools")), ["a", "b"]);
        assert!(used(&Asked { is_tool_result: true, ..asked("use a tool: x") }).is_empty());
        assert!(used(&Asked { choice: Choice::Never, ..asked("use a tool") }).is_empty());
        assert_eq!(used(&Asked { choice: Choice::Any, ..asked("hello") }), ["a"]);
        assert_eq!(used(&Asked { choice: Choice::Named("b".to_owned()), ..asked("hello") }), ["b"]);
    }

    #[test]
    fn an_answer_ends_where_it_must() {
        let end = |asked: &Asked<'_>| (asked.answer().text, asked.answer().end);
        assert_eq!(end(&asked("a b")), ("You said: a b".to_owned(), End::Natural));
        let cut = Asked { tokens_max: Some(2), ..asked("a b") };
        assert_eq!(end(&cut), ("You said:".to_owned(), End::Length));
        let stopped = Asked { stops: vec!["b", ": "], ..asked("a b") };
        assert_eq!(end(&stopped), ("You said".to_owned(), End::Stop(": ".to_owned())));
        let structured = Asked { as_json: true, ..asked("x") };
        let said: Value = serde_json::from_str(&structured.answer().text).unwrap();
        assert_eq!(said, json!({"text": "x", "numbers": [1, 2]}));
        assert_eq!(Asked { images: 2, ..asked("x") }.answer().text, "You said: x (2 pictures)");
    }
}
