//! Answers of 50 MB and callers who hardly read, through a real Envoy: memory stays bounded, nobody
//! is read ahead of, others notice nothing, and what was used is accounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_e2e::emulator::{Fault, Outcome};
use tidegate_e2e::harness::{
    Answer, Client, Gateway, RawConnection, chat, chat_with, eventually, expect_error, stream, stream_of,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is too large to be one.
const LARGE: u64 = 50 << 20;
/// Bytes of one event of a large stream.
const EVENT_BYTES: usize = 64 << 10;
/// What the sidecar may grow by while it passes a large stream on: far less than the stream.
const GROWTH_KIB_MAX: u64 = 24 << 10;
/// Callers at once who hardly read: more than the windows of one connection that are not made for it hold.
const SLOW_CALLERS: u64 = 60;
/// How long a write must wait for the provider to believe that nobody reads. It only decides when to
/// look.
const STALLED: Duration = Duration::from_secs(1);

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
  - name: large
    type: openai
    base_url: \"http://{{large}}/v1\"
    api_key: sk-large-0123456789
    models: [large]
auth:
  anonymous: {enabled: true}
  api_keys:
    - {name: one, key: one-key-0123456789, tenant: acme}
breaker: {failure_threshold: 100000}
routing: {enabled: false}
embedding: {enabled: false}     # a model that loads meanwhile would be measured too
";

/// A provider whose answers are 50 MB: a stream if one is asked for.
struct LargeProvider {
    address: String,
    sent: Arc<AtomicU64>,
    stalled: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl LargeProvider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sent, stalled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, waits) = (Arc::clone(&sent), Arc::clone(&stalled));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&counter), Arc::clone(&waits)));
            }
        });
        Self { address, sent, stalled, task }
    }
}

impl Drop for LargeProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whoever leaves ends the connection, so nothing here is an error.
async fn answer(mut socket: TcpStream, sent: Arc<AtomicU64>, stalled: Arc<AtomicU64>) {
    let mut request = vec![0; 8192];
    let length = socket.read(&mut request).await.unwrap_or(0);
    let streams = String::from_utf8_lossy(&request[..length]).contains("\"stream\":true");
    let head = if streams {
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned()
    } else {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {LARGE}\r\n\r\n{{\"x\":\""
        )
    };
    let event = if streams {
        let text = "x".repeat(EVENT_BYTES);
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "large",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        )
    } else {
        "x".repeat(EVENT_BYTES)
    };
    if socket.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut of_this = 0;
    while of_this < LARGE {
        let mut rest = event.as_bytes();
        while !rest.is_empty() {
            match tokio::time::timeout(STALLED, socket.write(rest)).await {
                Ok(Ok(written)) => {
                    rest = &rest[written..];
                    of_this += written as u64;
                    sent.fetch_add(written as u64, Ordering::Relaxed);
                }
                Ok(Err(_)) => return,
                Err(_) => {
                    stalled.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
    let _ = socket.write_all(b"data: [DONE]\n\n").await;
}

async fn before(provider: &LargeProvider) -> Gateway {
    let config = CONFIG.replace("{{large}}", &provider.address);
    // One worker: all callers share its connection to the sidecar.
    Gateway::builder().config_yaml(&config).workers(1).start().await.unwrap()
}

/// The most memory that the sidecar has ever held.
fn peak_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.sidecar().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_stream_of_50_mb_passes_in_little_memory_and_an_answer_of_50_mb_is_an_error() {
    let provider = LargeProvider::start().await;
    let gateway = before(&provider).await;
    let client = Client::new();
    let ask = async |body: String| -> Answer { gateway.ask(&client, body).await.unwrap() };
    // What the first requests of any kind cost is not the stream's.
    assert_eq!(ask(stream("warm up")).await.status, 200);
    let before = peak_kib(&gateway);
    let streamed = ask(stream_of("large", "all of it")).await;
    assert_eq!(streamed.status, 200);
    assert!(streamed.body.len() as u64 >= LARGE, "{}", streamed.body.len());
    assert!(streamed.body.ends_with(b"data: [DONE]\n\n"));
    let grown = peak_kib(&gateway).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "the sidecar grew by {grown} KiB");

    provider.sent.store(0, Ordering::Relaxed);
    expect_error(&ask(chat_with("large", "all at once")).await, 502, "upstream_error");
    assert_eq!(ask(chat("and on")).await.status, 200);
}

#[tokio::test]
async fn callers_that_hardly_read_hold_up_nobody_but_their_provider() {
    let provider = LargeProvider::start().await;
    let gateway = before(&provider).await;
    let body = stream_of("large", "slowly, please");
    let mut callers = Vec::new();
    for _ in 0..SLOW_CALLERS {
        let mut slow = RawConnection::open(gateway.address()).await.unwrap();
        slow.send_chat(&body).await.unwrap();
        callers.push(slow);
    }
    eventually("the provider is held up", DEADLINE, || async {
        (provider.stalled.load(Ordering::Relaxed) >= SLOW_CALLERS).then_some(())
    })
    .await
    .unwrap();
    let read_ahead = provider.sent.load(Ordering::Relaxed);
    assert!(read_ahead < SLOW_CALLERS * LARGE / 4, "{read_ahead} bytes were read although nobody reads them");
    let client = Client::new();
    for i in 0..20 {
        assert_eq!(gateway.ask(&client, chat(&format!("meanwhile {i}"))).await.unwrap().status, 200);
    }
    for slow in &mut callers {
        let head = slow.read_until(|bytes| bytes.len() >= 64).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    }
    drop(callers);
    let ended = format!(
        "gateway_provider_requests_total{{provider=\"large\",outcome=\"cancelled\"}} {SLOW_CALLERS}\n"
    );
    eventually("the provider's calls end with their callers", DEADLINE, || async {
        gateway.admin().get(&gateway.url("/metrics")).await.unwrap().text().contains(&ended).then_some(())
    })
    .await
    .unwrap();
}

/// A caller that leaves has used what was made for it.
#[tokio::test]
async fn what_a_caller_used_before_it_left_is_accounted() {
    let provider = LargeProvider::start().await;
    let gateway = before(&provider).await;
    gateway.emulator.arm(Fault { stall_after_chunks: Some(4), ..Fault::default() }).unwrap();
    let client = Client::new().with_key("one-key-0123456789");
    let mut answer = gateway.open_chat(&client, stream("a question to be left alone with")).await.unwrap();
    answer.next_chunk().await.unwrap().unwrap();
    drop((answer, client));
    eventually("the provider sees the caller leave", DEADLINE, || async {
        let last = gateway.emulator.requests().pop();
        last.filter(|record| record.outcome == Outcome::ClientLeft)
    })
    .await
    .unwrap();
    let row = eventually("the ledger has it", DEADLINE, || async {
        let url = gateway.url("/admin/usage?tenant=acme");
        let shown = gateway.admin().get(&url).await.unwrap().json();
        shown["rows"].get(0).cloned()
    })
    .await
    .unwrap();
    for what in ["prompt_tokens", "completion_tokens", "estimated_requests"] {
        assert!(row[what].as_u64() > Some(0), "{what}: {row}");
    }
}
