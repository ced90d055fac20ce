//! How many tokens a text has, without any model's vocabulary: an estimate, for callers who ask
//! before they send. Against what providers reported for recorded requests it was within a
//! quarter for conversations, and up to 40 % too high where tools' schemas made up most of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{ChatRequest, DocumentSource, Part, ResultPart};

/// Letters of a Latin word that go into its first token, and into each further one.
const WORD_LETTERS: (u64, u64) = (7, 4);
/// Digits of a token.
const NUMBER_DIGITS: u64 = 3;
/// What a turn, or a tool, costs beside its text.
const FRAME_TOKENS: u64 = 4;
/// What a picture is taken for: its size is not known without decoding it.
const IMAGE_TOKENS: u64 = 1_000;
/// Bytes of sound that are taken for one token: 25 tokens a second at 128 kbit/s.
const AUDIO_TOKEN_BYTES: u64 = 640;
/// Bytes of a document that are taken for one token: half of a PDF is not text.
const DOCUMENT_TOKEN_BYTES: u64 = 8;

/// An unbroken run of base64 that is at least this long is a picture, in characters.
const PICTURE_RUN_MIN: u64 = 2_048;

/// Estimates the tokens of one text.
#[must_use]
pub fn estimate_tokens(text: &str) -> u64 {
    let mut count = Count::default();
    text.chars().for_each(|c| count.push(c));
    count.end()
}

/// Estimates the tokens of a request in JSON without knowing its protocol: of all its strings,
/// where the names of members stand for what a turn costs beside its text. Pictures inside the
/// body are taken for what pictures are.
#[must_use]
pub fn estimate_json_tokens(json: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(json);
    let (mut count, mut run) = (Count::default(), Run::default());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        match (in_string, c) {
            (true, _) if std::mem::take(&mut escaped) => count.push(' '),
            (true, '\\') => escaped = true,
            (_, '"') => {
                in_string = !in_string;
                run.end(&mut count);
                count.push(' ');
            }
            (true, c) => {
                run.push(c, &mut count);
                count.push(c);
            }
            // Numbers and `true`; not the marks between them.
            (false, c) if c.is_ascii_alphanumeric() => count.push(c),
            (false, _) => count.push(' '),
        }
    }
    count.end()
}

/// Members of a request, in any of the protocols, that a model reads.
const READ: [&str; 8] =
    ["messages", "input", "prompt", "system", "instructions", "tools", "functions", "response_format"];

/// Estimates the tokens of a request in JSON as [`estimate_json_tokens`] does, of what the model reads
/// alone: not of the model's name or the request's parameters.
#[must_use]
pub fn estimate_prompt_tokens(json: &[u8]) -> u64 {
    let Ok(members) = serde_json::from_slice::<BTreeMap<Cow<'_, str>, &RawValue>>(json) else {
        return estimate_json_tokens(json);
    };
    let read = READ.iter().filter_map(|name| members.get(*name));
    read.map(|value| estimate_json_tokens(value.get().as_bytes())).sum()
}

/// Tokens counted so far, and the word, number or foreign text that is not yet.
#[derive(Default)]
struct Count {
    tokens: u64,
    letters: u64,
    digits: u64,
    others: u64,
}

impl Count {
    fn push(&mut self, c: char) {
        let (is_letter, is_digit) = (c.is_ascii_alphabetic(), c.is_ascii_digit());
        if !is_letter {
            self.tokens += word(std::mem::take(&mut self.letters));
        }
        if !is_digit {
            self.tokens += std::mem::take(&mut self.digits).div_ceil(NUMBER_DIGITS);
        }
        match c {
            _ if is_letter => self.letters += 1,
            _ if is_digit => self.digits += 1,
            ' ' | '\t' | '\r' => {}
            _ if c.is_ascii() || is_ideographic(c) => self.tokens += 1,
            _ => self.others += 1,
        }
    }

    const fn end(&self) -> u64 {
        self.tokens + word(self.letters) + self.digits.div_ceil(NUMBER_DIGITS) + self.others.div_ceil(2)
    }
}

/// A run of base64, and what was counted before it.
#[derive(Default)]
struct Run {
    length: u64,
    before: u64,
}

impl Run {
    fn push(&mut self, c: char, count: &mut Count) {
        if !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=')) {
            self.end(count);
        } else if self.length == 0 {
            *self = Self { length: 1, before: count.tokens };
        } else {
            self.length += 1;
        }
    }

    fn end(&mut self, count: &mut Count) {
        if self.length >= PICTURE_RUN_MIN {
            *count = Count { tokens: self.before + IMAGE_TOKENS, others: count.others, ..Count::default() };
        }
        self.length = 0;
    }
}

/// Estimates the tokens of a whole prompt: texts, tools and pictures.
#[must_use]
pub fn estimate_request_tokens(request: &ChatRequest) -> u64 {
    let system: u64 = request.system.iter().map(|text| FRAME_TOKENS + estimate_tokens(text)).sum();
    let tools = request.tools.iter().map(|tool| {
        let description = tool.description.as_deref().unwrap_or_default();
        FRAME_TOKENS
            + estimate_tokens(&tool.name)
            + estimate_tokens(description)
            + estimate_tokens(tool.schema.get())
    });
    let parts = |turn: &super::Turn| turn.parts.iter().map(part).sum::<u64>();
    let turns = request.turns.iter().map(|turn| FRAME_TOKENS + parts(turn));
    system + tools.sum::<u64>() + turns.sum::<u64>()
}

fn part(part: &Part) -> u64 {
    match part {
        Part::Text(text) => estimate_tokens(text),
        Part::Image(_) => IMAGE_TOKENS,
        Part::Audio(audio) => base64_bytes(&audio.data) / AUDIO_TOKEN_BYTES,
        Part::Document(document) => match &document.source {
            DocumentSource::Text(text) => estimate_tokens(text),
            DocumentSource::Base64 { data, .. } => base64_bytes(data) / DOCUMENT_TOKEN_BYTES,
            DocumentSource::Url(_) => IMAGE_TOKENS,
        },
        Part::Thought(thought) => estimate_tokens(&thought.text),
        Part::ToolUse(tool) => estimate_tokens(&tool.name) + estimate_tokens(tool.input.get()),
        Part::ToolResult { content, .. } => content
            .iter()
            .map(|piece| match piece {
                ResultPart::Text(text) => estimate_tokens(text),
                ResultPart::Image(_) => IMAGE_TOKENS,
            })
            .sum(),
    }
}

const fn base64_bytes(data: &str) -> u64 {
    data.len() as u64 / 4 * 3
}

const fn word(letters: u64) -> u64 {
    match letters {
        0 => 0,
        _ => 1 + letters.saturating_sub(WORD_LETTERS.0).div_ceil(WORD_LETTERS.1),
    }
}

/// Scripts whose characters are words, or near enough.
const fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{20000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_does_not_read_has_no_tokens() {
        let short = br#"{"messages":[{"role":"user","content":"how long is the Elbe"}]}"#;
        let long =
            br#"{"model":"a-model-of-a-long-name-2026","stream":true,"stream_options":{"include_usage":true},
            "messages":[{"role":"user","content":"how long is the Elbe"}],"user":"somebody"}"#;
        assert_eq!(estimate_prompt_tokens(short), estimate_prompt_tokens(long));
        assert!((5..20).contains(&estimate_prompt_tokens(short)));
        assert_eq!(estimate_prompt_tokens(b"no JSON"), estimate_json_tokens(b"no JSON"));
    }

    #[test]
    fn words_digits_and_characters_are_counted() {
        for (text, least, most) in [
            ("", 0, 0),
            ("Hello, world!", 4, 4),
            ("The quick brown fox jumps over the lazy dog.", 9, 11),
            ("internationalisation", 3, 5),
            ("1234567890", 4, 4),
            ("你好，世界", 5, 7),
            ("fn main() { println!(\"hi\"); }", 10, 17),
        ] {
            let estimate = estimate_tokens(text);
            assert!((least..=most).contains(&estimate), "{text}: {estimate}");
        }
    }

    #[test]
    fn a_request_is_estimated_near_its_texts() {
        let words = "the quick brown fox, twice over; ".repeat(50);
        let json = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{words}"}}]}}"#);
        let (text, request) = (estimate_tokens(&words), estimate_json_tokens(json.as_bytes()));
        assert!((text..=text + 12).contains(&request), "{text} {request}");
        let picture =
            format!(r#"{{"url":"data:image/png;base64,{}","text":"hi"}}"#, "iVBORw0KGgo7".repeat(10_000));
        let tokens = estimate_json_tokens(picture.as_bytes());
        assert!((IMAGE_TOKENS..IMAGE_TOKENS + 20).contains(&tokens), "{tokens}");
        assert_eq!(estimate_json_tokens(br#"{"a":"\"\\"}"#), 1);
    }

    #[test]
    fn text_added_never_makes_it_less() {
        let text = "Größe 12345 你好 don't — ok.";
        let mut last = 0;
        for (end, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let now = estimate_tokens(&text[..end]);
            assert!(now >= last, "{}", &text[..end]);
            last = now;
        }
    }
}
