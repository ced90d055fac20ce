//! However Envoy reaches the sidecar, the gateway does the same.

use std::time::Duration;

use tidegate_e2e::emulator::{Fault, Outcome};
use tidegate_e2e::harness::{
    Client, Gateway, chat, content, eventually, expect_error, stream, streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Answers, streams, cancels and fails as over the default link.
async fn works_over(link: &str) {
    let mut gateway = Gateway::builder().add_config(&format!("server: {{{link}}}\n")).start().await.unwrap();
    let client = Client::new();
    let answer = gateway.ask(&client, chat("hello")).await.unwrap();
    assert_eq!(content(&answer), "You said: hello", "{link}: {}", answer.text());
    let whole = gateway.ask(&client, stream("hello")).await.unwrap();
    assert_eq!(streamed_content(&whole), "You said: hello", "{link}");

    let stall = Fault { stall_after_chunks: Some(2), times: Some(1), ..Fault::default() };
    gateway.emulator.arm(stall).unwrap();
    let mut leaving = gateway.open_chat(&Client::new(), stream("leaving")).await.unwrap();
    leaving.next_chunk().await.unwrap().unwrap();
    drop(leaving);
    eventually("the call upstream is cancelled", DEADLINE, || async {
        let last = gateway.emulator.requests().pop()?;
        (last.outcome == Outcome::ClientLeft).then_some(())
    })
    .await
    .unwrap();

    gateway.kill_sidecar().unwrap();
    expect_error(&gateway.ask(&client, chat("anyone?")).await.unwrap(), 503, "sidecar_unavailable");
    gateway.restart_sidecar().unwrap();
    gateway.wait_until_ready().await.unwrap();
    let answer = gateway.ask(&client, chat("anyone?")).await.unwrap();
    assert_eq!(answer.status, 200, "{link}: {}", answer.text());
}

#[tokio::test]
async fn over_http2_without_tls() {
    works_over("sidecar_protocol: h2c").await;
}

#[tokio::test]
async fn over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sidecar.sock");
    works_over(&format!("sidecar_socket: \"{}\"", socket.display())).await;
}

#[tokio::test]
async fn over_http2_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sidecar.sock");
    works_over(&format!("sidecar_protocol: h2c, sidecar_socket: \"{}\"", socket.display())).await;
}
