//! What is known of a provider from the requests that it got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_core::breaker::Phase;
use tidegate_core::policy::BreakerPolicy;
use tidegate_core::routing::{Ewma, Quantiles, RateSignals};

use super::clock::Clock;
use super::health::Checked;
use super::judged::{Heard, Judged, Judgement};
use super::keys::KeyPool;
use super::settings::RoutingSettings;
use crate::llm::metrics::Outcome;

/// Half-life of the latency averages, in milliseconds.
const LATENCY_HALF_LIFE_MS: f64 = 10_000.0;
/// Models of a provider whose health is known apart. Callers may invent names where a provider lists
/// none, so one that is well and not asked gives way.
const MODELS_MAX: usize = 1024;
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
    concurrency_max: u32,
    judged: Judged,
    models: BTreeMap<u64, ModelState>,
    whole: Ewma,
    first: Ewma,
    whole_waits: Quantiles,
    first_waits: Quantiles,
    keys: KeyPool,
    checked: Option<Checked>,
    signals: RateSignals,
    since_ms: u64,
    counts: Counts,
}

#[derive(Debug)]
struct ModelState {
    judged: Judged,
    in_flight: u32,
    /// When it came back after it was set aside; 0 if it never was.
    since_ms: u64,
    last: Option<Last>,
}

/// How the last request ended that says something about a model.
#[derive(Debug, Clone, Copy)]
struct Last {
    well: bool,
    at_ms: u64,
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
            concurrency_max: routing.concurrency_max,
            judged: Judged::new(routing.concurrency_max),
            models: BTreeMap::new(),
            whole: latency,
            first: latency,
            whole_waits: Quantiles::default(),
            first_waits: Quantiles::default(),
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
        inner.concurrency_max = routing.concurrency_max;
        inner.judged.relearn(routing.concurrency_max);
        inner.models.values_mut().for_each(|model| model.judged.relearn(routing.concurrency_max));
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
            phase: inner.judged.phase(),
            limit: inner.judged.limit(),
            counts: inner.counts,
            keys: (inner.keys.count(), inner.keys.resting(now_ms)),
            signals: inner.signals,
        }
    }

    /// Whether it should be asked for the model with this hash; counts as an offer to one that
    /// recovers.
    pub fn standing(&self, model: u64) -> Standing {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        if inner.checked.as_ref().is_some_and(Checked::is_down) {
            return Standing::PassedBy;
        }
        let Inner { policy, judged, models, .. } = &mut *inner;
        let of_provider = judged.standing(self.in_flight.load(Ordering::Relaxed), now_ms, policy);
        if of_provider == Standing::PassedBy {
            return of_provider;
        }
        match models.get_mut(&model) {
            None => of_provider,
            Some(ModelState { judged, in_flight, .. }) => match judged.standing(*in_flight, now_ms, policy) {
                Standing::Well => of_provider,
                of_model => of_model,
            },
        }
    }

    /// What is believed about the health of the model with this hash, apart from the provider's.
    #[must_use]
    pub fn phase_of(&self, model: u64) -> Phase {
        self.lock().models.get(&model).map_or(Phase::Closed, |model| model.judged.phase())
    }

    /// How long it has been there, or back, with the model with this hash, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, model: u64) -> u64 {
        let inner = self.lock();
        let since_ms = inner.models.get(&model).map_or(0, |model| model.since_ms).max(inner.since_ms);
        self.clock.now_ms().saturating_sub(since_ms)
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

    /// A request for the model with this hash is on its way.
    #[must_use]
    pub fn begin(self: &Arc<Self>, model: u64, stream: bool, probe: bool) -> Ticket {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let model_in_flight = self.lock().enter(model);
        let started_ms = self.clock.now_ms();
        Ticket { state: self.clone(), model, stream, probe, in_flight, model_in_flight, started_ms }
    }
}

/// One request on its way; it counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    state: Arc<ProviderState>,
    model: u64,
    stream: bool,
    probe: bool,
    in_flight: u32,
    model_in_flight: u32,
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

    /// How the request ended; called once. `of_model`: the provider said that a failure is the
    /// model's alone.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
    pub fn ended(&self, outcome: Outcome, of_model: bool) {
        let now_ms = self.state.clock.now_ms();
        let waited_ms = now_ms.saturating_sub(self.started_ms);
        let mut inner = self.state.lock();
        inner.count(outcome);
        if outcome == Outcome::Ok && !self.stream {
            inner.whole.observe(waited_ms as f64, now_ms);
            inner.whole_waits.observe(waited_ms as f64);
        }
        let sisters_fail = outcome == Outcome::ServerError && inner.sisters_fail(self.model, now_ms);
        let (of_provider, of_its_model) = Judgement::of(outcome, of_model, sisters_fail);
        let heard = Heard { probe: self.probe, in_flight: self.in_flight, waited_ms, now_ms };
        let Inner { policy, judged, models, since_ms, .. } = &mut *inner;
        hear(judged, since_ms, of_provider, &heard, policy);
        if let Some(model) = models.get_mut(&self.model) {
            let heard = Heard { in_flight: self.model_in_flight, ..heard };
            hear(&mut model.judged, &mut model.since_ms, of_its_model, &heard, policy);
            model.last = match of_its_model {
                Judgement::Well => Some(Last { well: true, at_ms: now_ms }),
                Judgement::Failed | Judgement::Overloaded => Some(Last { well: false, at_ms: now_ms }),
                Judgement::Nothing | Judgement::Answered | Judgement::Busy => model.last,
            };
        }
    }
}

/// Takes note of how a request ended, and of when what it was sent to is back.
fn hear(
    judged: &mut Judged,
    since_ms: &mut u64,
    judgement: Judgement,
    heard: &Heard,
    policy: &BreakerPolicy,
) {
    let before = judged.phase();
    judged.hear(judgement, heard, policy);
    if before == Phase::HalfOpen && judged.phase() == Phase::Closed {
        *since_ms = heard.now_ms;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(model) = self.state.lock().models.get_mut(&self.model) {
            model.in_flight = model.in_flight.saturating_sub(1);
        }
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

    /// Whether an error that it answers is its own rather than this model's: of its other models
    /// that were heard of within the window, some failed last and none did well, or it is set aside
    /// already.
    fn sisters_fail(&self, model: u64, now_ms: u64) -> bool {
        let is_recent = |last: &Last| now_ms.saturating_sub(last.at_ms) < self.policy.window_ms;
        let sisters = self.models.iter().filter(|(sister, _)| **sister != model);
        let mut heard = sisters.filter_map(|(_, state)| state.last.filter(is_recent)).peekable();
        self.judged.phase() != Phase::Closed || (heard.peek().is_some() && heard.all(|last| !last.well))
    }

    /// Counts a request for a model; how many there are of it now.
    fn enter(&mut self, model: u64) -> u32 {
        if !self.models.contains_key(&model) && self.models.len() >= MODELS_MAX {
            let is_idle = |state: &ModelState| state.in_flight == 0 && state.judged.phase() == Phase::Closed;
            let Some(idle) = self.models.iter().find(|(_, state)| is_idle(state)).map(|(model, _)| *model)
            else {
                return 0;
            };
            self.models.remove(&idle);
        }
        let fresh = || ModelState {
            judged: Judged::new(self.concurrency_max),
            in_flight: 0,
            since_ms: 0,
            last: None,
        };
        let state = self.models.entry(model).or_insert_with(fresh);
        state.in_flight = state.in_flight.saturating_add(1);
        state.in_flight
    }
}

#[cfg(test)]
mod tests;
