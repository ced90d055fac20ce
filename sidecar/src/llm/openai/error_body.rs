//! Providers' error bodies. Whatever a provider answers to a refused request, the caller
//! reads OpenAI's shape with all four fields; a body that has it already passes untouched.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest message taken over from a provider, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// A provider's error, made fit for the caller.
#[derive(Debug)]
pub struct ErrorBody {
    /// JSON in OpenAI's shape.
    pub body: Bytes,
    /// The error's `code`, if it has one.
    pub code: Option<String>,
}

#[derive(Serialize)]
struct Shape<'a> {
    error: ShapeError<'a>,
}

#[derive(Serialize)]
struct ShapeError<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Value,
    code: Value,
}

/// The four fields, all there; `null` counts as there.
/// An error's fields, as far as they are there; `null` counts as there.
#[derive(Deserialize)]
struct Found {
    error: serde_json::Map<String, Value>,
}

impl Found {
    fn has_openais_shape(&self) -> bool {
        let text = |key: &str| self.error.get(key).is_some_and(Value::is_string);
        let there = |key: &str| self.error.contains_key(key);
        text("message") && text("type") && there("param") && there("code")
    }
}

/// Reads a provider's error body. `None` when it is not a JSON object: then there is nothing
/// in it that a caller could use.
#[must_use]
pub fn normalise(status: u16, body: &Bytes) -> Option<ErrorBody> {
    if let Ok(found) = serde_json::from_slice::<Found>(body)
        && found.has_openais_shape()
    {
        let code = found.error.get("code").and_then(as_string);
        return Some(ErrorBody { body: body.clone(), code });
    }
    let value: Value = serde_json::from_slice(body).ok()?;
    let object = value.as_object()?;
    let error = object.get("error").unwrap_or(&value);
    let message = message_of(error).or_else(|| message_of(&value)).unwrap_or("The provider gave no reason.");
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let code = error.get("code").filter(|c| c.is_string() || c.is_number()).cloned().unwrap_or(Value::Null);
    let shape = Shape {
        error: ShapeError {
            message: &message,
            r#type: error.get("type").and_then(Value::as_str).unwrap_or(type_of(status)),
            param: error.get("param").cloned().unwrap_or(Value::Null),
            code: code.clone(),
        },
    };
    Some(ErrorBody { body: serde_json::to_vec(&shape).ok()?.into(), code: as_string(&code) })
}

/// The spellings met among OpenAI-compatible servers: `{"error":{"message"}}`,
/// `{"error":"text"}`, `{"message"}`, `{"detail":"text"}`.
fn message_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| ["message", "detail"].iter().find_map(|key| value.get(*key)?.as_str()))
}

fn as_string(code: &Value) -> Option<String> {
    code.as_str().map(str::to_owned)
}

const fn type_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(status: u16, body: &'static str) -> Option<String> {
        let body = Bytes::from_static(body.as_bytes());
        normalise(status, &body).map(|e| String::from_utf8(e.body.to_vec()).expect("utf-8"))
    }

    #[test]
    fn openais_own_shape_passes_untouched() {
        let body = r#"{ "error": {"message":"m","type":"t","param":null,"code":null,"extra":1}, "x":2 }"#;
        assert_eq!(normalised(400, body).as_deref(), Some(body));
        let quota = Bytes::from_static(
            br#"{"error":{"message":"m","type":"t","param":null,"code":"insufficient_quota"}}"#,
        );
        assert_eq!(normalise(429, &quota).and_then(|e| e.code).as_deref(), Some("insufficient_quota"));
    }

    #[test]
    fn other_servers_shapes_get_all_four_fields() {
        let shape = |m: &str, t: &str, c: &str| {
            Some(format!(r#"{{"error":{{"message":"{m}","type":"{t}","param":null,"code":{c}}}}}"#))
        };
        for (status, body, expected) in [
            (404, r#"{"error":"model missing"}"#, shape("model missing", "invalid_request_error", "null")),
            (422, r#"{"detail":"Not valid"}"#, shape("Not valid", "invalid_request_error", "null")),
            (
                500,
                r#"{"object":"error","message":"oom","type":"InternalServerError","code":500}"#,
                shape("oom", "InternalServerError", "500"),
            ),
            (
                429,
                r#"{"error":{"message":"slow","code":"busy"}}"#,
                shape("slow", "rate_limit_error", r#""busy""#),
            ),
            (503, "{}", shape("The provider gave no reason.", "api_error", "null")),
        ] {
            assert_eq!(normalised(status, body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_none() {
        for body in ["", "<html>502</html>", "[]", "\"x\"", "{\"error\":"] {
            assert_eq!(normalised(502, body), None, "{body}");
        }
    }
}
