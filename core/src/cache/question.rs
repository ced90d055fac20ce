//! A chat request as the semantic cache sees it: the words of the last user turn, and everything
//! else, which must be the same to the letter for two requests to share an answer.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::chat::Tape;

/// Longest prompt that is compared by meaning, in bytes: embedding models read no more.
pub const PROMPT_BYTES_MAX: usize = 16 << 10;
/// Most members of a request or a message; each is compared with those before it.
const MEMBERS_MAX: usize = 256;
/// Changes when what a partition is made of does.
const PARTITION_VERSION: u8 = 1;

/// Why a request has no place in the semantic cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// It is not a chat.
    NotAChat,
    /// The last message is not the user's, or has no text.
    NoUserText,
    /// The last message is longer than [`PROMPT_BYTES_MAX`].
    TooLong,
    /// Several answers, log probabilities or sound are asked for.
    Shape,
}

impl Ineligible {
    /// The word for it in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAChat => "not_a_chat",
            Self::NoUserText => "no_user_text",
            Self::TooLong => "prompt_too_long",
            Self::Shape => "shape",
        }
    }
}

/// Which answers may be shared at all, apart from the body: those of one caller group.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// [`crate::wire::Identity::scope`].
    pub scope: Option<&'a str>,
}

/// A chat request, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The text of the last user turn.
    pub prompt: String,
    /// The model asked for.
    pub model: String,
    /// Sampling temperature, if given.
    pub temperature: Option<f64>,
    /// Whether the model may use tools.
    pub has_tools: bool,
    /// Whether the caller wants events.
    pub stream: bool,
    /// Whether the caller wants usage among them.
    pub include_usage: bool,
    /// SHA-256 of everything but the prompt and the way the answer is delivered; without the
    /// audience.
    pub context: [u8; 32],
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    r#type: &'a RawValue,
    text: Option<String>,
}

impl Question {
    /// Reads a chat request to `path` (without query); `pin` is `x-gateway-provider` or empty.
    ///
    /// # Errors
    /// Why its answer cannot be shared by meaning.
    pub fn read(path: &str, pin: &str, body: &[u8]) -> Result<Self, Ineligible> {
        let text = std::str::from_utf8(body).map_err(|_| Ineligible::NotAChat)?;
        let Fields(fields) = serde_json::from_str(text).map_err(|_| Ineligible::NotAChat)?;
        let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.get());
        let model: String = get("model").and_then(read).ok_or(Ineligible::NotAChat)?;
        let messages: Vec<&RawValue> = get("messages").and_then(read).ok_or(Ineligible::NotAChat)?;
        check_shape(&get)?;
        let (last, earlier) = messages.split_last().ok_or(Ineligible::NoUserText)?;
        let (prompt, frame) = split(last)?;
        if prompt.len() > PROMPT_BYTES_MAX {
            return Err(Ineligible::TooLong);
        }
        let filled = |name| get(name).is_some_and(|raw| !matches!(raw, "null" | "[]"));
        let options = get("stream_options").and_then(read::<StreamOptions>);
        let (has_tools, temperature) =
            (filled("tools") || filled("functions"), get("temperature").and_then(read));
        let stream = get("stream") == Some("true");
        let context = context(path, pin, &fields, earlier, &frame).ok_or(Ineligible::NotAChat)?;
        let include_usage = options.is_some_and(|options| options.include_usage);
        Ok(Self { prompt, model, temperature, has_tools, stream, include_usage, context })
    }

    /// The partition of the cache in which answers to this question may be found.
    #[must_use]
    pub fn partition(&self, audience: Audience<'_>) -> [u8; 32] {
        digest(&[
            &[PARTITION_VERSION],
            audience.tenant.as_bytes(),
            audience.scope.unwrap_or_default().as_bytes(),
            &self.context,
        ])
    }

    /// The digest that two requests share only if they are the same but for how the answer is to be
    /// delivered.
    #[must_use]
    pub fn sameness(&self, audience: Audience<'_>) -> [u8; 32] {
        digest(&[&self.partition(audience), self.prompt.as_bytes()])
    }

    /// The digest that two requests share only if one answer, delivered once, does for both.
    #[must_use]
    pub fn identity(&self, audience: Audience<'_>) -> [u8; 32] {
        let delivery = [u8::from(self.stream), u8::from(self.include_usage)];
        digest(&[&self.partition(audience), &delivery, self.prompt.as_bytes()])
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a str) -> Option<T> {
    serde_json::from_str(raw).ok()
}

/// Only answers that are one text can be replayed in either form.
fn check_shape<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<(), Ineligible> {
    let plain = |name, values: &[&str]| get(name).is_none_or(|raw| raw == "null" || values.contains(&raw));
    let fine = plain("n", &["1"])
        && plain("logprobs", &["false"])
        && plain("top_logprobs", &["0"])
        && plain("audio", &[])
        && plain("modalities", &["[\"text\"]"]);
    if fine { Ok(()) } else { Err(Ineligible::Shape) }
}

/// The text of the last message, and the message without it.
fn split(last: &RawValue) -> Result<(String, String), Ineligible> {
    let Fields(fields) = serde_json::from_str(last.get()).map_err(|_| Ineligible::NotAChat)?;
    let role = fields.iter().find(|(key, _)| key == "role").map(|(_, value)| value.get());
    if role.and_then(read::<String>).as_deref() != Some("user") {
        return Err(Ineligible::NoUserText);
    }
    let mut prompt = String::new();
    let mut frame = String::from("{");
    for (key, value) in &fields {
        if key == "content" {
            push_member(&mut frame, key, &content(value, &mut prompt)?);
        } else {
            push_member(&mut frame, key, value.get());
        }
    }
    frame.push('}');
    if prompt.trim().is_empty() { Err(Ineligible::NoUserText) } else { Ok((prompt, frame)) }
}

/// Appends the text of a content to `prompt`, and gives what is left of it: the parts that are
/// no text, and the places of those that are.
fn content(value: &RawValue, prompt: &mut String) -> Result<String, Ineligible> {
    if let Some(text) = read::<String>(value.get()) {
        *prompt = text;
        return Ok("\"\"".to_owned());
    }
    let parts: Vec<&RawValue> = read(value.get()).ok_or(Ineligible::NotAChat)?;
    let mut rest = String::from("[");
    for raw in parts {
        let part: Part<'_> = read(raw.get()).ok_or(Ineligible::NotAChat)?;
        let text = part.text.filter(|_| matches!(part.r#type.get(), "\"text\"" | "\"input_text\""));
        if rest.len() > 1 {
            rest.push(',');
        }
        let Some(text) = text else {
            rest.push_str(raw.get());
            continue;
        };
        if !prompt.is_empty() {
            prompt.push('\n');
        }
        prompt.push_str(&text);
        rest.push_str("\"\"");
    }
    rest.push(']');
    Ok(rest)
}

fn push_member(out: &mut String, key: &str, value: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    // A text cannot fail to serialise.
    out.push_str(&serde_json::to_string(key).unwrap_or_default());
    out.push(':');
    out.push_str(value);
}

/// The digest of all that must be the same: members in any order, white space anyhow.
fn context(
    path: &str,
    pin: &str,
    fields: &[(String, &RawValue)],
    earlier: &[&RawValue],
    frame: &str,
) -> Option<[u8; 32]> {
    let mut rest = String::from("{");
    for (key, value) in fields {
        if !matches!(key.as_str(), "messages" | "stream" | "stream_options") {
            push_member(&mut rest, key, value.get());
        }
    }
    let mut messages = String::from("[");
    for message in earlier.iter().map(|raw| raw.get()).chain([frame]) {
        if messages.len() > 1 {
            messages.push(',');
        }
        messages.push_str(message);
    }
    messages.push(']');
    push_member(&mut rest, "messages", &messages);
    rest.push('}');
    let (mut tape, mut canonical) = (Tape::default(), Vec::new());
    tape.read(rest.as_bytes()).ok()?;
    tape.canonical(rest.as_bytes(), &mut canonical);
    Some(digest(&[path.as_bytes(), pin.as_bytes(), &canonical]))
}

/// SHA-256 over the parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Members of an object in their order, at most [`MEMBERS_MAX`]; a repeated one is refused, since
/// readers differ on it.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if fields.len() >= MEMBERS_MAX || fields.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom("repeated or too many members"));
                    }
                    fields.push((key, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/v1/chat/completions";

    fn question(body: &str) -> Question {
        Question::read(PATH, "", body.as_bytes()).expect(body)
    }

    fn partition(body: &str) -> [u8; 32] {
        question(body).partition(Audience { tenant: "t", scope: None })
    }

    const PLAIN: &str =
        r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"one"}]}"#;

    #[test]
    fn the_last_user_turn_is_the_prompt_and_all_else_is_the_partition() {
        let one = question(PLAIN);
        assert_eq!((one.prompt.as_str(), one.model.as_str()), ("one", "m"));
        // In other words, in another order, delivered another way: the same partition.
        for body in [
            r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"two"}]}"#,
            r#"{ "messages" : [{"content":"S","role":"system"},{"role":"user","content":"one"}],"model":"m"}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"system","content":"S"},{"role":"user","content":"one"}]}"#,
        ] {
            assert_eq!(partition(body), partition(PLAIN), "{body}");
        }
        for body in [
            r#"{"model":"n","messages":[{"role":"system","content":"S"},{"role":"user","content":"one"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"T"},{"role":"user","content":"one"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"one"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"S"},{"role":"user","content":"one"}]}"#,
            r#"{"model":"m","temperature":0,"messages":[{"role":"system","content":"S"},{"role":"user","content":"one"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","name":"bob","content":"one"}]}"#,
            r#"{"model":"m","user":"u","messages":[{"role":"system","content":"S"},{"role":"user","content":"one"}]}"#,
        ] {
            assert_ne!(partition(body), partition(PLAIN), "{body}");
        }
    }

    #[test]
    fn tenants_scopes_paths_and_pins_never_share() {
        let one = question(PLAIN);
        let of = |tenant, scope| one.partition(Audience { tenant, scope });
        assert_ne!(of("a", None), of("b", None));
        assert_ne!(of("a", None), of("a", Some("s")));
        assert_ne!(of("as", None), of("a", Some("s")));
        let pinned = Question::read(PATH, "p", PLAIN.as_bytes()).expect("a question");
        let local = Question::read("/local/chat/completions", "", PLAIN.as_bytes()).expect("a question");
        assert!(pinned.context != one.context && local.context != one.context);
        let streamed = Question { stream: true, ..one.clone() };
        let audience = Audience { tenant: "a", scope: None };
        assert_eq!(streamed.partition(audience), one.partition(audience));
        assert_ne!(streamed.identity(audience), one.identity(audience));
    }

    #[test]
    fn parts_of_text_are_the_prompt_and_pictures_are_not() {
        let with = |picture: &str, text: &str| {
            question(&format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}},
                   {{"type":"image_url","image_url":{{"url":"{picture}"}}}},{{"type":"text","text":"b"}}]}}]}}"#
            ))
        };
        let one = with("x", "a");
        assert_eq!(one.prompt, "a\nb");
        assert_eq!(with("x", "other").context, one.context);
        assert_ne!(with("y", "a").context, one.context);
    }

    #[test]
    fn what_cannot_be_shared_is_told_apart() {
        let long = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#,
            "x".repeat(PROMPT_BYTES_MAX + 1)
        );
        for (body, why) in [
            ("[]", Ineligible::NotAChat),
            ("\u{FF}", Ineligible::NotAChat),
            (r#"{"model":"m","prompt":"x"}"#, Ineligible::NotAChat),
            (r#"{"model":"m","messages":[]}"#, Ineligible::NoUserText),
            (r#"{"model":"m","messages":[{"role":"assistant","content":"x"}]}"#, Ineligible::NoUserText),
            (r#"{"model":"m","messages":[{"role":"user","content":" "}]}"#, Ineligible::NoUserText),
            (
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]}"#,
                Ineligible::NoUserText,
            ),
            (r#"{"model":"m","n":2,"messages":[{"role":"user","content":"x"}]}"#, Ineligible::Shape),
            (
                r#"{"model":"m","logprobs":true,"messages":[{"role":"user","content":"x"}]}"#,
                Ineligible::Shape,
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x","content":"y"}]}"#,
                Ineligible::NotAChat,
            ),
            (&long, Ineligible::TooLong),
        ] {
            assert_eq!(Question::read(PATH, "", body.as_bytes()).map(|q| q.prompt), Err(why));
        }
    }

    proptest! {
        #[test]
        fn any_prompt_comes_out_as_it_went_in(prompt in "\\PC{1,40}", other in "\\PC{1,40}") {
            let body = |prompt: &str| serde_json::json!({"model": "m", "messages": [{"role": "user", "content": prompt}]}).to_string();
            if !prompt.trim().is_empty() && !other.trim().is_empty() {
                let one = question(&body(&prompt));
                prop_assert_eq!(&one.prompt, &prompt);
                let two = question(&body(&other));
                prop_assert_eq!(one.context, two.context);
                let audience = Audience { tenant: "t", scope: None };
                prop_assert_eq!(one.identity(audience) == two.identity(audience), prompt == other);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Question::read(PATH, "", &bytes);
        }
    }
}
