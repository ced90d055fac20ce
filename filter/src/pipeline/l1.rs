//! The exact cache inside Envoy: look-up before a request leaves, store after its answer is
//! complete.

use std::cell::OnceCell;

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
use crate::answers::{self, Spot};
use crate::ports::{Cell, SharedCells, StreamHost};
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
    place: Option<Place>,
}

impl Plan {
    /// The answer must not be stored, whatever else allows it.
    pub const fn forbid_store(&mut self) {
        self.may_store = false;
    }

    /// Where to store a good answer; `None` when it may not be stored.
    pub fn take_place(&mut self) -> Option<Place> {
        self.place.take().filter(|_| self.may_store)
    }
}

/// Where an answer is to be stored.
#[derive(Debug)]
pub struct Place {
    spot: Spot,
    key: CacheKey,
    /// The set's index as the look-up read it; storing begins from it.
    index: Option<Cell>,
}

/// A question, as it is looked for. Its key costs more than all else here, and is computed only where
/// something is found or will be stored.
struct Question {
    text: Vec<u8>,
    spot: Spot,
    key: OnceCell<CacheKey>,
}

impl Question {
    fn new(text: Vec<u8>, sets: u32) -> Self {
        Self { spot: Spot::of(&text, sets), text, key: OnceCell::new() }
    }

    fn key(&self) -> &CacheKey {
        self.key.get_or_init(|| CacheKey::of(&self.text))
    }
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
        host: &impl StreamHost,
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
        let mut text = std::mem::take(&mut vm.key_text);
        let upstream = if vm.config.routed_by_path { String::new() } else { host.cluster_name() };
        CacheKey::begin(&mut text, generation, &identity.tenant, scope, (&head.path, &upstream), &head.pin);
        vm.tape.canonical(body, &mut text);
        let question = Question::new(text, policy.l1_sets);
        let hit = self.find(vm, host, policy, &question);
        let Question { mut text, .. } = question;
        text.clear();
        text.shrink_to(KEY_TEXT_BYTES_KEPT);
        vm.key_text = text;
        hit
    }

    /// Where this VM last found it, else where the set's index says; else where it may be stored.
    fn find(
        &mut self,
        vm: &mut Vm,
        cells: &impl SharedCells,
        policy: &Policy,
        question: &Question,
    ) -> Option<LocalReply> {
        let (spot, now_ms) = (question.spot, self.started_ns / 1_000_000);
        let mut index = None;
        if self.l1.may_serve {
            match answer_to(vm, cells, question, now_ms) {
                Found::Answer(hit) => {
                    vm.counts.add(Counter::L1Hit);
                    return Some(hit);
                }
                Found::NewToFullSet => self.l1.may_store = false,
                Found::Nothing(seen) => {
                    self.l1.may_store = self.l1.may_store && is_admitted(vm, policy, &seen, spot, now_ms);
                    index = Some(seen);
                }
                Found::Lost(seen) => index = Some(seen),
            }
        }
        vm.counts.add(if self.l1.may_serve { Counter::L1Miss } else { Counter::L1Bypass });
        if self.l1.may_store {
            self.l1.place = Some(Place { spot, key: *question.key(), index });
        }
        None
    }
}

/// What a look-up came to.
enum Found {
    /// The answer.
    Answer(LocalReply),
    /// Nothing, and nothing would be stored.
    NewToFullSet,
    /// Nothing in the set of this index.
    Nothing(Cell),
    /// The index names one that is not there, or is another question's.
    Lost(Cell),
}

fn answer_to(vm: &mut Vm, cells: &impl SharedCells, question: &Question, now_ms: u64) -> Found {
    let spot = question.spot;
    if let Some(way) = vm.ways.hint(spot.tag)
        && let Some(hit) = read(cells, question, way, now_ms)
    {
        return Found::Answer(hit);
    }
    if is_new_to_full_set(vm, spot, now_ms) {
        return Found::NewToFullSet;
    }
    let (index, way) = answers::look_up(cells, spot, now_ms);
    let Some(way) = way else { return Found::Nothing(index) };
    let Some(hit) = read(cells, question, way, now_ms) else { return Found::Lost(index) };
    vm.ways.remember(spot.tag, way);
    Found::Answer(hit)
}

/// Whether the question's set was full of young answers a moment ago, this one's not among them, and
/// it was not asked before: then there is nothing to find and nothing to store.
fn is_new_to_full_set(vm: &mut Vm, spot: Spot, now_ms: u64) -> bool {
    let Some(index) = vm.full_sets.recall(spot.set, now_ms) else { return false };
    let is_new = Index::find(index, spot.tag, now_ms).is_none() && !vm.doorkeeper.knows(spot.tag);
    if is_new {
        vm.counts.add(Counter::L1Unadmitted);
    }
    is_new
}

/// Whether the answer to a question that was not found is worth what it would push out.
fn is_admitted(vm: &mut Vm, policy: &Policy, index: &Cell, spot: Spot, now_ms: u64) -> bool {
    let l1 = &policy.snapshot.l1;
    if l1.admission == L1Admission::Always
        || !Index::is_churning(&index.bytes, now_ms, l1.ttl_ms, RETENTION_MS)
    {
        return true;
    }
    vm.full_sets.remember(spot.set, &index.bytes, now_ms);
    let admitted = vm.doorkeeper.knows(spot.tag);
    if !admitted {
        vm.counts.add(Counter::L1Unadmitted);
    }
    admitted
}

/// A slot can be overwritten between two reads; the entry knows whose it is.
fn read(cells: &impl SharedCells, question: &Question, way: usize, now_ms: u64) -> Option<LocalReply> {
    let slot = answers::read(cells, question.spot.set, way);
    let entry = Entry::decode(&slot).filter(|entry| entry.serves(question.key(), now_ms))?;
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
    let Place { spot, key, index } = place;
    let now_ms = now_ns / 1_000_000;
    let expires_at_ms = now_ms.saturating_add(policy.snapshot.l1.ttl_ms);
    let Answer { kind, provider, model, body } = answer;
    let entry = Entry { kind, key, stored_at_ms: now_ms, expires_at_ms, provider, model, body };
    let stored = answers::write(cells, index, spot, &entry);
    vm.full_sets.forget(spot.set);
    vm.counts.add(if stored.is_some() { Counter::L1Stored } else { Counter::L1Unstorable });
}
