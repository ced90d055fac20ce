//! Usage of streams: asked for on behalf of callers who do not, so that what they used is known
//! exactly; and taken out again, since they do not expect it.
//! `stream_options.include_usage`, `OpenAI` API reference, "Create chat completion".

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::adapt::Members;
use crate::sse::{Parser, Usage};

const OPTIONS: &str = "stream_options";
const WANTED: &[u8] = br#","stream_options":{"include_usage":true}}"#;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    stream_options: Option<&'a RawValue>,
}

/// The request with usage asked for; none if it asks already, or for no stream, or is not as
/// documented.
#[must_use]
pub fn ask_for_usage(body: &[u8]) -> Option<Vec<u8>> {
    if !has(body, b"\"stream\"") {
        return None;
    }
    let Request { stream, stream_options } = serde_json::from_slice(body).ok()?;
    if stream != Some(true) {
        return None;
    }
    if !has(body, OPTIONS.as_bytes()) {
        let end = body.iter().rposition(|byte| *byte == b'}')?;
        return Some([body.get(..end)?, WANTED].concat());
    }
    let mut options: Map<String, Value> = stream_options
        .map_or_else(|| Some(Map::new()), |options| serde_json::from_str(options.get()).ok())?;
    if options.insert("include_usage".to_owned(), Value::Bool(true)) == Some(Value::Bool(true)) {
        return None;
    }
    let options = serde_json::value::to_raw_value(&options).ok()?;
    let mut members = Members::read(body)?;
    members.set(OPTIONS, &options);
    members.write(body.len() + WANTED.len())
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<IgnoredAny>,
    #[serde(default)]
    usage: Option<Usage>,
}

/// Whole events without the one that only tells the usage; none if it is not among them.
#[must_use]
pub fn without_usage(events: &[u8]) -> Option<Vec<u8>> {
    if !has(events, b"\"usage\"") {
        return None;
    }
    let mut out = Vec::with_capacity(events.len());
    let mut rest = events;
    while !rest.is_empty() {
        let (event, after) = rest.split_at(end_of_event(rest));
        if !tells_usage(event) {
            out.extend_from_slice(event);
        }
        rest = after;
    }
    (out.len() < events.len()).then_some(out)
}

fn tells_usage(event: &[u8]) -> bool {
    let (mut parser, mut tells) = (Parser::new(), false);
    parser.push(event, |event| {
        let chunk = serde_json::from_slice::<Chunk>(event.data);
        tells |= chunk.is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some());
    });
    tells
}

/// Where the first event ends, its blank line included.
fn end_of_event(bytes: &[u8]) -> usize {
    let ends = |end: &usize| {
        let head = bytes.get(..*end).unwrap_or_default();
        head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n") || head.ends_with(b"\r\r")
    };
    (1..=bytes.len()).find(ends).unwrap_or(bytes.len())
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Option<String> {
        ask_for_usage(body.as_bytes()).map(|body| String::from_utf8(body).expect("UTF-8"))
    }

    #[test]
    fn streams_ask_for_usage_and_nothing_else_changes() {
        let added = r#"{"stream": true, "x":1e999 ,"stream_options":{"include_usage":true}}"#;
        assert_eq!(asked(r#"{"stream": true, "x":1e999 } "#).as_deref(), Some(added));
        for (options, expected) in [
            ("null", r#"{"include_usage":true}"#),
            (r#"{"include_usage":false}"#, r#"{"include_usage":true}"#),
            (r#"{"a":1}"#, r#"{"a":1,"include_usage":true}"#),
        ] {
            let body = format!(r#"{{"stream":true,"stream_options":{options},"x":1e999}}"#);
            let expected = format!(r#"{{"stream":true,"stream_options":{expected},"x":1e999}}"#);
            assert_eq!(asked(&body), Some(expected));
        }
    }

    #[test]
    fn what_asks_already_or_streams_nothing_is_left_as_it_is() {
        for body in [
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":false}"#,
            r#"{"messages":[{"content":"\"stream\""}]}"#,
            r#"{"stream":true,"stream_options":7}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"["stream"]"#,
        ] {
            assert_eq!(asked(body), None, "{body}");
        }
    }

    #[test]
    fn only_the_event_that_tells_the_usage_goes() {
        let keep = "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n";
        let filter = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\r\n\r\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n";
        let done = "data: [DONE]\n\n";
        let stripped = without_usage([keep, filter, usage, done].concat().as_bytes()).expect("stripped");
        assert_eq!(String::from_utf8(stripped).expect("UTF-8"), [keep, filter, done].concat());
        assert_eq!(without_usage([keep, filter, done].concat().as_bytes()), None);
        let last = "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3}}\n\n";
        assert_eq!(without_usage(last.as_bytes()), None, "it has a choice too");
    }
}
