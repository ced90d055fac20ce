//! Requests signed with an Alibaba Cloud access key, through a real Envoy. That our canonical
//! request is Alibaba's own is tested in the sidecar, on what their SDK sent.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use sha2::{Digest as _, Sha256};
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, content, expect_error};

const ID: &str = "LTAI5tTestAccessKey";
const SECRET: &str = "secret-of-the-test-0123456789";
const CONFIG: &str = "\
server:
  upstreams:
    - {name: own, prefix: /own, address: '{{own}}'}
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  ram:
    clock_window: 60s
    access_keys:
      - {id: LTAI5tTestAccessKey, secret: '@SECRET@', tenant: acme, role: operator}
";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2104 with SHA-256, for keys of at most 64 bytes.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ pad).collect::<Vec<u8>>();
    let inner = Sha256::new_with_prefix(padded(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn date(at_s: u64) -> String {
    let output = Command::new("date").args(["-u", "-d", &format!("@{at_s}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// A request and what its signature says.
struct Signer<'g> {
    gateway: &'g Gateway,
    nonce: u32,
}

struct Signed {
    method: Method,
    target: String,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Signer<'_> {
    /// Signs; `target` is canonical already.
    fn sign(&mut self, method: Method, target: &str, body: &str, at_s: u64) -> Signed {
        self.nonce += 1;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let digest = hex(&Sha256::digest(body));
        let mut headers = vec![
            ("host", self.gateway.address().to_string()),
            ("x-acs-content-sha256", digest.clone()),
            ("x-acs-date", date(at_s)),
            ("x-acs-signature-nonce", format!("nonce-{}", self.nonce)),
        ];
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}");
        let to_sign = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical)));
        let signature = hex(&hmac(SECRET.as_bytes(), to_sign.as_bytes()));
        let authorization =
            format!("ACS3-HMAC-SHA256 Credential={ID},SignedHeaders={names},Signature={signature}");
        headers.push(("authorization", authorization));
        Signed { method, target: target.to_owned(), body: body.to_owned(), headers }
    }

    async fn send(&self, signed: &Signed) -> Answer {
        let headers: Vec<_> = signed.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let url = self.gateway.url(&signed.target);
        Client::new().send(&signed.method, &url, &headers, signed.body.clone()).await.unwrap()
    }
}

#[tokio::test]
async fn a_signed_request_gets_in_once_and_as_it_was_signed() {
    let emulator = tidegate_e2e::emulator::Emulator::start(0).await.unwrap();
    let own = emulator.base_url().replace("http://", "");
    let own = own.split_once('/').map_or(own.as_str(), |(address, _)| address);
    let config = CONFIG.replace("@SECRET@", SECRET).replace("{{own}}", own);
    let gateway = Gateway::builder().config_yaml(&config).emulator(emulator).start().await.unwrap();
    let mut signer = Signer { gateway: &gateway, nonce: 0 };
    let now = now_s();

    let body = chat("signed");
    let good = signer.sign(Method::POST, "/v1/chat/completions", &body, now);
    let answer = signer.send(&good).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(content(&answer).contains("signed"));
    expect_error(&signer.send(&good).await, 401, "replay_detected");

    let query = signer.sign(Method::GET, "/v1/admin/status?a=1&b=two%20words", "", now);
    assert_eq!(signer.send(&query).await.status, 200);
    let mut longer = signer.sign(Method::GET, "/v1/models?a=1", "", now);
    longer.target.push_str("&b=2");
    expect_error(&signer.send(&longer).await, 401, "invalid_signature");

    let mut swapped = signer.sign(Method::POST, "/v1/chat/completions", &body, now);
    swapped.body = chat("something else");
    expect_error(&signer.send(&swapped).await, 401, "invalid_signature");
    let mut with_body = signer.sign(Method::DELETE, "/admin/limits", "", now);
    with_body.body = "{}".to_owned();
    expect_error(&signer.send(&with_body).await, 401, "invalid_signature");

    for at_s in [now - 120, now + 120] {
        let skewed = signer.sign(Method::GET, "/v1/models", "", at_s);
        expect_error(&signer.send(&skewed).await, 401, "signature_expired");
    }
    let mut twice = signer.sign(Method::GET, "/v1/models", "", now);
    twice.headers.push(("x-api-key", "another-key-0123456789".to_owned()));
    expect_error(&signer.send(&twice).await, 400, "duplicate_credential");

    own_routes_ask_for_the_body_too(&mut signer, now).await;
    let direct = signer.sign(Method::GET, "/v1/models", "", now);
    let headers: Vec<_> = direct.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let url = gateway.sidecar_url("/v1/models");
    let answer = Client::new().send(&Method::GET, &url, &headers, "").await.unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["code"], "invalid_signature");
}

/// The emulator stands in for the operator's own upstream: its 404 shows that it was asked.
async fn own_routes_ask_for_the_body_too(signer: &mut Signer<'_>, now: u64) {
    let good = signer.sign(Method::POST, "/own/thing", "the body", now);
    let answer = signer.send(&good).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    let mut other = signer.sign(Method::POST, "/own/thing", "the body", now);
    other.body = "another".to_owned();
    expect_error(&signer.send(&other).await, 401, "invalid_signature");
}
