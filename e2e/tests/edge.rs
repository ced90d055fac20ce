//! What Envoy does where it is configured: headers on every answer, compression, the access log.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tidegate_e2e::emulator::Emulator;
use tidegate_e2e::harness::{Answer, Client, Gateway, chat, content, eventually, stream, streamed_content};

const DEADLINE: Duration = Duration::from_secs(30);
const GZIP: [(&str, &str); 2] = [("accept-encoding", "gzip"), ("content-type", "application/json")];

async fn gateway(server: &str, more: &str) -> Gateway {
    let emulator = Emulator::start(0).await.unwrap();
    let config = format!(
        "\
server:
  upstreams: [{{name: shop, prefix: /openai, address: \"{}\", api_key: sk-emulated-0123456789}}]
{server}
{more}
providers:
  - {{{{openai}}}}
    models: [gpt-4o]
auth:
  anonymous: {{enabled: true, tenant: demo}}
",
        emulator.address()
    );
    Gateway::builder().config_yaml(&config).emulator(emulator).start().await.unwrap()
}

async fn gzipped(gateway: &Gateway, path: &str, body: String) -> Answer {
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    Client::new().send(&method, &gateway.url(path), &GZIP, body).await.unwrap()
}

/// What the system's own gzip makes of a body.
fn unzipped(answer: &Answer) -> Answer {
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    child.stdin.take().expect("piped").write_all(&answer.body).expect("gzip reads");
    let output = child.wait_with_output().expect("gzip ends");
    assert!(output.status.success(), "not gzip: {:?}", answer.headers);
    Answer { body: output.stdout.into(), ..answer.clone() }
}

#[tokio::test]
async fn every_answer_has_the_safety_headers_once_whoever_made_it() {
    let headers = "{permissions-policy: 'camera=(), share=50%'}";
    let gateway = gateway("", &format!("security: {{headers: {headers}}}")).await;
    let url = |path: &str| gateway.url(path);
    let client = Client::new();
    let (first, second) = (gateway.ask(&client, chat("a")).await, gateway.ask(&client, chat("a")).await);
    let (first, cached) = (first.unwrap(), second.unwrap());
    assert_eq!(cached.header("x-gateway-cache"), Some("hit"), "{:?}", cached.headers);
    let json = [("content-type", "application/json")];
    let strange = client.send(&Method::POST, &url("/v1/chat/completions"), &json, "{").await.unwrap();
    assert_eq!(strange.status, 400);
    for answer in [
        first,
        cached,
        strange,
        client.get(&url("/health")).await.unwrap(),
        // Direct answers, the operator's own server, the sidecar that sets one itself, and a request
        // that Envoy refuses before any filter sees it.
        client.get(&url("/internal/v1/snapshot")).await.unwrap(),
        client.get(&url("/nothing/here")).await.unwrap(),
        client.get(&url("/openai/v1/models")).await.unwrap(),
        client.get(&url("/dashboard/")).await.unwrap(),
        client.send(&Method::GET, &url("/health"), &[("a_b", "c")], "").await.unwrap(),
    ] {
        let shown = format!("{} {:?}\n{}", answer.status, answer.headers, answer.text());
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("permissions-policy", "camera=(), share=50%"),
        ] {
            let all: Vec<_> = answer.headers.get_all(name).iter().collect();
            assert_eq!(all.len(), 1, "{name}: {shown}");
            assert_eq!(all[0], value, "{name}: {shown}");
        }
        assert_eq!(answer.header("strict-transport-security"), None, "not without TLS: {shown}");
    }
}

#[tokio::test]
async fn answers_are_compressed_for_who_asks_and_streams_and_the_cache_stay_plain() {
    let gateway = gateway("  compression: true", "").await;
    let prompt = "all work and no play ".repeat(200);
    let path = "/v1/chat/completions";
    let missed = gzipped(&gateway, path, chat(&prompt)).await;
    let hit = gzipped(&gateway, path, chat(&prompt)).await;
    assert_eq!(missed.header("x-gateway-cache"), Some("miss"));
    assert_eq!(hit.header("x-gateway-cache"), Some("hit"));
    for answer in [&missed, &hit] {
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{:?}", answer.headers);
        assert!(
            answer.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("accept-encoding"))
        );
        assert!(answer.body.len() < prompt.len() / 4, "{} bytes", answer.body.len());
        assert!(content(&unzipped(answer)).contains(&prompt[..40]));
    }
    // What was stored is plain: who does not accept gzip gets the same answer.
    let plain = gateway.ask(&Client::new(), chat(&prompt)).await.unwrap();
    assert_eq!(plain.header("x-gateway-cache"), Some("hit"));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(unzipped(&hit).text(), plain.text());

    for round in ["miss", "hit"] {
        let streamed = gzipped(&gateway, path, stream(&prompt[..400])).await;
        assert_eq!(streamed.header("x-gateway-cache"), Some(round));
        assert_eq!(streamed.header("content-encoding"), None, "{:?}", streamed.headers);
        assert!(streamed_content(&streamed).contains(&prompt[..40]), "{}", streamed.text());
    }
    let short = gzipped(&gateway, path, chat("short")).await;
    assert_eq!(short.header("content-encoding"), None, "not worth it: {:?}", short.headers);
    let own = gzipped(&gateway, "/openai/v1/chat/completions", chat(&prompt)).await;
    assert_eq!(own.status, 200, "{}", own.text());
    assert_eq!(own.header("content-encoding"), Some("gzip"), "{:?}", own.headers);
    assert!(content(&unzipped(&own)).contains(&prompt[..40]));
}

/// The lines of the access log so far.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let log = std::fs::read_to_string(&gateway.envoy.process.spec().log).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("path").is_some_and(|path| path != "/ready")).collect()
}

async fn line(gateway: &Gateway, id: &str) -> Value {
    let found = || async { lines(gateway).into_iter().find(|line| line["request_id"] == id) };
    eventually("the request is in the access log", DEADLINE, found).await.unwrap()
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_and_nothing_secret() {
    let gateway = gateway("", "logging: {access: true}").await;
    let url = gateway.url("/v1/chat/completions?key=in-the-query");
    for (id, cache) in [("first", "miss"), ("second", "hit")] {
        let client = Client::new().with_header("x-request-id", id);
        let answer = client.post_json(&url, chat("a prompt to be kept secret")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = line(&gateway, id).await;
        assert_eq!(line["cache"], cache, "{line}");
        assert_eq!((&line["method"], &line["status"]), (&"POST".into(), &200.into()), "{line}");
        assert_eq!(line["path"], "/v1/chat/completions", "{line}");
        assert_eq!(line["bytes_sent"], answer.body.len(), "{line}");
        assert!(line["duration_ms"].is_u64() && line["time"].is_string(), "{line}");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
    }
    let (first, second) = (line(&gateway, "first").await, line(&gateway, "second").await);
    assert_eq!((&first["provider"], &first["model"]), (&"openai".into(), &"gpt-4o".into()), "{first}");
    assert!(first["first_byte_ms"].is_u64() && first["details"] == "via_upstream", "{first}");
    assert_eq!(second["cache_layer"], "l1", "{second}");

    let refused = Client::new().with_header("x-request-id", "third").with_key("sk-not-a-key-of-ours");
    assert_eq!(gateway.ask(&refused, chat("b")).await.unwrap().status, 401);
    assert_eq!(line(&gateway, "third").await["status"], 401);
    let all = serde_json::to_string(&lines(&gateway)).unwrap();
    for secret in ["kept secret", "sk-not-a-key", "in-the-query"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test]
async fn an_access_log_of_errors_has_nothing_else() {
    let gateway = gateway("", "logging: {access: errors}").await;
    let client = Client::new().with_header("x-request-id", "good");
    assert_eq!(gateway.ask(&client, chat("a")).await.unwrap().status, 200);
    let client = Client::new().with_header("x-request-id", "bad");
    assert_eq!(gateway.ask(&client, "{").await.unwrap().status, 400);
    line(&gateway, "bad").await;
    assert_eq!(lines(&gateway).len(), 1, "{:?}", lines(&gateway));
}
