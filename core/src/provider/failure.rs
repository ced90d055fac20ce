//! What providers say when they refuse, in words that all protocols have: the kind of the
//! failure survives, and so does when to come back.

use serde::Deserialize;
use serde_json::Value;

use super::Format;
use crate::chat::StreamError;

/// Longest wait that is taken over from a provider, in milliseconds: an hour.
const RETRY_AFTER_MS_MAX: f64 = 3_600_000.0;

/// A refusal that is not written as OpenAI or Anthropic would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status that says it.
    pub status: u16,
    /// Its kind, in OpenAI's words.
    pub kind: &'static str,
    /// For people.
    pub message: String,
    /// The provider's own name for it.
    pub code: Option<String>,
    /// When to come back, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Reads the body of a refusal with this status; `error_type` is Amazon's header of that name.
/// None where it has the shape of OpenAI's or Anthropic's, or none at all.
#[must_use]
pub fn read_failure(format: Format, status: u16, error_type: Option<&str>, body: &[u8]) -> Option<Failure> {
    match format {
        Format::OpenAi | Format::Anthropic => None,
        Format::Gemini => google(status, body),
        Format::Bedrock => amazon(status, error_type, body),
        Format::Ernie => baidu(body),
    }
}

/// Reads a failure in a body whose status says that all is well, as Baidu sends them, and servers
/// that begin to answer before they know (OpenRouter).
#[must_use]
pub fn hidden_failure(format: Format, body: &[u8]) -> Option<Failure> {
    match format {
        Format::Ernie => baidu(body),
        Format::OpenAi => instead_of_answer(body),
        Format::Anthropic | Format::Gemini | Format::Bedrock => None,
    }
}

#[derive(Deserialize)]
struct InsteadOfAnswer {
    error: InsteadError,
}

#[derive(Deserialize)]
struct InsteadError {
    message: Option<String>,
    r#type: Option<String>,
    code: Option<Value>,
}

/// A body that begins with an error; its code may be the status that it would have had.
fn instead_of_answer(body: &[u8]) -> Option<Failure> {
    let inside = body.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    if !inside.starts_with(b"\"error\"") {
        return None;
    }
    let InsteadError { message, r#type, code } = serde_json::from_slice::<InsteadOfAnswer>(body).ok()?.error;
    let told = code.as_ref().and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = told.filter(|status| (400..600).contains(status)).unwrap_or(502);
    Some(Failure {
        status,
        kind: kind_of(status),
        message: message.unwrap_or_default(),
        code: code.as_ref().and_then(Value::as_str).map(str::to_owned).or(r#type),
        retry_after_ms: None,
    })
}

/// The kind of failure that a status stands for, in OpenAI's words.
const fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        408 | 504 => "timeout_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "service_unavailable_error",
        _ => "api_error",
    }
}

#[derive(Deserialize)]
struct Google {
    error: GoogleError,
}

#[derive(Deserialize)]
struct GoogleError {
    message: Option<String>,
    status: Option<String>,
    details: Option<Vec<Detail>>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "retryDelay")]
    retry_delay: Option<String>,
    reason: Option<String>,
}

/// Google's error model (AIP-193), alone or as the only element of a list.
fn google(status: u16, body: &[u8]) -> Option<Failure> {
    let found: Google = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice::<Vec<Google>>(body).ok()?.into_iter().next()?,
        _ => serde_json::from_slice(body).ok()?,
    };
    let GoogleError { message, status: name, details } = found.error;
    let details = details.unwrap_or_default();
    let bad_key = details.iter().any(|detail| detail.reason.as_deref() == Some("API_KEY_INVALID"));
    // Google answers 400 to a key that it does not know.
    let status = if bad_key { 401 } else { status };
    Some(Failure {
        status,
        kind: kind_of(status),
        message: message.unwrap_or_default(),
        code: name,
        retry_after_ms: details.iter().find_map(|detail| seconds(detail.retry_delay.as_deref()?)),
    })
}

/// A duration as protocol buffers write it, `34.5s`, in milliseconds.
fn seconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let ms = (seconds * 1000.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    (0.0..=RETRY_AFTER_MS_MAX).contains(&ms).then_some(ms as u64)
}

#[derive(Deserialize)]
struct Amazon {
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type")]
    r#type: Option<String>,
}

/// The kind is in a header or in `__type`, as in `ThrottlingException:http://...`.
fn amazon(status: u16, error_type: Option<&str>, body: &[u8]) -> Option<Failure> {
    let found: Amazon = serde_json::from_slice(body).ok()?;
    let named = error_type.map(str::to_owned).or(found.r#type);
    let code = named.map(|name| {
        let name = name.split(':').next().unwrap_or_default();
        name.rsplit('#').next().unwrap_or_default().to_owned()
    });
    // A model that is still getting ready is 429 there, and not the caller's doing.
    let status = match code.as_deref() {
        Some("ModelNotReadyException") => 503,
        Some("ModelErrorException") => 502,
        _ => status,
    };
    let message = found.message.unwrap_or_default();
    Some(Failure { status, kind: kind_of(status), message, code, retry_after_ms: None })
}

#[derive(Deserialize)]
struct Baidu {
    error_code: Value,
    error_msg: Option<String>,
}

/// Error codes of the Qianfan platform's documentation.
fn baidu(body: &[u8]) -> Option<Failure> {
    let found: Baidu = serde_json::from_slice(body).ok()?;
    let code = found.error_code.as_i64()?;
    let status = match code {
        2 | 336_000 | 336_100 => 503,
        4 | 17 | 18 | 19 | 336_501..=336_505 => 429,
        6 | 15 | 336_004 => 403,
        13 | 14 | 100 | 110 | 111 | 336_009 => 401,
        3 | 336_001..=336_003 | 336_006..=336_008 | 336_103..=336_120 => 400,
        _ => 500,
    };
    Some(Failure {
        status,
        kind: kind_of(status),
        message: found.error_msg.unwrap_or_default(),
        code: Some(code.to_string()),
        retry_after_ms: None,
    })
}

#[derive(Deserialize)]
struct InStream {
    error: Option<Value>,
    error_code: Option<i64>,
}

/// An error in a stream, whatever the provider's protocol: in OpenAI's shape, in which the
/// gateway itself tells of a fault, in Google's, or in Baidu's.
pub fn in_stream(format: Format, data: &[u8]) -> Option<StreamError> {
    // Most events are no errors: a look is cheaper than a parse.
    let word = b"\"error";
    if !data.windows(word.len()).any(|window| window == word) {
        return None;
    }
    let found: InStream = serde_json::from_slice(data).ok()?;
    if found.error_code.is_some() {
        let failure = read_failure(format, 500, None, data)?;
        let Failure { kind, message, code, .. } = failure;
        return Some(StreamError { kind: kind.to_owned(), message, code });
    }
    let error = found.error?;
    let text = |field: &str| error.get(field).and_then(Value::as_str).map(str::to_owned);
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    Some(StreamError {
        kind: text("type").unwrap_or_else(|| kind_of(status.unwrap_or(500)).to_owned()),
        message: text("message").unwrap_or_default(),
        code: text("code").or_else(|| text("status")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_kind_and_delay_survive() {
        let body = br#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"x"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.0745s"}]}}]"#;
        let failure = read_failure(Format::Gemini, 429, None, body).expect("a failure");
        assert_eq!((failure.status, failure.kind), (429, "rate_limit_error"));
        assert_eq!(failure.retry_after_ms, Some(34_075));
        assert_eq!(failure.code.as_deref(), Some("RESOURCE_EXHAUSTED"));
        let body = br#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(read_failure(Format::Gemini, 400, None, body).expect("a failure").status, 401);
    }

    #[test]
    fn amazons_kind_is_in_its_header() {
        let failure =
            |status, header| read_failure(Format::Bedrock, status, header, br#"{"message":"slow"}"#);
        let throttled = failure(429, Some("ThrottlingException:http://internal")).expect("a failure");
        assert_eq!(
            (throttled.kind, throttled.code.as_deref()),
            ("rate_limit_error", Some("ThrottlingException"))
        );
        assert_eq!(failure(429, Some("ModelNotReadyException")).expect("a failure").status, 503);
        let named = read_failure(
            Format::Bedrock,
            400,
            None,
            br#"{"__type":"com.amazon#ValidationException","Message":"m"}"#,
        );
        let named = named.expect("a failure");
        assert_eq!((named.code.as_deref(), named.message.as_str()), (Some("ValidationException"), "m"));
    }

    #[test]
    fn baidus_errors_in_good_answers_are_found() {
        let body = br#"{"error_code":18,"error_msg":"Open api qps request limit reached"}"#;
        assert_eq!(hidden_failure(Format::Ernie, body).expect("a failure").status, 429);
        assert_eq!(hidden_failure(Format::Ernie, br#"{"result":"a"}"#), None);
        assert_eq!(hidden_failure(Format::OpenAi, body), None);
        assert_eq!(in_stream(Format::Ernie, body).expect("an error").kind, "rate_limit_error");
    }

    #[test]
    fn errors_instead_of_answers_have_the_status_that_they_tell() {
        let failure = |body: &str| hidden_failure(Format::OpenAi, body.as_bytes());
        let routed = failure(r#"{"error":{"message":"Provider returned error","code":429},"user_id":"u"}"#);
        let routed = routed.expect("a failure");
        assert_eq!((routed.status, routed.kind, routed.code), (429, "rate_limit_error", None));
        let named = failure(" { \"error\": {\"message\":\"m\",\"type\":\"server_error\",\"code\":\"x\"}}");
        let named = named.expect("a failure");
        assert_eq!((named.status, named.kind, named.code.as_deref()), (502, "api_error", Some("x")));
        for answer in [r#"{"id":"1","error":null,"choices":[]}"#, r#"{"error":null,"id":"resp_1"}"#, "[]", ""]
        {
            assert_eq!(failure(answer), None, "{answer}");
        }
    }

    #[test]
    fn absurd_delays_are_not_taken_over() {
        for text in ["", "s", "-1s", "1e9s", "nans", "5"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
