//! Requests that no gateway should believe: every one is answered in the caller's protocol, and
//! none of them reaches a provider.

use http::Method;
use serde_json::json;
use tidegate_e2e::harness::{Answer, Client, Gateway, RawConnection, chat, expect_error};

/// Twice what the default configuration accepts.
const HUGE_BYTES: usize = 20 << 20;
/// A size that is just accepted, with its envelope.
const LARGE_BYTES: usize = (10 << 20) - 256;
const CHUNK_BYTES: usize = 64 << 10;

#[tokio::test]
async fn bodies_are_checked_before_anyone_is_bothered() {
    let gateway = Gateway::builder().start().await.unwrap();
    broken_bodies_name_what_is_wrong(&gateway).await;
    a_huge_body_is_refused_at_its_declared_length(&gateway).await;
    a_huge_chunked_body_is_refused_while_it_comes(&gateway).await;
    methods_and_paths_that_do_not_exist_say_so(&gateway).await;
    invalid_utf8_harms_nobody(&gateway).await;
    assert_eq!(gateway.emulator.stats().requests_total, 0, "{:?}", gateway.emulator.requests());
    a_body_just_under_the_limit_passes(&gateway).await;
}

async fn broken_bodies_name_what_is_wrong(gateway: &Gateway) {
    let client = Client::new();
    let cases: [(&[u8], u16, &str, Option<&str>); 11] = [
        (b"{\"model\":\"gpt-4o\",", 400, "invalid_json", None),
        (b"", 400, "invalid_json", None),
        (b"   ", 400, "invalid_json", None),
        (b"[1,2]", 400, "invalid_json", None),
        (b"\"text\"", 400, "invalid_json", None),
        (b"{\"model\":\"\xff\xfe\"}", 400, "invalid_json", None),
        (b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 400, "invalid_request", Some("model")),
        (b"{\"model\":\"gpt-4o\"}", 400, "invalid_request", Some("messages")),
        (b"{\"model\":\"gpt-4o\",\"messages\":[]}", 400, "invalid_request", Some("messages")),
        (b"{\"model\":7,\"messages\":[{}]}", 400, "invalid_request", Some("model")),
        (
            b"{\"model\":\"gpt-9\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
            404,
            "model_not_found",
            Some("model"),
        ),
    ];
    for (body, status, code, param) in cases {
        let answer = gateway.ask(&client, body).await.unwrap();
        expect_error(&answer, status, code);
        assert_eq!(answer.json()["error"]["param"].as_str(), param, "{}", answer.text());
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    expect_error(&gateway.ask(&client, deep).await.unwrap(), 400, "invalid_json");
    let broken = client.post_json(&gateway.url("/v1/messages"), "{").await.unwrap();
    expect_anthropic_error(&broken, 400, "invalid_request_error");
}

fn expect_anthropic_error(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
    assert!(body["error"]["message"].is_string());
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
}

fn head(path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nconnection: close\r\n{more}\r\n"
    )
}

/// Checks the raw answer to a body that is too large, in the dialect of its path.
fn expect_too_large(path: &str, raw: &[u8]) {
    let text = String::from_utf8_lossy(raw);
    assert!(text.starts_with("HTTP/1.1 413 "), "{path}: {text}");
    assert!(text.contains("content-type: application/json\r\n"), "{path}: {text}");
    let expected = if path == "/v1/messages" {
        r#"{"type":"error","error":{"type":"request_too_large""#
    } else {
        r#""code":"request_too_large""#
    };
    assert!(text.contains(expected), "{path}: {text}");
}

async fn a_huge_body_is_refused_at_its_declared_length(gateway: &Gateway) {
    for path in ["/v1/chat/completions", "/v1/messages", "/admin/limits/"] {
        let mut raw = RawConnection::open(gateway.address()).await.unwrap();
        let request = head(path, &format!("content-length: {HUGE_BYTES}\r\n"));
        // Not a byte of the body is needed for the answer.
        expect_too_large(path, &raw.exchange(request.as_bytes()).await.unwrap());

        let mut raw = RawConnection::open(gateway.address()).await.unwrap();
        let mut whole = request.into_bytes();
        whole.resize(whole.len() + HUGE_BYTES, b'x');
        expect_too_large(path, &raw.exchange(&whole).await.unwrap());
    }
}

async fn a_huge_chunked_body_is_refused_while_it_comes(gateway: &Gateway) {
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let mut request = head(path, "transfer-encoding: chunked\r\n").into_bytes();
        let mut chunk = format!("{CHUNK_BYTES:x}\r\n").into_bytes();
        chunk.resize(chunk.len() + CHUNK_BYTES, b'x');
        chunk.extend_from_slice(b"\r\n");
        request.extend(chunk.repeat(HUGE_BYTES / CHUNK_BYTES));
        request.extend_from_slice(b"0\r\n\r\n");
        let mut raw = RawConnection::open(gateway.address()).await.unwrap();
        expect_too_large(path, &raw.exchange(&request).await.unwrap());
    }
}

async fn a_body_just_under_the_limit_passes(gateway: &Gateway) {
    let body = json!({"model": "gpt-4o", "max_tokens": 2,
        "messages": [{"role": "user", "content": "x".repeat(LARGE_BYTES)}]});
    let answer = gateway.ask(&Client::new(), body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn methods_and_paths_that_do_not_exist_say_so(gateway: &Gateway) {
    let client = Client::new();
    let cases = [
        (Method::GET, "/v1/chat/completions", "POST"),
        (Method::DELETE, "/v1/completions", "POST"),
        (Method::PUT, "/local/chat/completions", "POST"),
        (Method::POST, "/v1/models", "GET"),
        (Method::POST, "/health", "GET"),
    ];
    for (method, path, allowed) in cases {
        let answer = client.send(&method, &gateway.url(path), &[], "").await.unwrap();
        expect_error(&answer, 405, "method_not_allowed");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(allow.contains(allowed), "{method} {path}: allow: {allow}");
    }
    for path in ["/v1/nowhere", "/v1", "/local/nothing", "/", "/some/page", "/readyzz"] {
        let answer = client.get(&gateway.url(path)).await.unwrap();
        expect_error(&answer, 404, "not_found");
    }
    let unknown = client.get(&gateway.url("/v1/models/gpt-9")).await.unwrap();
    expect_error(&unknown, 404, "model_not_found");
    let pinned = Client::new().with_header("x-gateway-provider", "nobody");
    let answer = gateway.ask(&pinned, chat("x")).await.unwrap();
    assert!(answer.status.is_client_error(), "{}", answer.text());
}

/// Sends a request byte for byte and returns the answer's status line and the rest.
async fn raw(gateway: &Gateway, request: &[u8]) -> (u16, String) {
    let mut connection = RawConnection::open(gateway.address()).await.unwrap();
    let answer = connection.exchange(request).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text)
}

async fn invalid_utf8_harms_nobody(gateway: &Gateway) {
    let get = |line: &[u8], header: &[u8]| {
        let mut request = line.to_vec();
        request.extend_from_slice(b" HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n");
        request.extend_from_slice(header);
        request.extend_from_slice(b"\r\n");
        request
    };
    let models = b"GET /v1/models";
    let refused_or_served = [
        get(models, b"x-custom: \xff\xfe\x80\r\n"),
        get(models, b"x-request-id: \xc3\x28\r\n"),
        get(models, b"cache-control: \xff\r\n"),
        get(models, b"x-\xff: y\r\n"),
    ];
    for request in refused_or_served {
        let (status, text) = raw(gateway, &request).await;
        assert!(matches!(status, 200 | 400), "{text}");
    }
    for header in [&b"authorization: Bearer \xff\xfe\r\n"[..], b"x-api-key: \x80\x81\r\n"] {
        let (status, text) = raw(gateway, &get(models, header)).await;
        assert!(matches!(status, 400 | 401), "{text}");
    }
    for line in [&b"GET /v1/models/\xff"[..], b"GET /v1/models/%ff", b"G\xffT /v1/models"] {
        let (status, text) = raw(gateway, &get(line, b"")).await;
        assert!((400..500).contains(&status), "{text}");
    }
    let answer = Client::new().get(&gateway.url("/v1/models")).await.unwrap();
    assert_eq!(answer.status, 200, "the gateway goes on");
}

#[tokio::test]
async fn internal_paths_cannot_be_reached_by_any_spelling() {
    let gateway = Gateway::builder().start().await.unwrap();
    let paths = [
        "/internal",
        "/internal/",
        "/internal/v1/snapshot",
        "/internal/v1/snapshot?have=&wait_ms=0",
        "/internal?x=/v1/snapshot",
        "//internal/v1/snapshot",
        "///internal//v1/snapshot",
        "/./internal/v1/snapshot",
        "/v1/../internal/v1/snapshot",
        "/v1/models/../../internal/v1/snapshot",
        "/v1/%2e%2e/internal/v1/snapshot",
        "/%69nternal/v1/snapshot",
        "/internal%2fv1/snapshot",
        "/internal%2Fv1%2Fsnapshot",
        "/internal%5cv1%5csnapshot",
        "/v1/..%2finternal/v1/snapshot",
        "/v1/..%5cinternal/v1/snapshot",
        "/v1\\..\\internal\\v1\\snapshot",
        "/INTERNAL/v1/snapshot",
        "/internal;/v1/snapshot",
        "/v1/..;/internal/v1/snapshot",
        "http://gateway/internal/v1/snapshot",
        "/health/../internal/v1/snapshot",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: 0\r\n\
                 x-tidegate-internal: guess\r\n\r\n"
            );
            let (status, text) = raw(&gateway, request.as_bytes()).await;
            assert!(matches!(status, 400 | 401 | 403 | 404 | 405), "{method} {path}: {text}");
            assert!(
                !text.contains("\"revision\"") && !text.contains("\"limits\""),
                "{method} {path}: {text}"
            );
        }
    }
    for path in ["/internal/v1/authenticate", "/internal/v1/events"] {
        let answer = Client::new().post_json(&gateway.url(path), r#"{"credential":"guess"}"#).await.unwrap();
        expect_error(&answer, 404, "not_found");
    }
    // On the sidecar's own port the secret is asked for.
    for client in [Client::new(), Client::new().with_header("x-tidegate-internal", "guess"), gateway.admin()]
    {
        let answer = client.get(&gateway.sidecar_url("/internal/v1/snapshot")).await.unwrap();
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    let answer = gateway.ask(&Client::new(), chat("still there?")).await.unwrap();
    assert_eq!(answer.status, 200);
}
