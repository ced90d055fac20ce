//! A sidecar inside the test, and a small client for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tidegate::config::{self, Env};
use tidegate::control::Origin;
use tidegate::gateway::Gateway;
use tidegate::run;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The operator's key of every test.
pub const ADMIN: &str = "admin-key-of-the-tests";
/// A configured key of role user.
pub const USER: &str = "user-key-of-the-tests";

const AUTH: &str = "auth: {api_keys: [{name: user, tenant: acme, key: user-key-of-the-tests}]}\n";

/// Longest wait for what has to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running sidecar.
pub struct Sidecar {
    pub address: SocketAddr,
    pub gateway: Arc<Gateway>,
    pub config_path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<bool>,
}

/// A whole answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `error.code` of a refusal; every refusal has all four fields.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("no refusal: {}", self.text()));
        assert_eq!(error.len(), 4, "{error:?}");
        assert!(self.headers.contains_key("x-tidegate-answered"));
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Sidecar {
    /// Starts one on a free port, with its state in `folder` and `yaml` as its configuration.
    pub async fn start(folder: &Path, yaml: &str) -> Self {
        let config_path = folder.join("gateway.yaml");
        let store = format!("store: {{path: '{}/state/tidegate.redb'}}\n", folder.display());
        let auth = if yaml.contains("auth:") { "" } else { AUTH };
        std::fs::write(&config_path, format!("{store}{auth}{yaml}")).expect("writes");
        let env = Env::from([("GATEWAY_ADMIN_KEY".to_owned(), ADMIN.to_owned())]);
        let mut config = config::load(&config_path, &env).unwrap_or_else(|problems| panic!("{problems}"));
        config.server.sidecar_port = 0;
        let ready = run::start(config, Origin { path: config_path.clone(), env }).await.expect("starts");
        let address = ready.address().expect("address");
        let gateway = ready.gateway().clone();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(ready.serve(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        }));
        Self { address, gateway, config_path, stop: Some(stop), serving }
    }

    /// Tells it to stop; it drains from here on.
    pub fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("serving");
        }
    }

    /// Waits for its end: whether everything in flight was finished. After it the store can be opened
    /// again: what still computed in the background, and held it, has ended too.
    pub async fn end(mut self) -> bool {
        self.tell_to_stop();
        let finished = self.serving.await.expect("serves");
        let (control, clusters) =
            (Arc::downgrade(&self.gateway.control), Arc::downgrade(&self.gateway.clusters));
        drop(self.gateway);
        let ended = async {
            while control.strong_count() + clusters.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("nothing holds the store");
        finished
    }

    /// The secret shared with Envoy and the filter.
    pub fn token(&self) -> &str {
        self.gateway.token.expose()
    }

    /// Sends a request over HTTP/1.1.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        exchange(&client, self.address, method, path, headers, body).await
    }

    /// Sends a request with the operator's key.
    pub async fn admin(&self, method: Method, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("x-api-key", ADMIN)], body).await
    }

    /// Sends a request of the filter.
    pub async fn internal(&self, method: Method, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("x-tidegate-internal", self.token())], body).await
    }
}

/// One exchange on any client.
pub async fn exchange(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("request");
    let (head, body) = client.request(request).await.expect("answer").into_parts();
    let body = body.collect().await.expect("body").to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}
