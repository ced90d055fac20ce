//! What is known of a provider from the requests that it got.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_core::breaker::{Admission, Breaker, Phase};
use tidegate_core::policy::BreakerPolicy;
use tidegate_core::routing::{AdaptiveLimit, Ewma, Quantiles, RateSignals};

use super::clock::Clock;
use super::health::Checked;
use super::keys::KeyPool;
use super::settings::RoutingSettings;
use crate::llm::metrics::Outcome;

/// Half-life of the latency averages, in milliseconds.
const LATENCY_HALF_LIFE_MS: f64 = 10_000.0;
/// Share of the requests that must fail before a provider is passed by: that refuses nobody, so half is
/// enough.
const FAILING_MIN: f64 = 0.5;
/// The quantile of waits after which a request is hedged.
const HEDGE_QUANTILE: f64 = 0.95;

/// Whether a provider should be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Like any other.
    Well,
    /// Now, to find out whether it has recovered.
    Probe,
    /// Only if nobody else can be.
    PassedBy,
}

/// Requests by how they ended, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All that have ended.
    pub requests: u64,
    /// Complete answers.
    pub ok: u64,
    /// The provider was at fault.
    pub failed: u64,
    /// Refused because of a limit.
    pub rate_limited: u64,
    /// The caller left, or another provider was faster.
    pub cancelled: u64,
}

/// How a provider does.
#[derive(Debug)]
pub struct ProviderState {
    clock: Clock,
    in_flight: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    policy: BreakerPolicy,
    breaker: Breaker,
    successes: u32,
    whole: Ewma,
    first: Ewma,
    whole_waits: Quantiles,
    first_waits: Quantiles,
    limit: AdaptiveLimit,
    keys: KeyPool,
    checked: Option<Checked>,
    signals: RateSignals,
    since_ms: u64,
    counts: Counts,
}

/// What a strategy and an operator want to know.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Requests not yet answered.
    pub in_flight: u32,
    /// Expected wait for a whole answer, or for the first token of a stream.
    pub latency_ms: Option<f64>,
    /// The 95th percentile of these waits.
    pub p95_ms: Option<f64>,
    /// How long it has been there, or back.
    pub age_ms: u64,
    /// What is believed about its health.
    pub phase: Phase,
    /// Requests in flight that it can take, as far as is known.
    pub limit: u32,
    /// Requests by their ends.
    pub counts: Counts,
    /// Keys, and those of them that rest.
    pub keys: (usize, usize),
    /// What it last said about its limits.
    pub signals: RateSignals,
}

impl ProviderState {
    /// A provider that was never asked.
    #[must_use]
    pub fn new(clock: Clock, keys: usize, routing: &RoutingSettings) -> Self {
        let latency = Ewma::new(LATENCY_HALF_LIFE_MS);
        let inner = Inner {
            policy: routing.outlier,
            breaker: Breaker::default(),
            successes: 0,
            whole: latency,
            first: latency,
            whole_waits: Quantiles::default(),
            first_waits: Quantiles::default(),
            limit: AdaptiveLimit::new(routing.concurrency_max),
            keys: KeyPool::new(keys),
            checked: None,
            signals: RateSignals::default(),
            since_ms: clock.now_ms(),
            counts: Counts::default(),
        };
        Self { clock, in_flight: AtomicU32::new(0), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts changed settings in force; what was learnt of its concurrency is learnt anew.
    pub fn judge_by(&self, routing: &RoutingSettings) {
        let mut inner = self.lock();
        inner.policy = routing.outlier;
        inner.limit = AdaptiveLimit::new(routing.concurrency_max);
    }

    /// What is known now; `stream` says which latency is meant.
    #[must_use]
    pub fn view(&self, stream: bool) -> View {
        let now_ms = self.clock.now_ms();
        let inner = self.lock();
        let (average, waits, other) = if stream {
            (&inner.first, &inner.first_waits, &inner.whole)
        } else {
            (&inner.whole, &inner.whole_waits, &inner.first)
        };
        View {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency_ms: average.get(now_ms).or_else(|| other.get(now_ms)),
            p95_ms: waits.get(HEDGE_QUANTILE),
            age_ms: now_ms.saturating_sub(inner.since_ms),
            phase: inner.breaker.phase(),
            limit: inner.limit.limit(),
            counts: inner.counts,
            keys: (inner.keys.count(), inner.keys.resting(now_ms)),
            signals: inner.signals,
        }
    }

    /// Whether it should be asked; counts as an offer to a recovering provider.
    pub fn standing(&self) -> Standing {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        let policy = inner.policy;
        if inner.checked.as_ref().is_some_and(Checked::is_down) {
            return Standing::PassedBy;
        }
        match inner.breaker.admit(now_ms, &policy) {
            Admission::Refuse(_) => Standing::PassedBy,
            Admission::Probe => Standing::Probe,
            Admission::Pass if inner.limit.admits(self.in_flight.load(Ordering::Relaxed)) => Standing::Well,
            Admission::Pass => Standing::PassedBy,
        }
    }

    /// Milliseconds until a key may be used for the model with this hash, as the provider said.
    #[must_use]
    pub fn wait_ms(&self, model: u64) -> u64 {
        self.lock().keys.wait_ms(model, self.clock.now_ms())
    }

    /// The key for the next request, if possible none of those to be avoided.
    pub fn take_key(&self, model: u64, avoided: impl Fn(usize) -> bool) -> usize {
        let now_ms = self.clock.now_ms();
        self.lock().keys.take(model, now_ms, avoided)
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.lock().keys.count()
    }

    /// Rests a key, for one model or for all.
    pub fn rest_key(&self, key: usize, model: Option<u64>, ms: u64) {
        let until_ms = self.clock.now_ms().saturating_add(ms);
        self.lock().keys.rest(key, model, until_ms);
    }

    /// Notes what an answer said about limits, and rests a key before its limit is hit: when
    /// another request of as many `tokens` would find no room.
    pub fn heard(&self, key: usize, model: u64, signals: RateSignals, tokens: u64) {
        let exhausted_ms = signals.exhausted_ms(tokens);
        self.lock().signals = signals;
        if let Some(ms) = exhausted_ms {
            self.rest_key(key, Some(model), ms);
        }
    }

    /// Notes the outcome of a health check.
    pub fn checked(&self, checked: Checked) {
        let mut inner = self.lock();
        if inner.checked.as_ref().is_some_and(Checked::is_down) && !checked.is_down() {
            inner.since_ms = self.clock.now_ms();
        }
        inner.checked = Some(checked);
    }

    /// The last health check, if there was one.
    #[must_use]
    pub fn last_check(&self) -> Option<Checked> {
        self.lock().checked.clone()
    }

    /// A request is on its way.
    #[must_use]
    pub fn begin(self: &Arc<Self>, stream: bool, probe: bool) -> Ticket {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        Ticket { state: self.clone(), stream, probe, in_flight, started_ms: self.clock.now_ms() }
    }
}

/// One request on its way; it counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    state: Arc<ProviderState>,
    stream: bool,
    probe: bool,
    in_flight: u32,
    started_ms: u64,
}

impl Ticket {
    /// The first token of a stream has come.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
    pub fn first_token(&self) {
        if self.stream {
            let now_ms = self.state.clock.now_ms();
            let waited = now_ms.saturating_sub(self.started_ms) as f64;
            let mut inner = self.state.lock();
            inner.first.observe(waited, now_ms);
            inner.first_waits.observe(waited);
        }
    }

    /// How the request ended; called once.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
    pub fn ended(&self, outcome: Outcome) {
        let now_ms = self.state.clock.now_ms();
        let waited_ms = now_ms.saturating_sub(self.started_ms);
        let mut inner = self.state.lock();
        inner.count(outcome);
        match outcome {
            Outcome::Ok => {
                if !self.stream {
                    inner.whole.observe(waited_ms as f64, now_ms);
                    inner.whole_waits.observe(waited_ms as f64);
                }
                inner.limit.success(self.in_flight);
                inner.success(self.probe, now_ms);
            }
            Outcome::ClientError => inner.success(self.probe, now_ms),
            Outcome::RateLimited => inner.limit.overload(self.in_flight, waited_ms, now_ms),
            Outcome::Timeout | Outcome::ServerError => {
                inner.limit.overload(self.in_flight, waited_ms, now_ms);
                inner.failure(self.probe, now_ms);
            }
            Outcome::Unreachable | Outcome::Interrupted => inner.failure(self.probe, now_ms),
            Outcome::Cancelled => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    const fn count(&mut self, outcome: Outcome) {
        let counts = &mut self.counts;
        counts.requests += 1;
        match outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::RateLimited => counts.rate_limited += 1,
            Outcome::Cancelled => counts.cancelled += 1,
            Outcome::ClientError => {}
            Outcome::ServerError | Outcome::Timeout | Outcome::Unreachable | Outcome::Interrupted => {
                counts.failed += 1;
            }
        }
    }

    fn success(&mut self, probe: bool, now_ms: u64) {
        if !probe {
            self.successes = self.successes.saturating_add(1);
            return;
        }
        let policy = self.policy;
        self.breaker.record_probe_success(now_ms, &policy);
        if self.breaker.phase() == Phase::Closed {
            self.since_ms = now_ms;
        }
    }

    fn failure(&mut self, probe: bool, now_ms: u64) {
        let (policy, successes) = (self.policy, std::mem::take(&mut self.successes));
        self.breaker.record_failure_from(FAILING_MIN, probe, successes, now_ms, &policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failure_threshold: 2,
        window_ms: 10_000,
        recovery_timeout_ms: 1_000,
        recovery_increment: 1.0,
    };

    fn state() -> Arc<ProviderState> {
        Arc::new(ProviderState::new(
            Clock::start(),
            1,
            &RoutingSettings { outlier: POLICY, ..RoutingSettings::default() },
        ))
    }

    async fn pass(ms: u64) {
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_set_it_aside_until_probes_succeed() {
        let state = state();
        for _ in 0..2 {
            assert_eq!(state.standing(), Standing::Well);
            state.begin(false, false).ended(Outcome::Unreachable);
        }
        assert_eq!(state.standing(), Standing::PassedBy);
        pass(1_000).await;
        for _ in 0..2 {
            assert_eq!(state.standing(), Standing::Probe);
            state.begin(false, true).ended(Outcome::Ok);
        }
        assert_eq!(state.standing(), Standing::Well);
        assert_eq!(state.view(false).age_ms, 0, "it is back: its share grows slowly");
    }

    #[tokio::test(start_paused = true)]
    async fn what_callers_do_wrong_is_not_held_against_it() {
        let state = state();
        for outcome in [Outcome::ClientError, Outcome::RateLimited, Outcome::Cancelled] {
            (0..20).for_each(|_| state.begin(false, false).ended(outcome));
        }
        assert_eq!(state.standing(), Standing::Well);
        let counts = state.view(false).counts;
        assert_eq!((counts.requests, counts.rate_limited, counts.cancelled, counts.failed), (60, 20, 20, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_timed_to_their_first_token_and_answers_to_their_end() {
        let state = state();
        let (stream, whole) = (state.begin(true, false), state.begin(false, false));
        assert_eq!(state.view(true).in_flight, 2);
        pass(100).await;
        stream.first_token();
        pass(900).await;
        stream.ended(Outcome::Ok);
        whole.ended(Outcome::Ok);
        drop((stream, whole));
        assert_eq!(state.view(true).in_flight, 0);
        assert_eq!(state.view(false).latency_ms, Some(1_000.0));
        assert!(state.view(true).latency_ms.is_some_and(|ms| ms < 100.0), "and sinks with time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_without_room_rests_before_the_limit_is_hit() {
        let state = state();
        let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")];
        let get = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        state.heard(0, 7, RateSignals::read(get, "", 0), 1);
        assert_eq!((state.wait_ms(7), state.wait_ms(8)), (2_000, 0));
        pass(2_000).await;
        assert_eq!(state.wait_ms(7), 0);
    }
}
