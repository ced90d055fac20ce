//! A gateway before all emulated providers.

use http::Method;
use serde_json::Value;
use tidegate_e2e::emulator::{Emulator, Fault, Outcome};
use tidegate_e2e::harness::{
    Answer, Client, EMULATED, EmulatedProvider, Gateway, StreamingAnswer, eventually,
};

use super::front::{Ask, Front, Heard};

/// Longest that a provider waits to see a caller leave.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
/// What stands after `providers:`. No second attempt hides a first one that failed.
const REST: &str = "\
auth:
  anonymous:
    enabled: true
breaker:
  failure_threshold: 100000
cache:
  l1: {enabled: false}
routing:
  enabled: false
";

pub struct Setup {
    pub gateway: Gateway,
    client: Client,
}

impl Setup {
    /// `more` are fields of each provider, as `, timeout: 1s`.
    pub async fn new(more: &str) -> Self {
        let emulator = Emulator::start(0).await.unwrap();
        let providers: String = EMULATED.iter().map(|provider| provider.yaml(&emulator, more)).collect();
        let config = format!("providers:\n{providers}{REST}");
        let gateway = Gateway::builder().emulator(emulator).config_yaml(&config).start().await.unwrap();
        Self { gateway, client: Client::new().with_header("anthropic-version", "2023-06-01") }
    }

    pub async fn post(&self, front: Front, body: &Value) -> Answer {
        self.client.post_json(&self.gateway.url(front.path()), body.to_string()).await.unwrap()
    }

    pub async fn ask(&self, front: Front, provider: &EmulatedProvider, ask: &Ask) -> Answer {
        self.post(front, &front.body(&provider.target(), ask)).await
    }

    /// Asks, and returns with the response headers.
    pub async fn open(&self, front: Front, provider: &EmulatedProvider, ask: &Ask) -> StreamingAnswer {
        let body = front.body(&provider.target(), ask).to_string();
        let json = [("content-type", "application/json")];
        // A client of its own: what is dropped must be a connection.
        let client = Client::new().with_header("anthropic-version", "2023-06-01");
        client.open(&Method::POST, &self.gateway.url(front.path()), &json, body).await.unwrap()
    }

    /// What a good answer says.
    pub async fn heard(&self, front: Front, provider: &EmulatedProvider, ask: &Ask) -> Heard {
        let answer = self.ask(front, provider, ask).await;
        let name = answer.header("x-gateway-provider").map(str::to_owned);
        assert_eq!(name.as_deref(), Some(provider.name), "{front:?} on {}: {}", provider.name, answer.text());
        front.heard(&answer, ask.stream)
    }

    /// Waits until the provider has seen so many callers leave.
    pub async fn all_calls_end(&self, calls: usize) {
        eventually("the provider's calls end", DEADLINE, || async {
            let requests = self.gateway.emulator.requests();
            let left = requests.iter().filter(|record| record.outcome == Outcome::ClientLeft);
            (left.count() == calls).then_some(())
        })
        .await
        .unwrap();
    }

    /// Arms a fault for the next request of a chat.
    pub fn arm_once(&self, fault: Fault) {
        self.gateway.emulator.arm(Fault { times: Some(1), ..fault }).unwrap();
    }
}
