//! Reads an error's own words out of what surrounds them: JSON, JSON inside JSON, a printed
//! Python dictionary, or the client library's prose. Providers and gateways nest these freely,
//! and bodies arrive cut off, so this looks for the fields and does not parse the whole.

use super::mask::{TEXT_BYTES_MAX, head, mask};
use super::page::{self, PAGE_CODE};

/// Most codes kept of one error.
pub const CODES_MAX: usize = 4;
/// Longest code, in bytes.
pub const CODE_BYTES_MAX: usize = 64;
/// How deep messages are looked for inside messages.
const DEPTH_MAX: usize = 4;
/// Most fields looked at in one text.
const FIELDS_MAX: usize = 64;

const MESSAGE_FIELDS: [&str; 14] = [
    "message",
    "msg",
    "error_message",
    "error_msg",
    "errorMessage",
    "err_msg",
    "errmsg",
    "errMsg",
    "ErrorMessage",
    "status_msg",
    "detail",
    "Message",
    "raw",
    "faultstring",
];
/// Fields that are the message where there is no other: Ollama, TGI and Hugging Face write
/// `{"error": "..."}`, OAuth servers `error_description`, and RFC 9457 has a title.
const SPARE_FIELDS: [&str; 3] = ["error_description", "error", "title"];
const CODE_FIELDS: [&str; 12] = [
    "code",
    "type",
    "status",
    "reason",
    "error_code",
    "error_type",
    "errorCode",
    "err_code",
    "errcode",
    "Code",
    "__type",
    "name",
];
/// Messages that only say that there is another one.
const EMPTY_WORDS: [&str; 3] = ["Provider returned error", "error", "Error"];

/// What an error says, before it is masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorText {
    /// Its message; the whole text where no message can be told apart.
    pub message: String,
    /// Its codes and types, as the provider writes them; at most [`CODES_MAX`].
    pub codes: Vec<String>,
    /// The HTTP status the text itself names.
    pub status: Option<u16>,
}

impl ErrorText {
    /// Reads the first [`TEXT_BYTES_MAX`] bytes of `text`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let text = head(text, TEXT_BYTES_MAX);
        let page = page::words(text);
        let text = page.as_deref().unwrap_or(text);
        let mut found = Self { status: status_in(text), ..Self::default() };
        found.message = found.look(text, 0).unwrap_or_else(|| text.to_owned());
        if page.is_some() {
            found.note(PAGE_CODE);
        }
        found.exceptions(text);
        found
    }

    /// The masked message.
    #[must_use]
    pub fn template(&self) -> String {
        mask(&self.message)
    }

    /// The innermost message of `text`; notes the codes on the way.
    fn look(&mut self, text: &str, depth: usize) -> Option<String> {
        let mut message: Option<String> = None;
        let mut spare: Option<(usize, &str)> = None;
        let mut rest = text;
        for _ in 0..FIELDS_MAX {
            let Some((name, value, after)) = next_field(rest) else { break };
            if CODE_FIELDS.contains(&name) {
                self.code(value);
            }
            let wanted = message.as_deref().is_none_or(|m| EMPTY_WORDS.contains(&m));
            if MESSAGE_FIELDS.contains(&name) && wanted && !value.trim().is_empty() {
                let inner = (depth < DEPTH_MAX).then(|| self.look(value, depth + 1)).flatten();
                message = Some(inner.unwrap_or_else(|| value.trim().to_owned()));
            }
            let rank = SPARE_FIELDS.iter().position(|spare| *spare == name);
            if let Some(rank) = rank.filter(|_| !value.trim().is_empty())
                && spare.is_none_or(|(best, _)| rank < best)
            {
                spare = Some((rank, value.trim()));
            }
            rest = after;
        }
        message.or_else(|| {
            let (_, value) = spare?;
            let inner = (depth < DEPTH_MAX).then(|| self.look(value, depth + 1)).flatten();
            Some(inner.unwrap_or_else(|| value.to_owned()))
        })
    }

    fn code(&mut self, value: &str) {
        let value = value.trim();
        let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        let says_nothing = matches!(value, "null" | "None" | "none" | "error" | "Error" | "true" | "false");
        if !plain || says_nothing || !(3..=CODE_BYTES_MAX).contains(&value.len()) {
            return;
        }
        match value.parse::<u16>() {
            Ok(status @ 100..=599) => self.status = self.status.or(Some(status)),
            _ => self.note(value),
        }
    }

    fn note(&mut self, code: &str) {
        if self.codes.len() < CODES_MAX && !self.codes.iter().any(|known| known == code) {
            self.codes.push(code.to_owned());
        }
    }

    /// Names of exceptions in the words around the message.
    fn exceptions(&mut self, text: &str) {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.len() <= CODE_BYTES_MAX) {
            let stem = word.strip_suffix("Exception").or_else(|| word.strip_suffix("Error")).unwrap_or("");
            if stem.len() >= 3 && stem.starts_with(|c: char| c.is_ascii_uppercase()) {
                self.note(word);
            }
        }
    }
}

/// The next `name: value` of a known name: the name, the value, and what follows it. A value that
/// is an object or a list is looked into, so it is not itself a field.
fn next_field(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        let start = from + rest.find(|c: char| c.is_ascii_alphabetic() || c == '_')?;
        let word = text.get(start..)?;
        let length = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(word.len());
        let (name, after) = word.split_at_checked(length)?;
        let attached =
            text.get(..start)?.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        let known = MESSAGE_FIELDS.contains(&name) || CODE_FIELDS.contains(&name);
        // Outside of quotes these are words like any other.
        let spare =
            || SPARE_FIELDS.contains(&name) && after.trim_start_matches('\\').starts_with(['"', '\'']);
        if (known || spare())
            && !attached
            && let Some((value, after)) = value_of(after, CODE_FIELDS.contains(&name))
        {
            return Some((name, value, after));
        }
        from = start + length;
    }
    None
}

/// What follows a name, if it is a value; without quotes a code is one word, and a message the
/// rest of its line.
fn value_of(after_name: &str, one_word: bool) -> Option<(&str, &str)> {
    let unquoted = after_name.trim_start_matches('\\');
    let quoted = unquoted.starts_with(['"', '\'']);
    let rest = unquoted.trim_start_matches(['"', '\'']).trim_start();
    let rest = rest.strip_prefix(':').or_else(|| rest.strip_prefix('=').filter(|_| !quoted))?.trim_start();
    let rest = rest.strip_prefix("Optional(").unwrap_or(rest);
    let slashes = rest.len() - rest.trim_start_matches('\\').len();
    let inside = rest.get(slashes..)?;
    if let Some(quote) = inside.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inside = inside.get(1..)?;
        let end = closing(inside, quote, slashes);
        let close = end + slashes + 1;
        return Some((inside.get(..end)?, inside.get(close..).unwrap_or_default()));
    }
    if rest.starts_with(['{', '[']) {
        return None;
    }
    let ends: &[char] = match (quoted, one_word) {
        (true, _) => &[',', '}', ']', '\n'],
        (false, true) => &[',', '}', ']', ' ', '\n'],
        (false, false) => &['\n'],
    };
    let end = rest.find(ends).unwrap_or(rest.len());
    Some((rest.get(..end)?, rest.get(end..)?))
}

/// Where the string that opened with `slashes` backslashes and `quote` ends.
fn closing(inside: &str, quote: char, slashes: usize) -> usize {
    for (at, _) in inside.match_indices(quote) {
        let before = inside.get(..at).unwrap_or_default();
        let preceding = before.len() - before.trim_end_matches('\\').len();
        let after = inside.get(at + 1..).and_then(|rest| rest.chars().next());
        // An apostrophe inside a Python string that was printed without care.
        let apostrophe = quote == '\'' && after.is_some_and(|c| c.is_ascii_alphanumeric());
        if preceding == slashes && !apostrophe {
            return at - slashes;
        }
    }
    inside.len()
}

/// A status that the text names: at its very start, or after the word for it.
fn status_in(text: &str) -> Option<u16> {
    let window = head(text, 256);
    for (at, _) in window.match_indices(['4', '5']) {
        let before = window.get(..at)?;
        let digits = window.get(at..at + 3).unwrap_or_default();
        let after = window.get(at + 3..).and_then(|rest| rest.chars().next());
        let alone = !before
            .ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ','))
            && !after.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, ',' | '_'));
        if !alone {
            continue;
        }
        let lead = before.trim_end_matches([' ', ':', '(', '[', '<', '\'', '"', '=']).to_ascii_lowercase();
        let said = lead.is_empty() && before.len() < 4
            || ["error", "code", "status", "http", "rejected"].iter().any(|word| lead.ends_with(word));
        if said && let Ok(status @ 400..=599) = digits.parse::<u16>() {
            return Some(status);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, String, Option<u16>) {
        let read = ErrorText::read(text);
        (read.message, read.codes.join(" "), read.status)
    }

    #[test]
    fn the_message_is_found_in_every_wrapping() {
        for (text, message, codes, status) in [
            (
                r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                "Rate limit reached",
                "tokens rate_limit_exceeded",
                None,
            ),
            (
                "openai.AuthenticationError: Error code: 401 - {'error': {'message': 'Incorrect API key. It\\'s bad', 'code': 'invalid_api_key'}}",
                "Incorrect API key. It\\'s bad",
                "invalid_api_key AuthenticationError",
                Some(401),
            ),
            (
                r#"{"error":{"message":"{\n \"error\": {\n \"message\": \"User location\",\n \"status\": \"FAILED_PRECONDITION\"}}","code":400}}"#,
                "User location",
                "FAILED_PRECONDITION",
                Some(400),
            ),
            (
                r#"{"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"Bad schema\"}}"}}"#,
                "Bad schema",
                "",
                None,
            ),
            (
                r#"{ "error": { "message": { "error": { "code": 403, "message": "Denied", "status": "PERMISSION_DENIED","#,
                "Denied",
                "PERMISSION_DENIED",
                Some(403),
            ),
            (
                "message: That model is overloaded, retry type: x",
                "That model is overloaded, retry type: x",
                "",
                None,
            ),
            ("429 Too many tokens", "429 Too many tokens", "", Some(429)),
            (
                r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
                "Model is overloaded",
                "overloaded",
                None,
            ),
            (
                r#"{"status":500,"error":"Internal Server Error","message":"it broke"}"#,
                "it broke",
                "",
                Some(500),
            ),
            (r#"{"error":"invalid_grant","error_description":"Token expired"}"#, "Token expired", "", None),
            (r#"{"title":"Too slow","type":"about:blank"}"#, "Too slow", "", None),
            ("the last error: none, title: none", "the last error: none, title: none", "", None),
            ("<html><title>502 Bad Gateway</title>", "502 Bad Gateway", "html_page", Some(502)),
            ("", "", "", None),
        ] {
            assert_eq!(read(text), (message.to_owned(), codes.to_owned(), status), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_no_status_are_not_taken_for_one() {
        for text in ["limit is 4097 tokens", "used 429 of 500", "took 500ms", "port:443"] {
            assert_eq!(ErrorText::read(text).status, None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in "([\\\\\"'{}:,= a-z]|message|code|\\PC){0,200}") {
            let read = ErrorText::read(&text);
            prop_assert!(read.message.len() <= text.len() && read.codes.len() <= CODES_MAX);
        }
    }
}
