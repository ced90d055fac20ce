//! Providers' error bodies. Whatever a provider answers to a refused request, the caller reads
//! its own protocol's shape with all fields; a body that has it already passes untouched.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::provider::{Failure, error_kind};
use tidegate_core::route::Protocol;

use super::Caller;

/// Longest message taken over from a provider, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// A provider's error, made fit for the caller.
#[derive(Debug)]
pub struct ErrorBody {
    /// JSON in the caller's shape.
    pub body: Bytes,
    /// The error's `code`, if it has one.
    pub code: Option<String>,
}

#[derive(Serialize)]
struct Shape<'a> {
    error: ShapeError<'a>,
}

#[derive(Serialize)]
struct AnthropicShape<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct ShapeError<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Value,
    code: Value,
}

/// An error's fields, as far as they are there; `null` counts as there.
#[derive(Deserialize)]
struct Found {
    r#type: Option<Value>,
    error: serde_json::Map<String, Value>,
}

impl Found {
    fn has_shape_of(&self, protocol: Protocol) -> bool {
        let text = |key: &str| self.error.get(key).is_some_and(Value::is_string);
        let there = |key: &str| self.error.contains_key(key);
        let rest = match protocol {
            Protocol::OpenAi => there("param") && there("code"),
            Protocol::Anthropic => self.r#type.as_ref().is_some_and(|t| t == "error"),
        };
        rest && text("message") && text("type")
    }
}

/// Reads a provider's error body. `None` when it is not a JSON object: then there is nothing
/// in it that a caller could use.
#[must_use]
pub fn normalise(status: u16, body: &Bytes, caller: &Caller<'_>) -> Option<ErrorBody> {
    if let Ok(found) = serde_json::from_slice::<Found>(body)
        && found.has_shape_of(caller.protocol)
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
    let written = match caller.protocol {
        Protocol::OpenAi => serde_json::to_vec(&Shape {
            error: ShapeError {
                message: &message,
                r#type: kind(error).map_or(type_of(status), |kind| error_kind(Protocol::OpenAi, kind)),
                param: error.get("param").cloned().unwrap_or(Value::Null),
                code: code.clone(),
            },
        }),
        Protocol::Anthropic => serde_json::to_vec(&AnthropicShape {
            r#type: "error",
            error: AnthropicError { r#type: anthropic_type_of(status), message: &message },
            request_id: caller.request_id,
        }),
    };
    Some(ErrorBody { body: written.ok()?.into(), code: as_string(&code) })
}

/// Writes a failure in the caller's protocol.
#[must_use]
pub fn of_failure(failure: &Failure, caller: &Caller<'_>) -> Bytes {
    let message: String = failure.message.chars().take(MESSAGE_CHARS_MAX).collect();
    let written = match caller.protocol {
        Protocol::OpenAi => serde_json::to_vec(&Shape {
            error: ShapeError {
                message: &message,
                r#type: failure.kind,
                param: Value::Null,
                code: failure.code.clone().map_or(Value::Null, Value::String),
            },
        }),
        Protocol::Anthropic => serde_json::to_vec(&AnthropicShape {
            r#type: "error",
            error: AnthropicError { r#type: anthropic_type_of(failure.status), message: &message },
            request_id: caller.request_id,
        }),
    };
    written.unwrap_or_default().into()
}

fn kind(error: &Value) -> Option<&str> {
    error.get("type").and_then(Value::as_str)
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

const fn anthropic_type_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: Caller<'_> =
        Caller { protocol: Protocol::OpenAi, request_id: "r1", payer: None, trace: None };
    const ANTHROPIC: Caller<'_> =
        Caller { protocol: Protocol::Anthropic, request_id: "r1", payer: None, trace: None };

    fn normalised(status: u16, body: &'static str) -> Option<String> {
        normalised_for(&OPENAI, status, body)
    }

    fn normalised_for(caller: &Caller<'_>, status: u16, body: &'static str) -> Option<String> {
        let body = Bytes::from_static(body.as_bytes());
        normalise(status, &body, caller).map(|e| String::from_utf8(e.body.to_vec()).expect("utf-8"))
    }

    #[test]
    fn openais_own_shape_passes_untouched() {
        let body = r#"{ "error": {"message":"m","type":"t","param":null,"code":null,"extra":1}, "x":2 }"#;
        assert_eq!(normalised(400, body).as_deref(), Some(body));
        let quota = Bytes::from_static(
            br#"{"error":{"message":"m","type":"t","param":null,"code":"insufficient_quota"}}"#,
        );
        assert_eq!(
            normalise(429, &quota, &OPENAI).and_then(|e| e.code).as_deref(),
            Some("insufficient_quota")
        );
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
    fn each_protocols_errors_are_put_into_the_others_words() {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(normalised_for(&ANTHROPIC, 529, overloaded).as_deref(), Some(overloaded));
        let openais = r#"{"error":{"message":"Overloaded","type":"service_unavailable_error","param":null,"code":null}}"#;
        assert_eq!(normalised(529, overloaded).as_deref(), Some(openais));
        let limited =
            r#"{"error":{"message":"slow","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
        let anthropics =
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"},"request_id":"r1"}"#;
        assert_eq!(normalised_for(&ANTHROPIC, 429, limited).as_deref(), Some(anthropics));
    }

    #[test]
    fn what_is_no_json_object_is_none() {
        for body in ["", "<html>502</html>", "[]", "\"x\"", "{\"error\":"] {
            assert_eq!(normalised(502, body), None, "{body}");
        }
    }
}
