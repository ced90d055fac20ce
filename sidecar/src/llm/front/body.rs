//! The caller's body, read whole and bounded: what to do with a request is known only after
//! its `model` is.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tidegate_core::reply::{Code, Reply};

/// Longest a caller may take to send its body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body of at most `bytes_max`; a body that came in one piece is not copied.
///
/// # Errors
/// `request_too_large` as soon as the limit is passed, or at once when `content-length` says
/// so; `invalid_request` when the body breaks off or takes longer than [`READ_TIMEOUT`].
pub async fn read(headers: &HeaderMap, body: Body, bytes_max: u64) -> Result<Bytes, Reply> {
    if declared_length(headers).is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    tokio::time::timeout(READ_TIMEOUT, collect(body, bytes_max)).await.unwrap_or_else(|_| {
        let limit = READ_TIMEOUT.as_secs();
        Err(Reply::new(Code::InvalidRequest, format!("The body did not arrive within {limit} seconds.")))
    })
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(mut body: Body, bytes_max: u64) -> Result<Bytes, Reply> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut seen: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Reply::new(Code::InvalidRequest, "The body broke off before its end; send the request again.")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len() as u64);
        if seen > bytes_max {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

fn too_large(bytes_max: u64) -> Reply {
    Reply::new(
        Code::RequestTooLarge,
        format!("The body is larger than {bytes_max} bytes (server.max_request_body); send a shorter one."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    fn pieces(parts: &'static [&'static str]) -> Body {
        let frames = parts
            .iter()
            .map(|p| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(p.as_bytes()))));
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn pieces_are_joined_and_a_single_one_is_taken_as_it_is() {
        let headers = HeaderMap::new();
        assert_eq!(read(&headers, pieces(&["ab", "", "c", "d"]), 4).await.expect("fits"), "abcd");
        let whole = Bytes::from_static(b"whole");
        let got = read(&headers, Body::from(whole.clone()), 5).await.expect("fits");
        assert_eq!(got.as_ptr(), whole.as_ptr());
        assert!(read(&headers, Body::empty(), 5).await.expect("fits").is_empty());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_or_without_a_declared_length() {
        let mut headers = HeaderMap::new();
        let refused = read(&headers, pieces(&["ab", "cde"]), 4).await.expect_err("too large");
        assert_eq!(refused.code, Code::RequestTooLarge);
        headers.insert(CONTENT_LENGTH, 5.into());
        let refused = read(&headers, Body::empty(), 4).await.expect_err("too large");
        assert_eq!(refused.code, Code::RequestTooLarge);
    }
}
