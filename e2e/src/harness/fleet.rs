//! Several gateways that share one limit through one Redis, and more requests than it allows.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Client;
use super::crowd::send;
use super::error::HarnessError;
use super::gateway::Gateway;
use super::wait::eventually;

/// Connections that send to one gateway.
const CONNECTIONS: u32 = 4;
/// How long the gateways may take to find each other.
const DEADLINE: Duration = Duration::from_secs(30);

const CONFIG: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o]
auth:
  anonymous: {enabled: true, tenant: demo}
redis: {url: '@REDIS@', timeout: 1s, connect_timeout: 1s}
limiter:
  rules:
    - {tenant: demo, rate: @RATE@, burst: @BURST@, scope: fleet}
";

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered with 200.
    pub admitted: u64,
    /// Answered with 429.
    pub refused: u64,
    /// Anything else.
    pub failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.failed += other.failed;
    }
}

/// Gateways that know of each other.
#[derive(Debug)]
pub struct Fleet {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    rate: u32,
}

impl Fleet {
    /// Starts gateways that share `rate` requests a second, with a burst of as many, through the
    /// Redis at `url`; returns when each knows how many there are.
    ///
    /// # Errors
    /// A gateway does not start, or they do not find each other.
    pub async fn start(count: usize, rate: u32, url: &str) -> Result<Self, HarnessError> {
        let rate_text = rate.to_string();
        let config = CONFIG.replace("@RATE@", &rate_text).replace("@BURST@", &rate_text);
        Self::start_with(&config.replace("@REDIS@", url), count, rate).await
    }

    /// The same with a configuration that shares `rate` requests a second and a Redis.
    ///
    /// # Errors
    /// A gateway does not start, or they do not find each other.
    pub async fn start_with(config: &str, count: usize, rate: u32) -> Result<Self, HarnessError> {
        let mut gateways = Vec::with_capacity(count);
        for _ in 0..count {
            gateways.push(Gateway::builder().config_yaml(config).workers(2).start().await?);
        }
        let fleet = Self { gateways, rate };
        fleet.wait_until("leased", count).await?;
        Ok(fleet)
    }

    /// Waits until every gateway says that it is in `state`, among `gateways`.
    ///
    /// # Errors
    /// One does not in time.
    pub async fn wait_until(&self, state: &str, gateways: usize) -> Result<(), HarnessError> {
        for gateway in &self.gateways {
            let url = gateway.url("/health/detailed");
            eventually(&format!("shared limits are {state}"), DEADLINE, || async {
                let shared = Client::new().get(&url).await.ok()?.json()["components"]["shared_limits"].take();
                (shared["state"] == state && shared["gateways"] == gateways).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// Sends `times` as many requests as the limit allows, spread over all gateways and over
    /// `length`, whatever the answers are.
    pub async fn overload(&self, times: u32, length: Duration) -> Tally {
        let senders = u32::try_from(self.gateways.len()).unwrap_or(1) * CONNECTIONS;
        let pause = Duration::from_secs(1) * senders / (self.rate * times);
        let end = Instant::now() + length;
        let mut sending = JoinSet::new();
        let urls = self.gateways.iter().flat_map(|g| (0..CONNECTIONS).map(|_| g.url("/v1/models")));
        for (index, url) in urls.enumerate() {
            let first = Instant::now() + pause * u32::try_from(index).unwrap_or(0) / senders;
            sending.spawn(send(Client::new(), url, first, pause, end));
        }
        let mut all = Tally::default();
        while let Some(part) = sending.join_next().await {
            all += part.unwrap_or(Tally { failed: 1, ..Tally::default() });
        }
        all
    }
}
