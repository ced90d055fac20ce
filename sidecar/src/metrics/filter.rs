//! What the filters count, one VM a worker thread, added up.
//!
//! Reports are cumulative per VM, so what is added is the difference to the last report of that
//! VM. A VM seen for the first time brings all it has counted: after a restart of the sidecar
//! the page goes on where the filters are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidegate_core::event::{BREAKERS_MAX, COUNTERS_MAX, Counter, DURATION_BUCKETS_MS, Report};
use tidegate_core::wire::is_name;

/// Most VMs remembered; the one that is silent longest goes first. Silence alone is no reason to
/// forget one: an idle VM has nothing to report, and would bring all its numbers again.
const VMS_MAX: usize = 1024;
/// Most breakers remembered.
const BREAKER_IDS_MAX: usize = 4096;
/// Most routes shown; the breakers of further ones are not.
const ROUTES_MAX: usize = 256;

const COUNTERS: usize = Counter::ALL.len();
const BUCKETS: usize = DURATION_BUCKETS_MS.len() + 1;

/// Cumulative numbers, of one VM or of all.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    counters: [u64; COUNTERS],
    buckets: [u64; BUCKETS],
    duration_ms: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { counters: [0; COUNTERS], buckets: [0; BUCKETS], duration_ms: 0 }
    }
}

impl Numbers {
    fn of(report: &Report) -> Self {
        let mut numbers = Self { duration_ms: report.duration_sum_ms, ..Self::default() };
        for (slot, counter) in numbers.counters.iter_mut().zip(Counter::ALL) {
            *slot = report.counters.get(counter.name()).copied().unwrap_or(0);
        }
        for (slot, bucket) in numbers.buckets.iter_mut().zip(&report.duration_buckets) {
            *slot = *bucket;
        }
        numbers
    }

    fn each(&mut self) -> impl Iterator<Item = &mut u64> {
        self.counters.iter_mut().chain(&mut self.buckets).chain(std::iter::once(&mut self.duration_ms))
    }

    /// Adds what `next` has over `last`, and moves `last` up to it. A report that was overtaken
    /// by a later one has nothing over it.
    fn add_difference(&mut self, last: &mut Self, mut next: Self) {
        for ((total, last), next) in self.each().zip(last.each()).zip(next.each()) {
            *total = total.saturating_add(next.saturating_sub(*last));
            *last = (*last).max(*next);
        }
    }
}

#[derive(Debug)]
struct Vm {
    last: Numbers,
    revision: String,
    seen: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    totals: Numbers,
    vms: BTreeMap<String, Vm>,
    breakers: BTreeMap<u64, (String, u8)>,
}

/// All filters' numbers.
#[derive(Debug)]
pub struct FilterStats {
    inner: Mutex<Inner>,
    /// A VM silent for this long is not shown any more.
    silence_max: Duration,
}

/// A VM as `/v1/admin/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VmStatus {
    /// Its random name.
    pub vm: String,
    /// The document it applies; empty before its first.
    pub revision: String,
    /// Milliseconds since its last report.
    pub silent_ms: u64,
}

/// Why a report was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportError {
    /// `vm` or a route is not a name.
    Name,
    /// More entries than a report may have.
    TooLarge,
    /// Not as many buckets as this version has, or an unknown breaker state.
    Shape,
}

impl FilterStats {
    /// Nothing counted yet; a VM that is silent for `silence_max` will not be shown.
    #[must_use]
    pub fn new(silence_max: Duration) -> Self {
        Self { inner: Mutex::default(), silence_max }
    }

    /// Adds a report that came at `now`. Counters unknown to this version are left out.
    ///
    /// # Errors
    /// A report that breaks its bounds changes nothing.
    pub fn record(&self, report: Report, now: Instant) -> Result<(), ReportError> {
        check(&report)?;
        let mut inner = self.lock();
        let Inner { totals, vms, breakers } = &mut *inner;
        if vms.len() >= VMS_MAX && !vms.contains_key(&report.vm) {
            let oldest = vms.iter().min_by_key(|(_, vm)| vm.seen).map(|(name, _)| name.clone());
            oldest.and_then(|name| vms.remove(&name));
        }
        let numbers = Numbers::of(&report);
        let vm = vms.entry(report.vm).or_insert_with(|| Vm {
            last: Numbers::default(),
            revision: String::new(),
            seen: now,
        });
        totals.add_difference(&mut vm.last, numbers);
        vm.revision = report.revision;
        vm.seen = now;
        for change in report.breakers {
            if breakers.len() < BREAKER_IDS_MAX || breakers.contains_key(&change.id) {
                breakers.insert(change.id, (change.route, change.state));
            }
        }
        Ok(())
    }

    /// The VMs that have reported lately, as of `now`.
    #[must_use]
    pub fn vms(&self, now: Instant) -> Vec<VmStatus> {
        let is_fresh = |vm: &Vm| now.saturating_duration_since(vm.seen) < self.silence_max;
        let status = |(name, vm): (&String, &Vm)| VmStatus {
            vm: name.clone(),
            revision: vm.revision.clone(),
            silent_ms: u64::try_from(now.saturating_duration_since(vm.seen).as_millis()).unwrap_or(u64::MAX),
        };
        self.lock().vms.iter().filter(|(_, vm)| is_fresh(vm)).map(status).collect()
    }

    fn fresh(&self, vms: &BTreeMap<String, Vm>) -> u64 {
        vms.values().filter(|vm| vm.seen.elapsed() < self.silence_max).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(report: &Report) -> Result<(), ReportError> {
    if report.counters.len() > COUNTERS_MAX || report.breakers.len() > BREAKERS_MAX {
        return Err(ReportError::TooLarge);
    }
    let routes_named = report.breakers.iter().all(|change| is_name(&change.route));
    if !is_name(&report.vm) || !routes_named || !(report.revision.is_empty() || is_name(&report.revision)) {
        return Err(ReportError::Name);
    }
    if report.duration_buckets.len() != BUCKETS || report.breakers.iter().any(|change| change.state > 2) {
        return Err(ReportError::Shape);
    }
    Ok(())
}

/// Name and meaning of each family of counters.
const FAMILIES: [(&str, &str); 13] = [
    ("gateway_fleet_exchanges", "Exchanges of leases between filters and the sidecar, by result"),
    ("gateway_requests", "Requests seen by the filter, by class of path and what became of them"),
    ("gateway_rate_limit_hits", "Requests refused by a rate limit"),
    ("gateway_rate_limit_contended", "Requests admitted because their bucket stayed contended"),
    ("gateway_circuit_breaker_refusals", "Requests refused by an open breaker"),
    ("gateway_circuit_breaker_transitions", "Breakers that opened or closed"),
    ("gateway_cache_requests", "Cache look-ups"),
    ("gateway_cache_stores", "Answers offered to the cache"),
    ("gateway_auth", "Where the verdict on a credential came from, or why it was refused"),
    ("gateway_snapshot", "Policy documents as the filters saw them"),
    ("gateway_responses", "Answers to clients by class of status"),
    ("gateway_error_events", "Failures seen by the filter, by whether their words were sent on"),
    ("gateway_policy_refusals", "Requests refused by policies on slices of the traffic"),
];

type Labels = &'static [(&'static str, &'static str)];

/// The family and labels of a counter; a new counter does not compile until it has a place.
const fn place(counter: Counter) -> (&'static str, Labels) {
    use Counter as C;
    match counter {
        C::LlmForwarded => ("gateway_requests", &[("class", "llm"), ("outcome", "forwarded")]),
        C::LlmCacheHit => ("gateway_requests", &[("class", "llm"), ("outcome", "cache_hit")]),
        C::LlmRefused => ("gateway_requests", &[("class", "llm"), ("outcome", "refused")]),
        C::AdminForwarded => ("gateway_requests", &[("class", "admin"), ("outcome", "forwarded")]),
        C::AdminRefused => ("gateway_requests", &[("class", "admin"), ("outcome", "refused")]),
        C::PublicForwarded => ("gateway_requests", &[("class", "public"), ("outcome", "forwarded")]),
        C::PublicRefused => ("gateway_requests", &[("class", "public"), ("outcome", "refused")]),
        C::OtherForwarded => ("gateway_requests", &[("class", "other"), ("outcome", "forwarded")]),
        C::OtherRefused => ("gateway_requests", &[("class", "other"), ("outcome", "refused")]),
        C::InternalRefused => ("gateway_requests", &[("class", "internal"), ("outcome", "refused")]),
        C::LimitGlobal => ("gateway_rate_limit_hits", &[("level", "global")]),
        C::LimitTenant => ("gateway_rate_limit_hits", &[("level", "tenant")]),
        C::LimitKey => ("gateway_rate_limit_hits", &[("level", "key")]),
        C::LimitIp => ("gateway_rate_limit_hits", &[("level", "ip")]),
        C::LimitRoute => ("gateway_rate_limit_hits", &[("level", "route")]),
        C::LimitModel => ("gateway_rate_limit_hits", &[("level", "model")]),
        C::LimitContended => ("gateway_rate_limit_contended", &[]),
        C::LeaseExchanged => ("gateway_fleet_exchanges", &[("result", "ok")]),
        C::LeaseFailed => ("gateway_fleet_exchanges", &[("result", "failed")]),
        C::BreakerRefused => ("gateway_circuit_breaker_refusals", &[]),
        C::BreakerOpened => ("gateway_circuit_breaker_transitions", &[("to", "open")]),
        C::BreakerClosed => ("gateway_circuit_breaker_transitions", &[("to", "closed")]),
        C::L1Hit => ("gateway_cache_requests", &[("layer", "l1"), ("result", "hit")]),
        C::L1Miss => ("gateway_cache_requests", &[("layer", "l1"), ("result", "miss")]),
        C::L1Bypass => ("gateway_cache_requests", &[("layer", "l1"), ("result", "bypass")]),
        C::L1Stored => ("gateway_cache_stores", &[("layer", "l1"), ("result", "stored")]),
        C::L1Unstorable => ("gateway_cache_stores", &[("layer", "l1"), ("result", "unstorable")]),
        C::L1Unadmitted => ("gateway_cache_stores", &[("layer", "l1"), ("result", "unadmitted")]),
        C::L2Hit => ("gateway_cache_requests", &[("layer", "semantic"), ("result", "hit")]),
        C::L2Miss => ("gateway_cache_requests", &[("layer", "semantic"), ("result", "miss")]),
        C::L2Failed => ("gateway_cache_requests", &[("layer", "semantic"), ("result", "failed")]),
        C::L2Skipped => ("gateway_cache_requests", &[("layer", "semantic"), ("result", "skipped")]),
        C::L2Offered => ("gateway_cache_stores", &[("layer", "semantic"), ("result", "offered")]),
        C::L2Dropped => ("gateway_cache_stores", &[("layer", "semantic"), ("result", "dropped")]),
        C::AuthLocal => ("gateway_auth", &[("result", "local")]),
        C::AuthShared => ("gateway_auth", &[("result", "shared")]),
        C::AuthCallout => ("gateway_auth", &[("result", "callout")]),
        C::AuthDenied => ("gateway_auth", &[("result", "denied")]),
        C::AuthUnavailable => ("gateway_auth", &[("result", "unavailable")]),
        C::SnapshotApplied => ("gateway_snapshot", &[("result", "applied")]),
        C::SnapshotRefused => ("gateway_snapshot", &[("result", "refused")]),
        C::SnapshotPollFailed => ("gateway_snapshot", &[("result", "poll_failed")]),
        C::StatusOk => ("gateway_responses", &[("class", "ok")]),
        C::StatusClientError => ("gateway_responses", &[("class", "client_error")]),
        C::StatusServerError => ("gateway_responses", &[("class", "server_error")]),
        C::StreamAborted => ("gateway_responses", &[("class", "aborted")]),
        C::EventSampled => ("gateway_error_events", &[("result", "sampled")]),
        C::EventCounted => ("gateway_error_events", &[("result", "counted")]),
        C::EventDropped => ("gateway_error_events", &[("result", "dropped")]),
        C::PolicyBroke => ("gateway_policy_refusals", &[("action", "break"), ("mode", "enforce")]),
        C::PolicyLimited => ("gateway_policy_refusals", &[("action", "limit"), ("mode", "enforce")]),
        C::PolicyShadowed => ("gateway_policy_refusals", &[("action", "any"), ("mode", "shadow")]),
    }
}

/// The page shows [`FilterStats`] through this, without the lock held while writing.
impl Collector for FilterStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (totals, routes, vms) = {
            let inner = self.lock();
            (inner.totals, worst_by_route(&inner.breakers), self.fresh(&inner.vms))
        };
        encode_counters(&mut encoder, &totals)?;
        encode_durations(&mut encoder, &totals)?;
        let help = "Worst state of the breakers of a route: 0 closed, 1 half-open, 2 open";
        let mut states =
            encoder.encode_descriptor("gateway_circuit_breaker_state", help, None, MetricType::Gauge)?;
        for (route, state) in &routes {
            states.encode_family(&[("route", route.as_str())])?.encode_gauge(&u64::from(*state))?;
        }
        let help = "Filter VMs that have reported lately";
        let mut workers = encoder.encode_descriptor("gateway_filter_vms", help, None, MetricType::Gauge)?;
        workers.encode_gauge(&vms)
    }
}

fn encode_counters(encoder: &mut DescriptorEncoder<'_>, totals: &Numbers) -> Result<(), fmt::Error> {
    for (family, help) in FAMILIES {
        let mut metric = encoder.encode_descriptor(family, help, None, MetricType::Counter)?;
        for (counter, value) in Counter::ALL.iter().zip(totals.counters) {
            match place(*counter) {
                (name, labels) if name != family || labels.len() > 2 => {}
                (_, []) => metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)?,
                (_, labels) => {
                    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
                }
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^52")]
fn encode_durations(encoder: &mut DescriptorEncoder<'_>, totals: &Numbers) -> Result<(), fmt::Error> {
    let bounds =
        DURATION_BUCKETS_MS.iter().map(|ms| *ms as f64 / 1000.0).chain(std::iter::once(f64::INFINITY));
    let buckets: Vec<(f64, u64)> = bounds.zip(totals.buckets).collect();
    let help = "Seconds from a request's headers to the end of its answer, as the filter saw them";
    encoder
        .encode_descriptor("gateway_request_duration_seconds", help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(
        totals.duration_ms as f64 / 1000.0,
        totals.buckets.iter().sum(),
        &buckets,
        None,
    )
}

fn worst_by_route(breakers: &BTreeMap<u64, (String, u8)>) -> BTreeMap<String, u8> {
    let mut routes: BTreeMap<String, u8> = BTreeMap::new();
    for (route, state) in breakers.values() {
        if let Some(worst) = routes.get_mut(route) {
            *worst = (*worst).max(*state);
        } else if routes.len() < ROUTES_MAX {
            routes.insert(route.clone(), *state);
        }
    }
    routes
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
