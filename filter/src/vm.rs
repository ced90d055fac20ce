//! What one VM (one Envoy worker) remembers between requests.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_core::cache::admission::Doorkeeper;
use tidegate_core::chat::Tape;
use tidegate_core::event::{BREAKERS_MAX, BreakerChange, Counter, DURATION_BUCKETS_MS};
use tidegate_core::hash::hash;
use tidegate_core::incident::matcher::Matcher;
use tidegate_core::limit::OutputLengths;
use tidegate_core::limit::fair::Sharer;
use tidegate_core::limit::lease::OnLoss;
use tidegate_core::policy::{Invalid, Scope, Snapshot};

use crate::answers;
use crate::config::PluginConfig;
use crate::full_sets::FullSets;
use crate::levels::Levels;
use crate::offers::Offers;
use crate::outbox::Outbox;
use crate::permits::HeldPermits;
use crate::ports::{Clock, SharedCells};
use crate::slices::Slices;
use crate::traffic::Traffic;
use crate::verdicts::Verdicts;
use crate::watch::BreakerWatch;
use crate::ways::Ways;

/// A policy in force, with what is computed once from it.
#[derive(Debug)]
pub struct Policy {
    /// The document.
    pub snapshot: Snapshot,
    /// Which limits a request must pass.
    pub levels: Levels,
    /// Sets of the exact cache.
    pub l1_sets: u32,
    /// Whether any limit is of the whole fleet.
    pub is_shared: bool,
    /// Which slices a request falls under.
    pub matcher: Matcher,
    /// Of each slice's policy, in their order.
    slices: Vec<SliceLife>,
    /// When this VM last saw a new policy that breaks a slice; breakers that opened before it
    /// opened for what it answers.
    pub breaks_since_ms: u64,
}

/// What a VM knows of one slice's policy beside the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SliceLife {
    /// Names its gate.
    tag: u64,
    renewal: u32,
    /// When this VM first saw this renewal, by its own clock.
    seen_ms: u64,
}

impl Policy {
    /// Prepares a validated document that takes the place of `before`.
    #[must_use]
    pub fn new(snapshot: Snapshot, before: Option<&Self>, now_ms: u64) -> Self {
        let known: BTreeMap<u64, SliceLife> =
            before.iter().flat_map(|policy| &policy.slices).map(|life| (life.tag, *life)).collect();
        let life = |id: &str, renewal| {
            let tag = hash(&[id.as_bytes()]);
            let seen_ms = known.get(&tag).filter(|l| l.renewal == renewal).map_or(now_ms, |l| l.seen_ms);
            SliceLife { tag, renewal, seen_ms }
        };
        Self {
            levels: Levels::new(&snapshot.limits),
            l1_sets: tidegate_core::cache::slots::sets(snapshot.l1.bytes_max),
            is_shared: snapshot.limits.rules.iter().any(|rule| rule.scope == Scope::Fleet),
            breaks_since_ms: breaks_since_ms(&snapshot, &known, now_ms)
                .or_else(|| before.map(|policy| policy.breaks_since_ms))
                .unwrap_or(0),
            matcher: Matcher::new(&snapshot.slices),
            slices: snapshot.slices.iter().map(|slice| life(&slice.id, slice.renewal)).collect(),
            snapshot,
        }
    }

    /// The tag of a slice's gate, and how long its policy still lives in milliseconds; `None` once the
    /// policy's time is over.
    #[must_use]
    pub fn slice_life(&self, index: usize, now_ms: u64) -> Option<(u64, u64)> {
        let (life, slice) = (self.slices.get(index)?, self.snapshot.slices.get(index)?);
        let left_ms = slice.ttl_ms.saturating_sub(now_ms.saturating_sub(life.seen_ms));
        (left_ms > 0).then_some((life.tag, left_ms))
    }

    /// A tenant where several share a bucket.
    #[must_use]
    pub fn sharer(&self, tenant: &str) -> Sharer {
        Sharer { tag: hash(&[tenant.as_bytes()]), weight: self.snapshot.limits.weight(tenant) }
    }

    /// Whether a gate belongs to a policy of this document.
    #[must_use]
    pub fn has_slice(&self, tag: u64) -> bool {
        self.slices.iter().any(|life| life.tag == tag)
    }
}

/// `now_ms` if the document has a policy that breaks a slice and was not known.
fn breaks_since_ms(snapshot: &Snapshot, known: &BTreeMap<u64, SliceLife>, now_ms: u64) -> Option<u64> {
    let is_new = |id: &str| !known.contains_key(&hash(&[id.as_bytes()]));
    let mut slices = snapshot.slices.iter();
    slices.any(|slice| slice.enforce && slice.measure.closes() && is_new(&slice.id)).then_some(now_ms)
}

/// Counts since the VM started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    counters: [u64; Counter::ALL.len()],
    duration_buckets: [u64; DURATION_BUCKETS_MS.len() + 1],
    duration_sum_ms: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            counters: [0; Counter::ALL.len()],
            duration_buckets: [0; DURATION_BUCKETS_MS.len() + 1],
            duration_sum_ms: 0,
        }
    }
}

impl Counts {
    /// Adds one.
    pub fn add(&mut self, counter: Counter) {
        if let Some(count) = self.counters.get_mut(counter as usize) {
            *count += 1;
        }
    }

    /// Records how long a request took.
    pub fn observe_duration(&mut self, ms: u64) {
        let bucket = DURATION_BUCKETS_MS.iter().position(|b| ms <= *b).unwrap_or(DURATION_BUCKETS_MS.len());
        if let Some(count) = self.duration_buckets.get_mut(bucket) {
            *count += 1;
        }
        self.duration_sum_ms = self.duration_sum_ms.saturating_add(ms);
    }

    /// One counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or_default()
    }

    /// Counters that are not zero, by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let values = Counter::ALL.iter().map(|c| (c.name().to_owned(), self.get(*c)));
        values.filter(|(_, n)| *n > 0).collect()
    }

    /// Requests per duration bucket.
    #[must_use]
    pub const fn duration_buckets(&self) -> &[u64; DURATION_BUCKETS_MS.len() + 1] {
        &self.duration_buckets
    }

    /// Sum of all durations, in milliseconds.
    #[must_use]
    pub const fn duration_sum_ms(&self) -> u64 {
        self.duration_sum_ms
    }
}

/// One VM.
pub struct Vm {
    /// Where the sidecar is.
    pub config: PluginConfig,
    /// The policy in force; `None` until the first arrives.
    pub policy: Option<Rc<Policy>>,
    /// Verdicts on credentials.
    pub verdicts: Verdicts,
    /// Counts since start.
    pub counts: Counts,
    /// Reused for every request body.
    pub tape: Tape,
    /// Reused for the text of every cache key.
    pub key_text: Vec<u8>,
    /// Tokens taken and not yet given.
    pub slices: Slices,
    /// Requests at a time.
    pub permits: HeldPermits,
    /// How long models' answers were.
    pub lengths: OutputLengths,
    /// Where answers were last found.
    pub ways: Ways,
    /// Sets of the exact cache that are full.
    pub full_sets: FullSets,
    /// Questions that the exact cache turned away.
    pub doorkeeper: Doorkeeper,
    /// What is known of the breakers.
    pub watch: BreakerWatch,
    /// Requests and failures since the last batch.
    pub traffic: Traffic,
    /// Events since the last batch.
    pub outbox: Outbox,
    /// Answers for the semantic cache.
    pub offers: Offers,
    /// Requests whose refusal waits for news.
    pub held: usize,
    breaker_changes: Vec<BreakerChange>,
}

impl Vm {
    /// A VM without a policy.
    #[must_use]
    pub fn new(config: PluginConfig) -> Self {
        Self {
            config,
            policy: None,
            verdicts: Verdicts::default(),
            counts: Counts::default(),
            tape: Tape::default(),
            key_text: Vec::new(),
            slices: Slices::default(),
            permits: HeldPermits::default(),
            lengths: OutputLengths::default(),
            ways: Ways::default(),
            full_sets: FullSets::default(),
            doorkeeper: Doorkeeper::default(),
            watch: BreakerWatch::default(),
            traffic: Traffic::default(),
            outbox: Outbox::default(),
            offers: Offers::default(),
            held: 0,
            breaker_changes: Vec::new(),
        }
    }

    /// Puts a policy document in force if it is valid; otherwise the last good one stays.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn adopt(&mut self, host: &(impl SharedCells + Clock), json: &[u8]) -> Result<(), Invalid> {
        let now_ms = host.now_ns() / 1_000_000;
        let policy = Policy::new(Snapshot::parse(json)?, self.policy.as_deref(), now_ms);
        if let Some(old) = &self.policy {
            answers::clear_sets(host, policy.l1_sets, old.l1_sets);
        }
        self.policy = Some(Rc::new(policy));
        self.counts.add(Counter::SnapshotApplied);
        Ok(())
    }

    /// Revision of the policy in force; empty before the first.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.policy.as_ref().map_or("", |policy| policy.snapshot.revision.as_str())
    }

    /// What to do with limits of the fleet while they cannot be reached.
    #[must_use]
    pub fn on_loss(&self) -> OnLoss {
        self.policy.as_ref().map_or_else(OnLoss::default, |policy| policy.snapshot.limits.on_redis_loss)
    }

    /// Notes a breaker's new state for the next report; the oldest note gives way.
    pub fn note_breaker(&mut self, change: BreakerChange) {
        self.breaker_changes.retain(|c| c.id != change.id);
        if self.breaker_changes.len() == BREAKERS_MAX {
            self.breaker_changes.remove(0);
        }
        self.breaker_changes.push(change);
    }

    /// The notes not yet reported; they stay until [`Vm::forget_breaker_changes`].
    #[must_use]
    pub fn breaker_changes(&self) -> &[BreakerChange] {
        &self.breaker_changes
    }

    /// Drops notes that were delivered, unless they changed again since.
    pub fn forget_breaker_changes(&mut self, delivered: &[BreakerChange]) {
        self.breaker_changes.retain(|c| !delivered.contains(c));
    }
}
