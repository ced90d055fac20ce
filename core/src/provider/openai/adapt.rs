//! A request in OpenAI's form for a server that speaks nearly the same: the few fields that have
//! another name there are renamed, and all else stays byte by byte what the caller sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::provider::{Dialect, TokenLimitField, Vendor};

/// Members of an object in their order, values untouched.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members of `body`, if it is an object.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Gives a member this value, at its place or at the end.
    pub(super) fn set(&mut self, name: &'a str, value: &'a RawValue) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((Cow::Borrowed(name), value)),
        }
    }

    /// Takes members out.
    pub(super) fn remove(&mut self, names: &[&str]) {
        self.0.retain(|(key, _)| !names.contains(&&**key));
    }

    /// The object; about so many bytes.
    pub(super) fn write(&self, bytes: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes);
        for (key, value) in &self.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut out, key).ok()?;
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        Some(out)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((Cow::Owned(key), value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

/// The request as a `vendor` of this dialect wants it; none when it can go as it is. Type `openai`
/// stands for servers that nothing is known of, so their callers know best: only what such a server
/// has refused, or its operator has switched off, is taken out.
#[must_use]
pub fn adapt(body: &[u8], vendor: Vendor, dialect: &Dialect) -> Option<Vec<u8>> {
    let is_known = vendor != Vendor::OpenAi;
    if !is_known && dialect.stream_options {
        return None;
    }
    let renames = if is_known { renames(dialect) } else { BTreeMap::new() };
    let holds = |name: &str| {
        let quoted = format!("\"{name}\"");
        body.windows(quoted.len()).any(|window| window == quoted.as_bytes())
    };
    let developer = is_known && !dialect.developer && holds("developer");
    let options = !dialect.stream_options && holds("stream_options");
    if !(developer || options || renames.keys().any(|name| holds(name))) {
        return None;
    }
    let Members(mut members) = serde_json::from_slice(body).ok()?;
    let before: Vec<_> = members.iter().map(|(key, _)| key.clone()).collect();
    members.retain(|(key, _)| !(options && key == "stream_options"));
    for (key, _) in &mut members {
        if let Some(new) = renames.get(key.as_ref())
            && !before.iter().any(|other| other == new)
        {
            *key = Cow::Borrowed(new);
        }
    }
    let mut out = Vec::with_capacity(body.len());
    for (key, value) in &members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut out, key).ok()?;
        out.push(b':');
        match key.as_ref() {
            "messages" if developer => write_messages(value, &mut out)?,
            _ => out.extend_from_slice(value.get().as_bytes()),
        }
    }
    out.push(b'}');
    Some(out)
}

fn renames(dialect: &Dialect) -> BTreeMap<&'static str, &'static str> {
    let mut renames = BTreeMap::new();
    match dialect.token_limit {
        TokenLimitField::MaxTokens => renames.insert("max_completion_tokens", "max_tokens"),
        TokenLimitField::MaxCompletionTokens => None,
    };
    if dialect.seed != "seed" {
        renames.insert("seed", dialect.seed);
    }
    renames
}

/// The messages, with `system` for the role `developer`.
fn write_messages(messages: &RawValue, out: &mut Vec<u8>) -> Option<()> {
    let messages: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    out.push(b'[');
    for (index, message) in messages.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Ok(Members(members)) = serde_json::from_str(message.get()) else {
            out.extend_from_slice(message.get().as_bytes());
            continue;
        };
        out.push(b'{');
        for (place, (key, value)) in members.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, key).ok()?;
            out.push(b':');
            let is_developer = key == "role" && value.get() == "\"developer\"";
            out.extend_from_slice(if is_developer { b"\"system\"" } else { value.get().as_bytes() });
        }
        out.push(b'}');
    }
    out.push(b']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(vendor: Vendor, body: &str) -> Option<String> {
        adapt(body.as_bytes(), vendor, &vendor.dialect()).map(|b| String::from_utf8(b).expect("UTF-8"))
    }

    #[test]
    fn what_every_server_knows_is_not_touched() {
        let body =
            r#"{"model":"m","max_tokens":5,"x":1e999,"messages":[{"role":"user","content":"a developer"}]}"#;
        assert_eq!(adapted(Vendor::Groq, body), None);
        assert_eq!(adapted(Vendor::OpenAi, r#"{"max_completion_tokens":5,"seed":1}"#), None);
        assert_eq!(adapted(Vendor::Azure, r#"{"max_completion_tokens":5,"stream_options":{}}"#), None);
    }

    #[test]
    fn names_change_and_values_do_not() {
        let body = r#"{"model":"m" , "max_completion_tokens":5.0,"x":1e999,"messages":[{"content":"\u4f60","role":"developer","z":1},{"role":"user"}]}"#;
        let expected = r#"{"model":"m","max_tokens":5.0,"x":1e999,"messages":[{"content":"\u4f60","role":"system","z":1},{"role":"user"}]}"#;
        assert_eq!(adapted(Vendor::DeepSeek, body).as_deref(), Some(expected));
        assert_eq!(
            adapted(Vendor::Mistral, r#"{"seed":1,"stream":true,"stream_options":{"include_usage":true}}"#)
                .as_deref(),
            Some(r#"{"random_seed":1,"stream":true}"#)
        );
    }

    #[test]
    fn a_server_that_refuses_stream_options_gets_none_and_all_else() {
        let refusing = Dialect { stream_options: false, ..Vendor::OpenAi.dialect() };
        let body = br#"{"max_completion_tokens":5,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"developer"}]}"#;
        let expected = br#"{"max_completion_tokens":5,"stream":true,"messages":[{"role":"developer"}]}"#;
        assert_eq!(adapt(body, Vendor::OpenAi, &refusing).as_deref(), Some(&expected[..]));
        assert_eq!(adapt(expected, Vendor::OpenAi, &refusing), None);
    }

    #[test]
    fn a_name_that_is_there_already_is_not_given_twice() {
        let body = r#"{"max_tokens":1,"max_completion_tokens":2}"#;
        assert_eq!(adapted(Vendor::Groq, body).as_deref(), Some(body));
    }
}
