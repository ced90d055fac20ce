//! Active health checks: a look at every provider from time to time, so that one that is down is
//! noticed before a request finds out.

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::llm::providers::{Engine, Provider, Providers};

/// Looks in a row that must fail before a provider counts as down.
const FAILURES_MIN: u32 = 2;
/// Pause while health checks are switched off, until the configuration is looked at again.
const PAUSE_OFF: Duration = Duration::from_secs(1);

/// The outcome of the last look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Whether the provider answered.
    pub ok: bool,
    /// What is wrong, without addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Looks in a row that failed.
    pub failures: u32,
}

impl Checked {
    /// Whether the provider counts as down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.failures >= FAILURES_MIN
    }
}

/// Looks at one provider now and notes what was seen. A local model is well if it is loaded.
pub async fn check(provider: &Provider, timeout: Duration) -> Checked {
    let started = Instant::now();
    let problem = match &*provider.engine {
        Engine::Remote(upstream) => upstream.ping(timeout).await.err(),
        Engine::Local(model) => model.not_ready().map(str::to_owned),
        Engine::Disabled => Some("it is switched off".to_owned()),
    };
    let before = provider.state.last_check().map_or(0, |checked| checked.failures);
    let failures = if problem.is_some() { before.saturating_add(1) } else { 0 };
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (latency_ms, at_ms) = (millis(started.elapsed()), millis(at));
    let checked = Checked { ok: problem.is_none(), problem, latency_ms, at_ms, failures };
    if checked.failures == FAILURES_MIN {
        tracing::warn!(provider = &*provider.name, problem = checked.problem, "provider is down");
    } else if checked.ok && before >= FAILURES_MIN {
        tracing::info!(provider = &*provider.name, "provider is back");
    }
    provider.state.checked(checked.clone());
    checked
}

/// Looks at all providers elsewhere, again and again, until nobody holds them any more. The
/// first look comes after the first pause: a gateway that starts has other worries.
pub async fn watch(providers: Weak<Providers>) {
    loop {
        let settings = match providers.upgrade() {
            Some(providers) => providers.table().settings.health_check,
            None => return,
        };
        tokio::time::sleep(settings.map_or(PAUSE_OFF, |check| check.interval)).await;
        let (Some(settings), Some(providers)) = (settings, providers.upgrade()) else { continue };
        let mut looks = tokio::task::JoinSet::new();
        for provider in providers.table().list.iter().filter(|p| matches!(*p.engine, Engine::Remote(_))) {
            let provider = provider.clone();
            looks.spawn(async move { check(&provider, settings.timeout).await });
        }
        drop(providers);
        looks.join_all().await;
    }
}
