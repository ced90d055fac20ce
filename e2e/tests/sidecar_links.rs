//! However Envoy reaches the sidecar, the gateway does the same.

use std::time::Duration;

use tidegate_e2e::emulator::{Fault, Outcome};
use tidegate_e2e::harness::{
    Client, Gateway, RawConnection, chat, content, eventually, expect_error, stream, streamed_content,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// Callers who leave in the same moment: many more than a server of HTTP/2 takes for no attack by default.
const LEAVING: usize = 120;
/// Milliseconds between the chunks of a stream that others' leaving must not end.
const CHUNK_MS: u64 = 200;

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
async fn over_http1() {
    works_over("sidecar_protocol: http1").await;
}

#[tokio::test]
async fn over_http1_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sidecar.sock");
    works_over(&format!("sidecar_protocol: http1, sidecar_socket: \"{}\"", socket.display())).await;
}

#[tokio::test]
async fn over_http2_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sidecar.sock");
    works_over(&format!("sidecar_protocol: h2c, sidecar_socket: \"{}\"", socket.display())).await;
}

/// Their requests may share a connection with those of others.
#[tokio::test]
async fn callers_who_leave_all_at_once_end_nobody_elses_stream() {
    let gateway = Gateway::builder().start().await.unwrap();
    let slow = Fault { chunk_delay_ms: Some(CHUNK_MS), times: Some(1), ..Fault::default() };
    gateway.emulator.arm(slow).unwrap();
    let mut staying = gateway.open_chat(&Client::new(), stream("staying")).await.unwrap();
    staying.next_chunk().await.unwrap().unwrap();
    for _ in 0..5 {
        let mut leaving = Vec::new();
        for _ in 0..LEAVING {
            leaving.push(RawConnection::open(gateway.address()).await.unwrap());
        }
        for connection in &mut leaving {
            connection.send_chat(&chat("leaving")).await.unwrap();
        }
        drop(leaving);
    }
    let rest = staying.finish().await.unwrap();
    assert!(rest.body.ends_with(b"data: [DONE]\n\n"), "{}", rest.text());
}
