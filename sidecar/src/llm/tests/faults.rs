//! Providers that fail, each in its own way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tidegate_core::provider::Vendor;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use super::gateway::{DEADLINE, Gateway, openai, remote};
use super::provider::TestProvider;
use crate::llm::{ProviderKind, ProviderSettings};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
/// Time given to providers that will never answer.
const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn refusals_pass_with_their_status_and_say_when_to_come_back() {
    let openais = r#"{"error":{"message":"slow","type":"rate","param":null,"code":"limit"}}"#;
    let provider = TestProvider::start(move |number, mut connection| async move {
        match number {
            0 => connection.respond(429, "retry-after: 7\r\n", openais).await,
            1 => connection.respond(503, "", r#"{"detail":"loading"}"#).await,
            2 => connection.respond(400, "", r#"{"error":"bad"}"#).await,
            _ => {
                let quota =
                    r#"{"error":{"message":"m","type":"t","param":null,"code":"insufficient_quota"}}"#;
                connection.respond(429, "", quota).await;
            }
        }
        Some(connection)
    })
    .await;
    let gateway = Gateway::before(&provider).await;

    let limited = gateway.chat(BODY).await;
    assert_eq!((limited.status.as_u16(), limited.text()), (429, openais));
    assert_eq!(limited.headers["retry-after"], "7");
    assert_eq!(limited.headers["retry-after-ms"], "7000");
    assert_eq!(limited.headers["x-should-retry"], "true");
    assert_eq!(limited.headers["x-gateway-provider"], "p");

    let loading = gateway.chat(BODY).await;
    assert_eq!((loading.status.as_u16(), loading.error_code().as_str()), (503, ""));
    assert_eq!(loading.headers["retry-after"], "1");

    let bad = gateway.chat(BODY).await;
    assert_eq!((bad.status.as_u16(), bad.json()["error"]["message"].as_str()), (400, Some("bad")));
    assert!(!bad.headers.contains_key("retry-after"));

    assert_eq!(gateway.chat(BODY).await.headers["x-should-retry"], "false");
    for (outcome, count) in [("rate_limited", 2), ("server_error", 1), ("client_error", 1)] {
        let line = format!(r#"gateway_provider_requests_total{{provider="p",outcome="{outcome}"}} {count}"#);
        assert!(gateway.counts(&line), "{line}");
    }
}

#[tokio::test]
async fn answers_that_are_none_become_errors_that_name_the_provider() {
    let provider = TestProvider::start(|number, mut connection| async move {
        match number {
            0 => connection.respond(502, "content-type: text/html\r\n", "<html>Bad gateway</html>").await,
            1 => connection.respond(200, "content-type: text/html\r\n", "<html>Welcome</html>").await,
            2 => connection.respond(302, "location: http://elsewhere/\r\n", "").await,
            _ => connection.respond(200, "content-encoding: gzip\r\n", "{}").await,
        }
        Some(connection)
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    for what in
        ["502 with a body that is not JSON", "200 with a body", "302 instead of", "200 with an encoded"]
    {
        let got = gateway.chat(BODY).await;
        assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_error"), "{what}");
        let message = got.json()["error"]["message"].to_string();
        assert!(message.contains(&format!("Provider p answered {what}")), "{message}");
        assert!(!message.contains("html"));
    }
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = listener.local_addr().expect("an address");
    drop(listener);
    let gateway = Gateway::start(vec![openai("p", nobody)]).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(got.headers["x-should-retry"], "true");
    assert!(!got.text().contains(&nobody.to_string()), "addresses are the operator's business");
}

/// The provider, at another address.
fn at(base_url: &str) -> Vec<ProviderSettings> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut remote = remote(Vendor::OpenAi, anywhere, &["key-1"]);
    remote.base_url = base_url.parse().expect("a URL");
    vec![ProviderSettings { kind: ProviderKind::Remote(remote), ..openai("p", anywhere) }]
}

#[tokio::test]
async fn a_host_that_no_name_server_knows_is_unreachable() {
    // A domain that never exists (RFC 6761, 6.4).
    let gateway = Gateway::start(at("http://no-such-host.invalid/v1")).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_unreachable"));
    assert!(!got.text().contains("no-such-host"), "addresses are the operator's business");
}

/// Serves TLS with a certificate that nobody signed, and tells of every handshake whether the
/// other side went through with it.
async fn untrusted() -> (SocketAddr, mpsc::UnboundedReceiver<bool>) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/untrusted.crt.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/untrusted.key.pem"));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key.expect("a key"))
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (shaken, handshakes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = shaken.send(acceptor.accept(socket).await.is_ok());
        }
    });
    (address, handshakes)
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_not_talked_to() {
    let (address, mut handshakes) = untrusted().await;
    let gateway = Gateway::start(at(&format!("https://{address}/v1"))).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(handshakes.recv().await, Some(false), "no request goes to somebody else");
}

#[tokio::test]
async fn a_reset_before_and_inside_an_answer_is_a_reset() {
    let provider = TestProvider::start(|number, mut connection| async move {
        if number > 0 {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\"").await;
        }
        connection.reset();
        None
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    for _ in 0..2 {
        let got = gateway.chat(BODY).await;
        assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_reset"));
    }
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="interrupted"} 2"#));
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    let provider = TestProvider::start(|_, mut connection| async move {
        connection.send("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        None
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_error"));
}

#[tokio::test]
async fn silence_before_and_inside_an_answer_is_a_timeout() {
    let provider = TestProvider::start(|number, mut connection| async move {
        if number > 0 {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\"").await;
        }
        connection.closed().await;
        None
    })
    .await;
    let mut settings = openai("p", provider.addr);
    settings.timeout = SHORT;
    let gateway = Gateway::start(vec![settings]).await;
    for _ in 0..2 {
        let got = gateway.chat(BODY).await;
        assert_eq!((got.status.as_u16(), got.error_code().as_str()), (504, "upstream_timeout"));
    }
    assert!(gateway.counts(r#"gateway_provider_requests_total{provider="p",outcome="timeout"} 2"#));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_its_bound() {
    let provider = TestProvider::start(|_, mut connection| async move {
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 99000000\r\n\r\n").await;
        let block = vec![b' '; 1 << 20];
        while tokio::io::AsyncWriteExt::write_all(&mut connection.socket, &block).await.is_ok() {}
        None
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let got = gateway.chat(BODY).await;
    assert_eq!((got.status.as_u16(), got.error_code().as_str()), (502, "upstream_error"));
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_takes_the_providers_work_with_it() {
    let (seen, mut events) = mpsc::unbounded_channel();
    let provider = TestProvider::start(move |_, connection| {
        let seen = seen.clone();
        async move {
            let _ = seen.send("asked");
            connection.closed().await;
            let _ = seen.send("released");
            None
        }
    })
    .await;
    let gateway = Gateway::before(&provider).await;
    let mut event = async || tokio::time::timeout(DEADLINE, events.recv()).await.expect("in time");
    {
        let call = gateway.send(Method::POST, "/v1/chat/completions", &[], BODY);
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("nobody answered"),
            first = event() => assert_eq!(first, Some("asked")),
        }
    }
    assert_eq!(event().await, Some("released"));
    gateway.until_counted(r#"gateway_provider_requests_total{provider="p",outcome="cancelled"} 1"#).await;
}
