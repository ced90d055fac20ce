//! The exact cache inside Envoy: look-up before a request leaves, store after its answer is
//! complete.

use tidegate_core::cache::admission::RETENTION_MS;
use tidegate_core::cache::control::is_eligible;
use tidegate_core::cache::slots::Index;
use tidegate_core::cache::{CacheKey, Entry, Kind};
use tidegate_core::chat::RequestView;
use tidegate_core::event::Counter;
use tidegate_core::policy::L1Admission;
use tidegate_core::route::{Endpoint, RouteClass};

use super::Exchange;
use super::reply::LocalReply;
use crate::answers;
use crate::ports::{Cell, SharedCells};
use crate::vm::{Policy, Vm};

/// Space kept from one key's text to the next, in bytes; a larger one gives its space back.
const KEY_TEXT_BYTES_KEPT: usize = 256 << 10;

/// What the cache is to this request.
#[derive(Debug, Default)]
pub struct Plan {
    /// Value of `x-gateway-cache`, if the path is one that is cached at all.
    pub label: Option<&'static str>,
    may_serve: bool,
    may_store: bool,
    key: Option<CacheKey>,
    /// The set's index as the look-up read it; storing begins from it.
    index: Option<Cell>,
}

impl Plan {
    /// The answer must not be stored, whatever else allows it.
    pub const fn forbid_store(&mut self) {
        self.may_store = false;
    }

    /// Where to store a good answer; `None` when it may not be stored.
    pub fn take_place(&mut self) -> Option<Place> {
        let key = self.key.filter(|_| self.may_store)?;
        Some(Place { key, index: self.index.take() })
    }
}

/// Where an answer is to be stored.
#[derive(Debug)]
pub struct Place {
    key: CacheKey,
    index: Option<Cell>,
}

impl Exchange {
    /// Whether the cache is used for this request, from its headers and body.
    pub(super) fn plan_l1(&mut self, request: &RequestView<'_>, policy: &Policy) {
        let is_cached_path = matches!(
            self.head.class,
            RouteClass::Llm(Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings)
        );
        if !is_cached_path || !policy.snapshot.l1.enabled {
            return;
        }
        let eligible = is_eligible(request, &policy.snapshot.l1);
        self.l1.may_serve = eligible && self.head.control.may_serve;
        self.l1.may_store = eligible && self.head.control.may_store;
        self.l1.label = Some(if self.l1.may_serve { "miss" } else { "bypass" });
    }

    /// A stored answer to exactly this request, ready to be sent.
    pub(super) fn look_up_l1(
        &mut self,
        vm: &mut Vm,
        cells: &impl SharedCells,
        policy: &Policy,
        body: &[u8],
    ) -> Option<LocalReply> {
        if !(self.l1.may_serve || self.l1.may_store) {
            if self.l1.label.is_some() {
                vm.counts.add(Counter::L1Bypass);
            }
            return None;
        }
        let identity = &self.caller.as_ref()?.identity;
        let scope = identity.scope.as_deref();
        let (generation, head) = (policy.snapshot.l1.generation, &self.head);
        CacheKey::begin(&mut vm.key_text, generation, &identity.tenant, scope, &head.path, &head.pin);
        vm.tape.canonical(body, &mut vm.key_text);
        let key = CacheKey::of(&vm.key_text);
        vm.key_text.clear();
        vm.key_text.shrink_to(KEY_TEXT_BYTES_KEPT);
        self.l1.key = Some(key);
        if !self.l1.may_serve {
            vm.counts.add(Counter::L1Bypass);
            return None;
        }
        let hit = self.find(vm, cells, policy, &key);
        vm.counts.add(if hit.is_some() { Counter::L1Hit } else { Counter::L1Miss });
        hit
    }

    /// Where this VM last found it, else where the set's index says.
    fn find(
        &mut self,
        vm: &mut Vm,
        cells: &impl SharedCells,
        policy: &Policy,
        key: &CacheKey,
    ) -> Option<LocalReply> {
        let (set, now_ms) = (key.set(policy.l1_sets), self.started_ns / 1_000_000);
        if let Some(way) = vm.ways.hint(key.tag())
            && let Some(hit) = read(cells, key, set, way, now_ms)
        {
            return Some(hit);
        }
        if is_new_to_full_set(vm, key, set, now_ms) {
            self.l1.may_store = false;
            return None;
        }
        let (index, way) = answers::look_up(cells, set, key, now_ms);
        let Some(way) = way else {
            self.l1.may_store = self.l1.may_store && is_admitted(vm, policy, &index, key, now_ms);
            self.l1.index = Some(index);
            return None;
        };
        self.l1.index = Some(index);
        let hit = read(cells, key, set, way, now_ms)?;
        vm.ways.remember(key.tag(), way);
        Some(hit)
    }
}

/// Whether the question's set was full of young answers a moment ago, this one's not among them, and
/// it was not asked before: then there is nothing to find and nothing to store.
fn is_new_to_full_set(vm: &mut Vm, key: &CacheKey, set: u32, now_ms: u64) -> bool {
    let Some(index) = vm.full_sets.recall(set, now_ms) else { return false };
    let is_new = Index::find(index, key.tag(), now_ms).is_none() && !vm.doorkeeper.knows(key.tag());
    if is_new {
        vm.counts.add(Counter::L1Unadmitted);
    }
    is_new
}

/// Whether the answer to a question that was not found is worth what it would push out.
fn is_admitted(vm: &mut Vm, policy: &Policy, index: &Cell, key: &CacheKey, now_ms: u64) -> bool {
    let l1 = &policy.snapshot.l1;
    if l1.admission == L1Admission::Always
        || !Index::is_churning(&index.bytes, now_ms, l1.ttl_ms, RETENTION_MS)
    {
        return true;
    }
    vm.full_sets.remember(key.set(policy.l1_sets), &index.bytes, now_ms);
    let admitted = vm.doorkeeper.knows(key.tag());
    if !admitted {
        vm.counts.add(Counter::L1Unadmitted);
    }
    admitted
}

/// A slot can be overwritten between two reads; the entry knows whose it is.
fn read(cells: &impl SharedCells, key: &CacheKey, set: u32, way: usize, now_ms: u64) -> Option<LocalReply> {
    let slot = answers::read(cells, set, way);
    let entry = Entry::decode(&slot).filter(|entry| entry.serves(key, now_ms))?;
    Some(LocalReply::hit(&entry, now_ms))
}

/// A complete answer to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// How it is replayed.
    pub kind: Kind,
    /// `x-gateway-provider` of the answer.
    pub provider: &'a [u8],
    /// `x-gateway-model` of the answer.
    pub model: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// Stores an answer; counted, never an error: a cache that cannot store is only slower.
pub fn store(
    vm: &mut Vm,
    cells: &impl SharedCells,
    policy: &Policy,
    place: Place,
    answer: Answer<'_>,
    now_ns: u64,
) {
    let (key, now_ms) = (place.key, now_ns / 1_000_000);
    let expires_at_ms = now_ms.saturating_add(policy.snapshot.l1.ttl_ms);
    let Answer { kind, provider, model, body } = answer;
    let entry = Entry { kind, key, stored_at_ms: now_ms, expires_at_ms, provider, model, body };
    let set = key.set(policy.l1_sets);
    let stored = answers::write(cells, place.index, set, &entry);
    vm.full_sets.forget(set);
    vm.counts.add(if stored.is_some() { Counter::L1Stored } else { Counter::L1Unstorable });
}
