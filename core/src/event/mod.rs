//! What the filter tells the sidecar on its tick, so that one `/metrics` page shows both halves.
//!
//! Counters are cumulative per VM: the sidecar adds the difference to what it last saw from
//! that VM, so a report that is lost or delivered twice changes nothing.

mod attributes;
mod observed;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use attributes::{ATTRIBUTES, Attribute, Attributes, PathTemplate, VALUE_BYTES_MAX, prompt_length};
pub use observed::{
    Batch, ERROR_HEAD_BYTES, EVENTS_MAX, ErrorEvent, PolicyNote, ROW_SIGNATURES_MAX, ROWS_MAX, TrafficRow,
};

/// Most counters in one report.
pub const COUNTERS_MAX: usize = 256;
/// Most breakers in one report.
pub const BREAKERS_MAX: usize = 64;

/// Upper bounds of the request-duration buckets, in milliseconds; a last, unbounded bucket follows.
pub const DURATION_BUCKETS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 2500, 10_000, 30_000];

/// One VM's report; the body of `POST /internal/v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Random name of the VM, 16 hex digits; a reloaded VM is a new one.
    pub vm: String,
    /// Revision of the snapshot this VM applies; empty before the first.
    pub revision: String,
    /// Cumulative counters since the VM started, by [`Counter::name`].
    pub counters: BTreeMap<String, u64>,
    /// Request durations: cumulative count per bucket of [`DURATION_BUCKETS_MS`], plus one.
    pub duration_buckets: Vec<u64>,
    /// Sum of all request durations, in milliseconds.
    pub duration_sum_ms: u64,
    /// Breakers that changed state in this VM since its last report; at most [`BREAKERS_MAX`].
    pub breakers: Vec<BreakerChange>,
    /// What was observed since the last batch, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

/// A breaker's new state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerChange {
    /// Hash of the breaker's key; never the model string itself.
    pub id: u64,
    /// Bounded route label: an LLM endpoint's, or the name of an Envoy route.
    pub route: String,
    /// 0 closed, 1 half-open, 2 open.
    pub state: u8,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Everything the filter counts. Metric names are made from [`Counter::name`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All counters, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable name on the wire and in Envoy's own stats.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// LLM request passed on.
    LlmForwarded => "requests.llm.forwarded",
    /// LLM request answered from L1.
    LlmCacheHit => "requests.llm.cache_hit",
    /// LLM request refused.
    LlmRefused => "requests.llm.refused",
    /// Admin request passed on.
    AdminForwarded => "requests.admin.forwarded",
    /// Admin request refused.
    AdminRefused => "requests.admin.refused",
    /// Public request passed on.
    PublicForwarded => "requests.public.forwarded",
    /// Public request refused.
    PublicRefused => "requests.public.refused",
    /// Operator's own route, passed on.
    OtherForwarded => "requests.other.forwarded",
    /// Operator's own route, refused.
    OtherRefused => "requests.other.refused",
    /// `/internal` from outside, refused.
    InternalRefused => "requests.internal.refused",
    /// Refused by the global bucket.
    LimitGlobal => "limit.global",
    /// Refused by a tenant's bucket.
    LimitTenant => "limit.tenant",
    /// Refused by a key's bucket.
    LimitKey => "limit.key",
    /// Refused by an address's bucket.
    LimitIp => "limit.ip",
    /// Refused by a route's bucket.
    LimitRoute => "limit.route",
    /// Refused by a model's bucket.
    LimitModel => "limit.model",
    /// A cell stayed contended past the retry bound; the request was admitted.
    LimitContended => "limit.contended",
    /// Exchange with the limits of the fleet that brought an answer.
    LeaseExchanged => "lease.exchanged",
    /// Exchange that did not; this gateway is alone until the next one.
    LeaseFailed => "lease.failed",
    /// Refused by an open breaker.
    BreakerRefused => "breaker.refused",
    /// A breaker opened.
    BreakerOpened => "breaker.opened",
    /// A breaker closed again.
    BreakerClosed => "breaker.closed",
    /// L1 look-up answered.
    L1Hit => "l1.hit",
    /// L1 look-up found nothing.
    L1Miss => "l1.miss",
    /// Request not eligible for L1, or the client asked to pass it by.
    L1Bypass => "l1.bypass",
    /// Answer stored.
    L1Stored => "l1.stored",
    /// Answer complete but not storable: too large, an error, or forbidden by its headers.
    L1Unstorable => "l1.unstorable",
    /// Answer not stored, because it would push out a young one and was asked for the first time.
    L1Unadmitted => "l1.unadmitted",
    /// Semantic look-up by call-out that answered.
    L2Hit => "l2.hit",
    /// Semantic look-up by call-out that found nothing.
    L2Miss => "l2.miss",
    /// Semantic look-up that was late or failed; the request went on.
    L2Failed => "l2.failed",
    /// Request not looked up: too large, or look-ups failed a moment ago.
    L2Skipped => "l2.skipped",
    /// Answer handed to the semantic cache.
    L2Offered => "l2.offered",
    /// Answer that could not be handed over: too large, too many at a time, or not taken.
    L2Dropped => "l2.dropped",
    /// Verdict found in this VM.
    AuthLocal => "auth.local",
    /// Verdict found in the shared slots.
    AuthShared => "auth.shared",
    /// Verdict asked of the sidecar.
    AuthCallout => "auth.callout",
    /// Credential refused.
    AuthDenied => "auth.denied",
    /// The sidecar could not be asked.
    AuthUnavailable => "auth.unavailable",
    /// Snapshot applied.
    SnapshotApplied => "snapshot.applied",
    /// Snapshot refused; the last good one stays.
    SnapshotRefused => "snapshot.refused",
    /// Snapshot poll failed.
    SnapshotPollFailed => "snapshot.poll_failed",
    /// Answer of status 2xx or 3xx.
    StatusOk => "response.ok",
    /// Answer of status 4xx.
    StatusClientError => "response.client_error",
    /// Answer of status 5xx.
    StatusServerError => "response.server_error",
    /// The stream ended before its answer was complete.
    StreamAborted => "response.aborted",
    /// Failure whose words were kept for the next batch.
    EventSampled => "event.sampled",
    /// Failure of a known signature that was only counted.
    EventCounted => "event.counted",
    /// Event that gave way to a newer one before it could be sent.
    EventDropped => "event.dropped",
    /// Refused by a policy that breaks a slice.
    PolicyBroke => "policy.broke",
    /// Refused by a policy that limits a slice.
    PolicyLimited => "policy.limited",
    /// Would have been refused if its policy were enforced.
    PolicyShadowed => "policy.shadowed",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_names_are_unique_and_indices_follow_the_list() {
        let names: std::collections::BTreeSet<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        assert!(Counter::ALL.iter().enumerate().all(|(i, c)| *c as usize == i));
        assert!(Counter::ALL.len() <= COUNTERS_MAX);
    }
}
