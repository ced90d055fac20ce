//! TLS: towards clients, with certificates that are replaced and certificates that are asked for,
//! and towards the operator's own servers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tidegate_e2e::emulator::Emulator;
use tidegate_e2e::harness::{
    Certificates, Client, Gateway, Port, TlsClient, TlsEnd, chat, content, eventually,
};

const DEADLINE: Duration = Duration::from_secs(30);
const CHAT: &str = "/v1/chat/completions";

async fn made(dir: &Path, name: &str) -> Certificates {
    let folder = dir.join(name);
    fs::create_dir(&folder).unwrap();
    Certificates::make(&folder).await.unwrap()
}

/// A gateway that speaks TLS as `tls` says besides its certificate.
async fn gateway(own: &Certificates, tls: &str, ready_by: TlsClient) -> Gateway {
    let (cert, key) = (own.cert.display(), own.key.display());
    let security = format!("security: {{headers: true, tls: {{cert_path: {cert}, key_path: {key}, {tls}}}}}");
    Gateway::builder().add_config(&security).ready_by(ready_by).start().await.unwrap()
}

#[tokio::test]
async fn clients_are_served_by_tls_and_others_are_sent_there() {
    let dir = TempDir::new().unwrap();
    let own = made(dir.path(), "own").await;
    let client = |protocols: &[&str]| TlsClient::new(&own, None, protocols).unwrap();
    let redirect = Port::lease().unwrap();
    let tls = format!("redirect_http_port: {}", redirect.number());
    let gateway = gateway(&own, &tls, client(&["http/1.1"])).await;
    let port = gateway.address().port();
    for (offered, agreed) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1"), (&[], "")] {
        let got = client(offered).send(port, CHAT, &chat("by TLS")).await.unwrap();
        assert_eq!(got.protocol, agreed);
        assert_eq!(got.answer.status, 200, "{}", got.answer.text());
        assert!(content(&got.answer).contains("by TLS"));
        let kept = got.answer.header("strict-transport-security").expect("only by TLS from now on");
        assert!(kept.starts_with("max-age="), "{kept}");
    }
    // Who does not speak TLS gets nothing here, and its way from the other port.
    assert!(Client::new().get(&gateway.url("/health")).await.is_err());
    let plain = format!("http://127.0.0.1:{}{CHAT}?a=b", redirect.number());
    let sent = Client::new().send(&Method::POST, &plain, &[], chat("plain")).await.unwrap();
    assert_eq!(sent.status, 308);
    assert_eq!(sent.header("location"), Some(&*format!("https://127.0.0.1:{port}{CHAT}?a=b")));
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_wrong_one_never() {
    let dir = TempDir::new().unwrap();
    let (own, next) = (made(dir.path(), "own").await, made(dir.path(), "next").await);
    let served = |authority: &Certificates| TlsClient::new(authority, None, &["h2"]).unwrap();
    let gateway = gateway(&own, "", served(&own)).await;
    let port = gateway.address().port();
    let before = served(&own).send(port, "/health", "").await.unwrap().certificate;

    // A key that is not the certificate's: the log says so, and the old pair stays.
    fs::copy(&next.key, &own.key).unwrap();
    let log = gateway.dir().join("sidecar.log");
    let refused =
        || async { fs::read_to_string(&log).ok()?.contains("not the key of the first").then_some(()) };
    eventually("the wrong key is named", DEADLINE, refused).await.unwrap();
    assert_eq!(served(&own).send(port, "/health", "").await.unwrap().certificate, before);

    // Written in place, as a copy does: the hardest way to notice.
    fs::copy(&next.cert, &own.cert).unwrap();
    let renewed = || async { served(&next).send(port, "/health", "").await.ok() };
    let after = eventually("the new certificate is served", DEADLINE, renewed).await.unwrap();
    assert_eq!(after.answer.status, 200);
    assert_ne!(after.certificate, before);
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authority_are_refused() {
    let dir = TempDir::new().unwrap();
    let (own, clients) = (made(dir.path(), "own").await, made(dir.path(), "clients").await);
    let client = |identity| TlsClient::new(&own, identity, &["h2"]).unwrap();
    let tls = format!("client_ca_path: {}", clients.ca.display());
    let gateway = gateway(&own, &tls, client(Some(&clients))).await;
    let port = gateway.address().port();
    let known = client(Some(&clients)).send(port, CHAT, &chat("known")).await.unwrap();
    assert_eq!(known.answer.status, 200, "{}", known.answer.text());
    for stranger in [client(None), client(Some(&own))] {
        assert!(stranger.send(port, CHAT, &chat("unknown")).await.is_err());
    }
}

#[tokio::test]
async fn upstreams_are_reached_by_tls_and_must_show_their_certificate() {
    let dir = TempDir::new().unwrap();
    let (own, other) = (made(dir.path(), "own").await, made(dir.path(), "other").await);
    let emulator = Emulator::start(0).await.unwrap();
    let end = TlsEnd::before(emulator.address(), &own).await.unwrap();
    let (address, named) = (end.address(), format!("localhost:{}", end.address().port()));
    let config = format!(
        "\
server:
  upstreams:
    - {{name: good, prefix: /good, rewrite: /openai, api_key: sk-emulated-0123456789, address: \"{address}\", tls: {{ca_path: {own}}}}}
    - {{name: any, prefix: /any, rewrite: /openai, api_key: sk-emulated-0123456789, address: \"{named}\", tls: {{verify: false}}}}
    - {{name: stranger, prefix: /stranger, rewrite: /openai, api_key: sk-emulated-0123456789, address: \"{address}\", tls: {{ca_path: {other}}}}}
    - {{name: name, prefix: /name, rewrite: /openai, api_key: sk-emulated-0123456789, address: \"{address}\", tls: {{ca_path: {own}, sni: other.example}}}}
providers:
  - {{{{openai}}}}
    models: [gpt-4o]
auth:
  anonymous: {{enabled: true, tenant: demo}}
",
        own = own.ca.display(),
        other = other.ca.display()
    );
    let gateway = Gateway::builder().config_yaml(&config).emulator(emulator).start().await.unwrap();
    for prefix in ["/good", "/any"] {
        let path = format!("{prefix}/v1/chat/completions");
        let answer = Client::new().post_json(&gateway.url(&path), chat(prefix)).await.unwrap();
        assert_eq!(answer.status, 200, "{prefix}: {}", answer.text());
        assert!(content(&answer).contains(prefix));
    }
    // Of another authority; and for an address, where a name was asked for.
    for prefix in ["/stranger", "/name"] {
        let path = format!("{prefix}/v1/chat/completions");
        let answer = Client::new().post_json(&gateway.url(&path), chat(prefix)).await.unwrap();
        assert_eq!(answer.status, 503, "{prefix}: {}", answer.text());
    }
}
