//! Arguments that come piece by piece (`streamFunctionCallArguments` of Vertex AI): each piece is a
//! value, or more of a text, and says by a JSON path where in the arguments it belongs.
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling>

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::provider::Malformed;

/// Deepest place of a value.
const DEPTH_MAX: usize = 64;
/// Longest list.
const ITEMS_MAX: usize = 4096;
/// Most bytes of texts and names of one call.
const BYTES_MAX: usize = 1 << 20;

/// A piece of the arguments.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg {
    json_path: String,
    string_value: Option<String>,
    number_value: Option<serde_json::Number>,
    bool_value: Option<bool>,
    null_value: Option<Value>,
}

/// The arguments of a call that is not complete yet.
#[derive(Debug)]
pub(super) struct Arguments {
    value: Value,
    bytes: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { value: Value::Object(Map::new()), bytes: 0 }
    }
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl Arguments {
    /// Puts a piece where it belongs.
    pub(super) fn take(&mut self, piece: PartialArg) -> Result<(), Malformed> {
        let text_bytes = piece.string_value.as_ref().map_or(0, String::len);
        self.bytes += piece.json_path.len() + text_bytes;
        if self.bytes > BYTES_MAX {
            return Err(Malformed);
        }
        let mut place = &mut self.value;
        for step in steps(&piece.json_path)? {
            place = enter(place, &step)?;
        }
        match piece {
            PartialArg { string_value: Some(more), .. } => match place {
                Value::String(text) => text.push_str(&more),
                place => *place = Value::String(more),
            },
            PartialArg { number_value: Some(number), .. } => *place = Value::Number(number),
            PartialArg { bool_value: Some(flag), .. } => *place = Value::Bool(flag),
            PartialArg { null_value: Some(_), .. } => *place = Value::Null,
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// All of them, as JSON.
    pub(super) fn json(&self) -> String {
        self.value.to_string()
    }
}

/// The steps of a path such as `$.list[0].name` or `$['a name']`.
fn steps(path: &str) -> Result<Vec<Step<'_>>, Malformed> {
    let mut rest = path.strip_prefix('$').ok_or(Malformed)?;
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < DEPTH_MAX {
        let (step, after) = if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, after) = named.split_at(end);
            (Step::Member(name), after)
        } else {
            let inner = rest.strip_prefix('[').ok_or(Malformed)?;
            match inner.chars().next() {
                Some(quote @ ('\'' | '"')) => {
                    let (name, after) =
                        inner.get(1..).and_then(|rest| rest.split_once(quote)).ok_or(Malformed)?;
                    (Step::Member(name), after.strip_prefix(']').ok_or(Malformed)?)
                }
                _ => {
                    let (index, after) = inner.split_once(']').ok_or(Malformed)?;
                    (Step::Item(index.parse().map_err(|_| Malformed)?), after)
                }
            }
        };
        steps.push(step);
        rest = after;
    }
    if rest.is_empty() && !steps.is_empty() { Ok(steps) } else { Err(Malformed) }
}

/// The place one step further, made if it is not there.
fn enter<'a>(place: &'a mut Value, step: &Step<'_>) -> Result<&'a mut Value, Malformed> {
    match step {
        Step::Member(name) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let members = place.as_object_mut().ok_or(Malformed)?;
            Ok(members.entry(*name).or_insert(Value::Null))
        }
        Step::Item(index) => {
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let items = place.as_array_mut().ok_or(Malformed)?;
            if *index >= ITEMS_MAX {
                return Err(Malformed);
            }
            if *index >= items.len() {
                items.resize(index + 1, Value::Null);
            }
            items.get_mut(*index).ok_or(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arguments(pieces: &[&str]) -> Result<String, Malformed> {
        let mut arguments = Arguments::default();
        for piece in pieces {
            arguments.take(serde_json::from_str(piece).map_err(|_| Malformed)?)?;
        }
        Ok(arguments.json())
    }

    #[test]
    fn pieces_go_where_their_paths_say() {
        let pieces = [
            r#"{"jsonPath":"$.list[0].name","stringValue":"ap","willContinue":true}"#,
            r#"{"jsonPath":"$.list[0].name","stringValue":"ple"}"#,
            r#"{"jsonPath":"$.list[1].price","numberValue":0.5}"#,
            r#"{"jsonPath":"$['a name']","boolValue":true}"#,
            r#"{"jsonPath":"$.none","nullValue":"NULL_VALUE"}"#,
        ];
        let expected = serde_json::json!({
            "list": [{"name": "apple"}, {"price": 0.5}], "a name": true, "none": null,
        });
        let got: Value = serde_json::from_str(&arguments(&pieces).expect("well-formed")).expect("JSON");
        assert_eq!(got, expected);
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        for path in ["", "$", "a", "$.a[", "$.a[x]", "$.a[99999]", "$['a", "$a", "$.list.x"] {
            let piece = serde_json::json!({"jsonPath": path, "numberValue": 1}).to_string();
            let list = r#"{"jsonPath":"$.list[0]","numberValue":1}"#;
            assert_eq!(arguments(&[list, &piece]), Err(Malformed), "{path}");
        }
        let deep = serde_json::json!({"jsonPath": format!("${}", ".a".repeat(65)), "numberValue": 1});
        assert_eq!(arguments(&[&deep.to_string()]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[$.\\[\\]'\"a-c0-9é]{0,20}", text in ".{0,9}") {
            let piece = serde_json::json!({"jsonPath": format!("${path}"), "stringValue": text});
            let _ = arguments(&[&piece.to_string(), &piece.to_string()]);
        }
    }
}
