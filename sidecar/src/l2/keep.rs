//! Storing an answer, and learning from it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidegate_core::cache::replay::{keep, text};
use tidegate_core::cache::semantic::Outcome;
use tokio::time::{Duration, Instant};

use super::asked::{Asked, Trial};
use super::entry::{Entry, Name};
use super::index::Worth;
use super::shared::{Message, Placed};
use super::trust::{same_meaning, same_words};
use super::{ANSWER_BYTES_MAX, AUDIENCES_MAX, Answer, CANDIDATES, Mode, SemanticCache};
use crate::keys::unix_ms;

/// Longest that storing waits for an embedding; nobody waits for it.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// Stands for an answer: equal answers have equal numbers.
fn answer_number(text: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl SemanticCache {
    /// Compares the fresh answer with the one that might have been served, and learns. Gives the
    /// number that stands for the fresh answer.
    async fn learn(&self, asked: &Asked, fresh: &str) -> u64 {
        let own = answer_number(fresh);
        let Some(Trial { entry, evidence, is_audit }) = &asked.trial else { return own };
        if self.settings.mode == Mode::Static && !is_audit {
            return own;
        }
        let Some(stored) = text(entry.protocol, &entry.body) else { return own };
        let right = same_words(fresh, &stored) || self.same_meaning(fresh, &stored).await;
        if *is_audit {
            self.trust.audited(&asked.tenant, right);
            self.metrics.audited(right, self.trust.audits.total());
        }
        if let Some(outcome) = self.trust.learn(&asked.tenant, evidence, &entry.record, right) {
            self.tell_learned(entry.name, &asked.tenant, outcome, false);
        }
        if right { entry.answer } else { own }
    }

    /// Lets other gateways learn an outcome too; `raises` says that the answer was said to be wrong.
    pub(super) fn tell_learned(&self, name: Name, tenant: &str, outcome: Outcome, raises: bool) {
        if let (Some(shared), Ok(space)) = (self.shared(), self.space()) {
            shared.tell(Message::Learned { space, name, outcome, raises, tenant: tenant.into() });
        }
    }

    async fn same_meaning(&self, fresh: &str, stored: &str) -> bool {
        let both = self.embedder.embed(&[fresh, stored], Instant::now() + STORE_DEADLINE).await;
        match both.as_deref() {
            Ok([a, b]) => same_meaning((fresh, a), (stored, b)),
            _ => false,
        }
    }

    /// Stores a whole answer, if it is one to keep; counted, never an error.
    pub async fn store(&self, asked: &Asked, answer: Answer<'_>) {
        match self.try_store(asked, answer).await {
            Ok(()) => self.metrics.stored("stored", "good"),
            Err(reason) => self.metrics.stored("refused", reason),
        }
        self.measure();
    }

    async fn try_store(&self, asked: &Asked, answer: Answer<'_>) -> Result<(), &'static str> {
        if answer.body.len() > ANSWER_BYTES_MAX {
            return Err("too_large");
        }
        let kept = keep(asked.protocol, answer.kind, answer.body, self.settings.allow_tools)
            .map_err(|unfit| unfit.as_str())?;
        if self.settings.forbids(&kept.text) {
            return Err("never_store");
        }
        let vector = match self.vector_of(asked).await {
            Err(reason) if self.shared().is_none() => return Err(reason),
            vector => vector.ok(),
        };
        self.remember(&asked.caller.0, asked.caller.1.as_deref());
        let answer_number = self.learn(asked, &kept.text).await;
        let now_ms = unix_ms();
        let ttl_ms = u64::try_from(asked.terms.ttl.as_millis()).unwrap_or(u64::MAX);
        let entry = Arc::new(Entry {
            name: asked.name,
            tenant: asked.tenant.as_str().into(),
            model: asked.question.model.as_str().into(),
            prompt: asked.question.prompt.as_str().into(),
            features: asked.features.clone(),
            body: Bytes::from(kept.body),
            protocol: asked.protocol,
            provider: answer.provider.into(),
            answered_by: answer.model.into(),
            stored_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(ttl_ms),
            answer: answer_number,
            record: Mutex::default(),
        });
        let placed =
            vector.map(|vector| Arc::new(Placed { partition: asked.partition, vector: vector[..].into() }));
        if let Some(shared) = self.shared() {
            shared.store(entry.clone(), placed.clone().and_then(|placed| Some((self.space().ok()?, placed))));
        }
        let is_here = placed.is_none_or(|placed| self.put(entry, &placed, true, now_ms));
        if is_here { Ok(()) } else { Err("no_room") }
    }

    /// The prompt's vector, where prompts are compared by meaning.
    async fn vector_of(&self, asked: &Asked) -> Result<Arc<[f32]>, &'static str> {
        if let Some(known) = &asked.vector {
            return Ok(known.vector.clone());
        }
        if !self.settings.enabled {
            return Err("disabled");
        }
        let deadline = Instant::now() + STORE_DEADLINE;
        let found = self.embedder.embed_one(&asked.question.prompt, deadline).await;
        found.map(|embedding| embedding.vector).map_err(|error| error.label())
    }

    /// Puts an entry into the index, in the place of one of the same name if `replaces` says so;
    /// whether there is room.
    pub(super) fn put(&self, entry: Arc<Entry>, placed: &Placed, replaces: bool, now_ms: u64) -> bool {
        let Placed { partition, vector } = placed;
        if replaces {
            self.replace(partition, vector, entry.name, now_ms);
        }
        let worth = Worth {
            bytes: entry.memory_bytes(),
            // What a hit saves: the provider's work, for which the answer's length stands.
            saves: entry.body.len() as f64,
            expires_at_ms: entry.expires_at_ms,
        };
        self.index.insert(*partition, vector, entry, worth, now_ms).is_some()
    }

    /// Takes in an entry that another gateway stored; what became of it.
    pub(super) fn take_in(&self, entry: Entry, placed: &Placed, replaces: bool) -> &'static str {
        let now_ms = unix_ms();
        if entry.expires_at_ms <= now_ms {
            return "gone";
        }
        self.remember(&entry.tenant, None);
        let is_here = self.put(Arc::new(entry), placed, replaces, now_ms);
        self.measure();
        if is_here { "loaded" } else { "no_room" }
    }

    fn remember(&self, tenant: &str, scope: Option<&str>) {
        let group = (tenant.to_owned(), scope.map(str::to_owned));
        let mut audiences = self.audiences.lock().unwrap_or_else(PoisonError::into_inner);
        if audiences.len() < AUDIENCES_MAX {
            audiences.insert(group);
        }
    }

    /// A fresh answer to the same words takes the place of the old one.
    fn replace(&self, partition: &[u8; 32], vector: &[f32], name: Name, now_ms: u64) {
        for found in self.index.search(partition, vector, CANDIDATES, now_ms) {
            if found.value.name == name {
                self.index.remove(found.id);
            }
        }
    }
}
