//! What must hold of every refusal, said once.

use super::client::Answer;

/// Checks an error in OpenAI's shape: status, `code`, JSON with all four fields, a request id, and
/// when to come back on every 429 and 503.
///
/// # Panics
/// Something is missing or different; the message has the answer.
#[track_caller]
pub fn expect_error(answer: &Answer, status: u16, code: &str) {
    let shown = format!("{} {:?}\n{}", answer.status, answer.headers, answer.text());
    assert_eq!(answer.status, status, "{shown}");
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{shown}");
    let body = answer.json();
    let error = &body["error"];
    assert_eq!(error["code"], code, "{shown}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
    assert!(error["type"].is_string(), "{shown}");
    assert!(error.get("param").is_some(), "{shown}");
    assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{shown}");
    if matches!(status, 429 | 503) {
        expect_wait(answer, &shown);
    }
}

#[track_caller]
fn expect_wait(answer: &Answer, shown: &str) {
    let number = |name| answer.header(name).and_then(|value| value.parse::<u64>().ok());
    let (Some(seconds), Some(ms)) = (number("retry-after"), number("retry-after-ms")) else {
        panic!("no retry-after and retry-after-ms: {shown}");
    };
    assert_eq!(seconds, ms.div_ceil(1000).max(1), "{shown}");
    assert_eq!(answer.header("x-should-retry"), Some("true"), "{shown}");
}
