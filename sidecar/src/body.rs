//! Bodies of the gateway's own endpoints, read whole and bounded.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tidegate_core::reply::{Code, Reply};

/// Longest a caller may take to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body of at most `bytes_max`.
///
/// # Errors
/// It is longer, breaks off, or takes longer than [`READ_TIMEOUT`].
pub async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Reply> {
    let whole = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match whole {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Reply::new(Code::RequestTooLarge, format!("the body is larger than {bytes_max} bytes")))
        }
        Ok(Err(_)) | Err(_) => Err(Reply::new(
            Code::InvalidRequest,
            "the body broke off or took too long; send the request again",
        )),
    }
}

/// Reads a JSON object of at most `bytes_max` into a `T`; the error names the field.
///
/// # Errors
/// See [`read`]; `invalid_json` for what is not JSON, and `invalid` for JSON that is no `T`.
pub async fn json<T: DeserializeOwned>(body: Body, bytes_max: usize, invalid: Code) -> Result<T, Reply> {
    let bytes = read(body, bytes_max).await?;
    // Serde would read a list as the fields in their order, which nobody means.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Reply::new(invalid, "the body is a list; send a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        if inner.is_data() {
            Reply::new(invalid, format!("{path}: {inner}")).with_param(path)
        } else {
            Reply::new(Code::InvalidJson, format!("the body is not valid JSON: {inner}"))
        }
    })?;
    reader.end().map_err(|_| Reply::new(Code::InvalidJson, "the body has more after its JSON value"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rate {
        rate: f64,
    }

    #[tokio::test]
    async fn each_bad_body_gets_its_own_code() {
        let read = |text: &'static str| json::<Rate>(Body::from(text), 20, Code::InvalidConfig);
        assert!((read(r#"{"rate":2.5}"#).await.expect("good").rate - 2.5).abs() < f64::EPSILON);
        for (text, code, param) in [
            ("", Code::InvalidJson, None),
            ("{", Code::InvalidJson, None),
            ("{\"rate\":1} x", Code::InvalidJson, None),
            (" [1]", Code::InvalidConfig, None),
            ("{\"rate\":\"a\"}", Code::InvalidConfig, Some("rate")),
            ("{\"rats\":1}", Code::InvalidConfig, Some("rats")),
            ("{\"rate\":1.0000000000000}", Code::RequestTooLarge, None),
        ] {
            let refused = read(text).await.expect_err(text);
            assert_eq!((refused.code, refused.param.as_deref()), (code, param), "{text}");
        }
    }
}
