//! A JSON document as a flat list of spans into its own text (RFC 8259).
//!
//! The exact cache needs a canonical form in which nothing is lost: numbers keep their digits,
//! strings their escapes, repeated members all count. A parser into values loses those, and costs
//! an allocation per value on the hot path; this one checks the syntax, remembers where each value
//! starts and ends, and reuses its list from request to request.

mod reader;

use reader::Reader;

/// Deepest nesting accepted.
pub const DEPTH_MAX: u32 = 128;
/// Most values, member names included, in one document: 16 MiB of spans. A body of ten million
/// zeros would otherwise cost many times its own size.
pub const VALUES_MAX: usize = 1 << 20;
/// Values whose space is kept for the next document; a larger one gives its space back.
const VALUES_KEPT: usize = 1 << 14;

/// Where a document stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset.
    pub offset: usize,
    /// What was wrong there.
    pub problem: &'static str,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.problem, self.offset)
    }
}

impl std::error::Error for JsonError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    String,
    Scalar,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// Index of the node after this one and all it contains.
    next: u32,
}

/// The spans of one document; reusable.
#[derive(Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    members: Vec<(u32, u32)>,
}

impl Tape {
    /// Reads `text`, replacing what was read before.
    ///
    /// # Errors
    /// The first offence against the syntax, invalid UTF-8, nesting over [`DEPTH_MAX`], more than
    /// [`VALUES_MAX`] values, or a document of 4 GiB or more.
    pub fn read(&mut self, text: &[u8]) -> Result<(), JsonError> {
        self.nodes.clear();
        self.nodes.shrink_to(VALUES_KEPT);
        if u32::try_from(text.len()).is_err() {
            return Err(JsonError { offset: 0, problem: "document too large" });
        }
        if let Err(e) = std::str::from_utf8(text) {
            return Err(JsonError { offset: e.valid_up_to(), problem: "invalid UTF-8" });
        }
        let mut reader = Reader { text, at: 0, nodes: &mut self.nodes };
        reader.space();
        reader.value(0)?;
        reader.space();
        if reader.at < text.len() { Err(reader.error("unexpected text after the document")) } else { Ok(()) }
    }

    /// Whether the document is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.nodes.first().is_some_and(|n| n.kind == Kind::Object)
    }

    /// The raw text of a member of the top-level object; of repeated ones the last, as parsers do.
    #[must_use]
    pub fn member<'t>(&self, text: &'t [u8], name: &str) -> Option<&'t [u8]> {
        let mut found = None;
        self.each_member(0, |key, value| {
            let inner = self.span(text, key).get(1..).and_then(|k| k.strip_suffix(b"\""));
            if inner == Some(name.as_bytes()) {
                found = Some(self.span(text, value));
            }
        });
        found
    }

    /// Appends the canonical form: members sorted by the bytes of their names, no white space,
    /// everything else as written.
    pub fn canonical(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        self.emit(0, text, out, &mut members);
        self.members = members;
    }

    fn emit(&self, index: u32, text: &[u8], out: &mut Vec<u8>, members: &mut Vec<(u32, u32)>) {
        let Some(node) = self.nodes.get(index as usize) else {
            return;
        };
        match node.kind {
            Kind::String | Kind::Scalar => out.extend_from_slice(self.span(text, index)),
            Kind::Array => {
                out.push(b'[');
                let mut child = index + 1;
                while child < node.next {
                    if child > index + 1 {
                        out.push(b',');
                    }
                    self.emit(child, text, out, members);
                    child = self.after(child);
                }
                out.push(b']');
            }
            Kind::Object => self.emit_object(index, text, out, members),
        }
    }

    /// `members` is one stack for all levels; this level's part is from `base` on.
    fn emit_object(&self, index: u32, text: &[u8], out: &mut Vec<u8>, members: &mut Vec<(u32, u32)>) {
        let base = members.len();
        self.each_member(index, |key, value| members.push((key, value)));
        if let Some(mine) = members.get_mut(base..) {
            mine.sort_by(|a, b| self.span(text, a.0).cmp(self.span(text, b.0)));
        }
        out.push(b'{');
        let mut at = base;
        let end = members.len();
        while at < end {
            let Some(&(key, value)) = members.get(at) else {
                break;
            };
            if at > base {
                out.push(b',');
            }
            out.extend_from_slice(self.span(text, key));
            out.push(b':');
            self.emit(value, text, out, members);
            at += 1;
        }
        members.truncate(base);
        out.push(b'}');
    }

    fn each_member(&self, index: u32, mut each: impl FnMut(u32, u32)) {
        let Some(node) = self.nodes.get(index as usize).filter(|n| n.kind == Kind::Object) else {
            return;
        };
        let mut key = index + 1;
        while key < node.next {
            each(key, key + 1);
            key = self.after(key + 1);
        }
    }

    /// Always ahead of `index`, so that walks end.
    fn after(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).map_or(u32::MAX, |n| n.next.max(index + 1))
    }

    fn span<'t>(&self, text: &'t [u8], index: u32) -> &'t [u8] {
        self.nodes
            .get(index as usize)
            .and_then(|n| text.get(n.start as usize..n.end as usize))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical(text: &str) -> Result<String, JsonError> {
        let mut tape = Tape::default();
        tape.read(text.as_bytes())?;
        let mut out = Vec::new();
        tape.canonical(text.as_bytes(), &mut out);
        Ok(String::from_utf8(out).expect("utf-8 in, utf-8 out"))
    }

    #[test]
    fn order_and_space_do_not_matter_and_everything_else_does() {
        assert_eq!(
            canonical(" { \"b\" : [ 1.0 , {\"d\":null,\"c\":\"\\u0041 \"} ], \"a\":{} } ").as_deref(),
            Ok(r#"{"a":{},"b":[1.0,{"c":"\u0041 ","d":null}]}"#)
        );
        assert_ne!(canonical(r#"{"a":1}"#), canonical(r#"{"a":1.0}"#));
        assert_ne!(canonical(r#"{"a":1,"a":2}"#), canonical(r#"{"a":2,"a":1}"#));
        assert_ne!(canonical("[18446744073709551617]"), canonical("[18446744073709551618]"));
    }

    #[test]
    fn the_last_of_repeated_members_is_the_one() {
        let text = br#"{"model":"a","x":{"model":"b"},"model":"c"}"#;
        let mut tape = Tape::default();
        tape.read(text).expect("valid");
        assert_eq!(tape.member(text, "model"), Some(&b"\"c\""[..]));
        assert_eq!(tape.member(text, "none"), None);
    }

    #[test]
    fn a_document_of_too_many_values_is_refused_and_leaves_no_space_behind() {
        let mut tape = Tape::default();
        let most = format!("[0{}]", ",0".repeat(VALUES_MAX - 2));
        assert_eq!(tape.read(most.as_bytes()), Ok(()));
        let problem = tape.read(format!("[0,{}", &most[1..]).as_bytes()).map_err(|e| e.problem);
        assert_eq!(problem, Err("more than 1048576 values"));
        tape.read(b"{}").expect("valid");
        assert!(tape.nodes.capacity() <= VALUES_KEPT);
    }

    #[test]
    fn broken_documents_are_refused_where_they_break() {
        for (text, offset) in [
            ("", 0),
            ("{", 1),
            ("{\"a\"}", 4),
            ("{\"a\":1,}", 7),
            ("[1 2]", 3),
            ("tru", 0),
            ("01", 1),
            ("-", 1),
            ("1.", 2),
            ("1e", 2),
            ("\"\\x\"", 1),
            ("\"\\u12g4\"", 1),
            ("\"a\nb\"", 2),
            ("{} x", 3),
            ("\"open", 5),
            ("{1:2}", 1),
        ] {
            assert_eq!(canonical(text).map_err(|e| e.offset), Err(offset), "{text}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(canonical(&deep).is_err());
        assert!(Tape::default().read(b"\"\xff\"").is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_keeps_its_meaning_and_its_form_is_stable(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("serialises");
            let once = canonical(&text).expect("valid");
            prop_assert_eq!(canonical(&once), Ok(once.clone()));
            let read = |text: &str| serde_json::from_str::<Value>(text).expect("valid");
            prop_assert_eq!(read(&once), read(&text));
        }

        #[test]
        fn any_bytes_are_accepted_exactly_when_serde_json_accepts_them(text in r#"[\[\]{},:"0-9eE.\-+tfn\\u a]{0,24}"#) {
            let ours = canonical(&text).is_ok();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
