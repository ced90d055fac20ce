//! The router on a port of its own, and a caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tidegate_core::provider::Vendor;
use tokio::task::JoinHandle;

use super::provider::TestProvider;
use tidegate_core::usage::Price;

use crate::config::{self, Env};
use crate::embedding::Embedder;
use crate::l2::SemanticCache;
use crate::llm::routing::RoutingSettings;
use crate::llm::{Account, Llm, ProviderKind, ProviderSettings, Providers, Remote, Services};
use crate::secret::Secret;

/// Longest that anything in a test may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Largest request body in tests.
pub const BODY_BYTES_MAX: u64 = 16 << 10;

/// A gateway without Envoy.
pub struct Gateway {
    pub addr: SocketAddr,
    pub providers: Arc<Providers>,
    registry: Registry,
    client: Client<HttpConnector, Full<Bytes>>,
    task: JoinHandle<()>,
}

/// A whole response.
#[derive(Debug)]
pub struct Received {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("utf-8")
    }

    /// The error's code, after checking that all four fields are there.
    pub fn error_code(&self) -> String {
        let json = self.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("no error in {json}"));
        for field in ["message", "type", "param", "code"] {
            assert!(error.contains_key(field), "{field} is missing in {json}");
        }
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Settings of an `openai` provider at `addr` with the model `m`.
pub fn openai(name: &str, addr: SocketAddr) -> ProviderSettings {
    ProviderSettings {
        name: name.to_owned(),
        kind: ProviderKind::Remote(remote(Vendor::OpenAi, addr, &["sk-one", "sk-two"])),
        models: vec!["m".to_owned()],
        weight: 1,
        enabled: true,
        timeout: DEADLINE,
        connect_timeout: DEADLINE,
        price: Price::default(),
    }
}

/// Settings of an `anthropic` provider at `addr` with the model `m`.
pub fn anthropic(name: &str, addr: SocketAddr) -> ProviderSettings {
    let kind = ProviderKind::Remote(remote(Vendor::Anthropic, addr, &["sk-ant-one"]));
    ProviderSettings { kind, ..openai(name, addr) }
}

/// A server at `addr` below `/base`.
pub fn remote(vendor: Vendor, addr: SocketAddr, keys: &[&str]) -> Remote {
    Remote {
        vendor,
        base_url: format!("http://{addr}/base").parse().expect("a URL"),
        api_keys: keys.iter().map(|key| Secret::new(*key)).collect(),
        api_version: None,
        account: Account::None,
        lenient: false,
        stream_usage: true,
    }
}

impl Gateway {
    /// A gateway that passes on what a provider does, whatever it is.
    pub async fn start(settings: Vec<ProviderSettings>) -> Self {
        Self::routing(settings, RoutingSettings { enabled: false, ..RoutingSettings::default() }).await
    }

    /// A gateway that routes.
    pub async fn routing(settings: Vec<ProviderSettings>, routing: RoutingSettings) -> Self {
        let mut registry = Registry::default();
        let providers = Providers::start(settings, routing, &mut registry).expect("providers start");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let config = config::parse("embedding: {enabled: false}", &Env::new()).expect("valid");
        let embedder = Arc::new(Embedder::start(config.embedding.clone(), &mut registry));
        let cache = SemanticCache::new(config.l2, embedder.clone(), &config.embedding, &mut registry);
        let (cache, region_headers) = (Arc::new(cache), vec!["x-region".to_owned()]);
        let services =
            Services { providers: Arc::clone(&providers), embedder, cache, tracer: None, region_headers };
        let app = Llm::new(services, BODY_BYTES_MAX).router();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { addr, providers, registry, client, task }
    }

    /// A gateway with the one provider `p`.
    pub async fn before(provider: &TestProvider) -> Self {
        Self::start(vec![openai("p", provider.addr)]).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        tokio::time::timeout(DEADLINE, self.client.request(request))
            .await
            .expect("in time")
            .expect("an answer")
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Received {
        whole(self.send(Method::POST, path, headers, body).await).await
    }

    pub async fn chat(&self, body: &str) -> Received {
        self.post("/v1/chat/completions", &[], body).await
    }

    pub async fn get(&self, path: &str) -> Received {
        whole(self.send(Method::GET, path, &[], "").await).await
    }

    /// Whether the metrics page has this line now.
    pub fn counts(&self, line: &str) -> bool {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).expect("encodes");
        page.lines().any(|l| l == line)
    }

    /// Waits until the metrics page has this line.
    pub async fn until_counted(&self, line: &str) {
        until(line, || self.counts(line)).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a response to its end.
pub async fn whole(response: http::Response<Incoming>) -> Received {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(DEADLINE, body.collect()).await.expect("in time").expect("a whole body");
    Received { status: parts.status, headers: parts.headers, body: body.to_bytes() }
}

/// The next piece of a streamed body.
pub async fn piece(body: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = tokio::time::timeout(DEADLINE, body.frame()).await.expect("in time")?.expect("a frame");
        if let Ok(data) = frame.into_data() {
            return Some(data);
        }
    }
}

/// Polls a condition until it holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let polled = tokio::time::timeout(DEADLINE, async {
        while !condition() {
            looks.tick().await;
        }
    });
    assert!(polled.await.is_ok(), "never came true: {what}");
}
