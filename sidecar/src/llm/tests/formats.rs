//! Providers of protocols that no caller speaks: Google's, Amazon's and Baidu's.

use std::net::SocketAddr;

use tidegate_core::provider::Vendor;

use super::gateway::{Gateway, openai, remote};
use super::provider::TestProvider;
use crate::llm::{Account, AwsKeys, ProviderKind, ProviderSettings, ServiceAccount};
use crate::secret::Secret;

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const MESSAGE: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const TOKEN: &str = r#"{"access_token":"24.token-0","expires_in":2592000}"#;
const EXPIRED: &str = r#"{"error_code":111,"error_msg":"Access token expired"}"#;
const LIMITED: &str = r#"{"error_code":18,"error_msg":"Open api qps request limit reached"}"#;
const ERNIE: &str = r#"{"id":"as-1","object":"chat.completion","created":1,"result":"yes","is_truncated":false,"finish_reason":"normal","usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

fn of(vendor: Vendor, addr: SocketAddr, account: Account) -> ProviderSettings {
    let mut remote = remote(vendor, addr, &["key-1"]);
    remote.account = account;
    ProviderSettings { kind: ProviderKind::Remote(remote), ..openai("p", addr) }
}

async fn before(vendor: Vendor, provider: &TestProvider) -> Gateway {
    Gateway::start(vec![of(vendor, provider.addr, Account::None)]).await
}

#[tokio::test]
async fn google_is_asked_in_its_way_and_its_usage_counts() {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"yes"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"thoughtsTokenCount":3},"modelVersion":"m-1","responseId":"r"}"#;
    let provider = TestProvider::answering(200, "", answer).await;
    let gateway = before(Vendor::Gemini, &provider).await;
    let got = gateway.chat(CHAT).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.json()["choices"][0]["message"]["content"], "yes");
    assert_eq!(got.json()["usage"]["completion_tokens"], 5);
    let request = &provider.requests()[0];
    assert!(request.head.starts_with("POST /base/models/m:generateContent HTTP/1.1"), "{}", request.head);
    assert_eq!(request.header("x-goog-api-key"), Some("key-1"));
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#).await;
}

#[tokio::test]
async fn googles_stream_ends_well_at_its_last_answer_and_not_before() {
    let provider = TestProvider::start(|number, mut connection| async move {
        connection.open_stream().await;
        connection
            .chunk("data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"你\"}]}}],\"responseId\":\"r\",\"modelVersion\":\"m\"}\r\n\r\n".as_bytes())
            .await;
        if number == 0 {
            connection
                .chunk(b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"!\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":2}}\r\n\r\n")
                .await;
        }
        connection.close_stream().await;
        None
    })
    .await;
    let gateway = before(Vendor::Gemini, &provider).await;
    let good = gateway.chat(STREAM).await;
    assert!(good.text().contains("\"content\":\"你\"") && good.text().ends_with("data: [DONE]\n\n"));
    assert!(provider.requests()[0].head.contains("/base/models/m:streamGenerateContent?alt=sse"));
    let cut = gateway.chat(STREAM).await;
    assert!(
        cut.text().contains("upstream_stream_interrupted") && !cut.text().contains("[DONE]"),
        "{}",
        cut.text()
    );
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#).await;
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="interrupted"} 1"#).await;
}

#[tokio::test]
async fn googles_refusals_keep_their_kind_and_say_when_to_come_back() {
    let error = r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"41s"}]}}"#;
    let provider = TestProvider::answering(429, "", error).await;
    let gateway = before(Vendor::Gemini, &provider).await;
    let got = gateway.chat(CHAT).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (429, "RESOURCE_EXHAUSTED"));
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
    assert_eq!(got.headers["retry-after"], "41");
    let got = gateway.post("/v1/messages", &[], MESSAGE).await;
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
}

/// A frame of Amazon's event streams, made without the code that reads them.
fn frame(kind: &str, payload: &str) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let bit = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
    };
    let name = b"\x0b:event-type\x07";
    let mut headers = name.to_vec();
    headers.extend_from_slice(&u16::try_from(kind.len()).expect("short").to_be_bytes());
    headers.extend_from_slice(kind.as_bytes());
    let total = u32::try_from(headers.len() + payload.len() + 16).expect("short");
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(headers.len()).expect("short").to_be_bytes());
    frame.extend_from_slice(&crc(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc(&frame).to_be_bytes());
    frame
}

fn amazons_stream() -> Vec<u8> {
    [
        frame("messageStart", r#"{"role":"assistant"}"#),
        frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"你好"}}"#),
        frame("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        frame("messageStop", r#"{"stopReason":"end_turn"}"#),
        frame(
            "metadata",
            r#"{"usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7},"metrics":{"latencyMs":1}}"#,
        ),
    ]
    .concat()
}

/// A provider that streams frames in pieces of seven bytes, with this many bytes of them damaged.
async fn amazon(damaged: usize) -> TestProvider {
    TestProvider::start(move |_, mut connection| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.send(head).await;
        let mut frames = amazons_stream();
        let end = frames.len();
        frames[end - damaged..].fill(0);
        for piece in frames.chunks(7) {
            connection.chunk(piece).await;
        }
        connection.close_stream().await;
        None
    })
    .await
}

fn aws() -> Account {
    Account::Aws(AwsKeys {
        region: "eu-west-1".to_owned(),
        access_key_id: "AKID".to_owned(),
        secret_access_key: Secret::new("secret"),
        session_token: Some(Secret::new("session")),
    })
}

#[tokio::test]
async fn amazons_requests_are_signed_and_its_frames_are_events() {
    let provider = amazon(0).await;
    let mut settings = of(Vendor::Bedrock, provider.addr, aws());
    settings.models = vec!["anthropic.claude:0".to_owned()];
    let gateway = Gateway::start(vec![settings]).await;
    let body = STREAM.replace("\"m\"", "\"anthropic.claude:0\"");
    let got = gateway.chat(&body).await;
    assert_eq!(got.headers["content-type"], "text/event-stream");
    assert!(
        got.text().contains("\"content\":\"你好\"") && got.text().ends_with("data: [DONE]\n\n"),
        "{}",
        got.text()
    );
    let request = &provider.requests()[0];
    assert!(
        request.head.starts_with("POST /base/model/anthropic.claude%3A0/converse-stream "),
        "{}",
        request.head
    );
    let authorization = request.header("authorization").expect("signed");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
    assert!(
        authorization.contains(
            "/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, "
        )
    );
    assert_eq!(request.header("x-amz-security-token"), Some("session"));
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#).await;
}

#[tokio::test]
async fn a_damaged_frame_ends_the_stream_with_an_error() {
    let provider = amazon(200).await;
    let gateway = Gateway::start(vec![of(Vendor::Bedrock, provider.addr, aws())]).await;
    let got = gateway.chat(STREAM).await;
    assert!(got.text().contains("\"error\"") && !got.text().contains("[DONE]"), "{}", got.text());
}

#[tokio::test]
async fn amazons_exceptions_keep_their_kind() {
    let header = "x-amzn-errortype: ThrottlingException:http://internal.amazon.com/\r\n";
    let provider = TestProvider::answering(429, header, r#"{"message":"Too many requests"}"#).await;
    let gateway = Gateway::start(vec![of(Vendor::Bedrock, provider.addr, aws())]).await;
    let got = gateway.chat(CHAT).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (429, "ThrottlingException"));
    assert!(got.headers.contains_key("retry-after"));
}

/// Baidu, which gives these answers one after the other, and the last one for ever.
async fn baidu(answers: &'static [&'static str]) -> (TestProvider, Gateway) {
    let provider = TestProvider::start(move |number, mut connection| async move {
        let answer = answers.get(number).or(answers.last()).expect("an answer");
        connection.respond(200, "", answer).await;
        Some(connection)
    })
    .await;
    let (api_key, secret_key) = (Secret::new("ak"), Secret::new("s/k"));
    let account = Account::Baidu { api_key, secret_key };
    let gateway = Gateway::start(vec![of(Vendor::ErnieClassic, provider.addr, account)]).await;
    (provider, gateway)
}

#[tokio::test]
async fn baidus_token_is_fetched_once_and_used_in_the_address() {
    let (provider, gateway) = baidu(&[TOKEN, ERNIE]).await;
    for _ in 0..2 {
        let got = gateway.chat(CHAT).await;
        assert_eq!(got.json()["choices"][0]["message"]["content"], "yes", "{}", got.text());
    }
    let paths: Vec<_> =
        provider.requests().iter().map(|r| r.head.lines().next().unwrap_or_default().to_owned()).collect();
    let chat = "POST /base/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/m?access_token=24.token-0 HTTP/1.1";
    let token =
        "POST /base/oauth/2.0/token?grant_type=client_credentials&client_id=ak&client_secret=s%2Fk HTTP/1.1";
    assert_eq!(paths, [token, chat, chat]);
}

#[tokio::test]
async fn baidus_errors_in_good_answers_are_errors_and_a_refused_token_is_dropped() {
    let (provider, gateway) = baidu(&[TOKEN, EXPIRED, TOKEN, LIMITED]).await;
    let expired = gateway.chat(CHAT).await;
    assert_eq!((expired.status.as_u16(), expired.error_code().as_str()), (401, "111"));
    let limited = gateway.post("/v1/messages", &[], MESSAGE).await;
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json()["error"]["type"], "rate_limit_error");
    assert!(limited.headers.contains_key("retry-after"));
    assert_eq!(provider.requests().len(), 4);
}

#[tokio::test]
async fn a_service_account_signs_for_a_token_that_goes_as_bearer() {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"yes"}]},"finishReason":"STOP"}]}"#;
    let token = r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
    let provider = TestProvider::start(move |number, mut connection| async move {
        connection.respond(200, "", if number == 0 { token } else { answer }).await;
        Some(connection)
    })
    .await;
    let account = Account::Google(Box::new(ServiceAccount {
        client_email: "a@p.iam.gserviceaccount.com".to_owned(),
        private_key: Secret::new(include_str!("../../tokens/testdata/rsa.pem")),
        token_uri: format!("http://{}/token", provider.addr).parse().expect("a URL"),
    }));
    let gateway = Gateway::start(vec![of(Vendor::Vertex, provider.addr, account)]).await;
    let got = gateway.chat(CHAT).await;
    assert_eq!(got.json()["choices"][0]["message"]["content"], "yes", "{}", got.text());
    let requests = provider.requests();
    let form = String::from_utf8_lossy(&requests[0].body);
    let jwt = form.split_once("&assertion=").map_or("", |(_, jwt)| jwt);
    assert!(requests[0].head.starts_with("POST /token ") && jwt.split('.').count() == 3, "{form}");
    assert_eq!(requests[1].header("authorization"), Some("Bearer ya29.x"));
}
