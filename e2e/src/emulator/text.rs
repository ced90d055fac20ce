//! Deterministic text and a token count that the whole emulator agrees on.

use serde::Serialize;

/// Characters of one token at most.
const TOKEN_CHARS_MAX: usize = 6;

/// Cuts a text into tokens: a word with the white space before it, long words in several.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let (mut start, mut chars, mut in_word) = (0, 0, false);
    for (at, c) in text.char_indices() {
        let starts_word = c.is_whitespace() && in_word;
        if starts_word || chars == TOKEN_CHARS_MAX {
            tokens.push(&text[start..at]);
            (start, chars) = (at, 0);
        }
        in_word = !c.is_whitespace();
        chars += 1;
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

/// A generated text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Generated {
    pub(super) text: String,
    pub(super) finish_reason: &'static str,
}

/// The answer to a prompt: the same for the same prompt, and never longer than `tokens_max` tokens.
pub(super) fn reply(prompt: &str, tokens_max: Option<u64>) -> Generated {
    let text = format!("You said: {prompt}");
    let all = tokens(&text);
    let most = tokens_max.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    if all.len() <= most {
        return Generated { text, finish_reason: "stop" };
    }
    Generated { text: all[..most].concat(), finish_reason: "length" }
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    pub(super) fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_lose_nothing_and_split_long_words() {
        for text in ["", " ", "one", "one two", "  lead", "internationalisation", "你好，世界，今天"]
        {
            assert_eq!(tokens(text).concat(), text);
        }
        assert_eq!(tokens("say hello"), ["say", " hello"]);
        assert_eq!(tokens("unbelievable"), ["unbeli", "evable"]);
    }

    #[test]
    fn a_reply_stops_at_its_limit() {
        assert_eq!(reply("hi", None).finish_reason, "stop");
        let cut = reply("hi there", Some(2));
        assert_eq!((cut.text.as_str(), cut.finish_reason), ("You said:", "length"));
    }
}
