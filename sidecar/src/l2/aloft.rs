//! Questions whose answers are on their way, found by meaning: who asks nearly the same at the same
//! time shares the call of the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_core::cache::semantic::guard::{Features, compare};

use super::flight::Reader;
use super::{Asked, Mode, SemanticCache};

/// Most questions of one partition that are looked through.
const PARTITION_MAX: usize = 64;
/// Most partitions with questions on their way; beyond it only equal questions share.
const PARTITIONS_MAX: usize = 4096;

type Digest = [u8; 32];

#[derive(Debug)]
struct Question {
    number: u64,
    identity: Digest,
    /// Whether events are wanted, and usage among them.
    delivery: (bool, bool),
    vector: Arc<[f32]>,
    features: Features,
}

#[derive(Debug, Default)]
struct Table {
    partitions: HashMap<Digest, Vec<Question>>,
    next: u64,
}

/// The questions on their way.
#[derive(Debug, Default)]
pub struct Aloft {
    table: Arc<Mutex<Table>>,
}

/// Keeps a question among them until it is dropped.
#[derive(Debug)]
pub struct Entered {
    table: Arc<Mutex<Table>>,
    partition: Digest,
    number: u64,
}

impl Aloft {
    /// Adds a question; `None` without its vector, or if there are too many.
    #[must_use]
    pub fn enter(&self, asked: &Asked) -> Option<Entered> {
        let vector = asked.vector.as_ref()?.vector.clone();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = table.partitions.len() >= PARTITIONS_MAX;
        if is_full && !table.partitions.contains_key(&asked.partition) {
            return None;
        }
        let number = table.next;
        let questions = table.partitions.entry(asked.partition).or_default();
        if questions.len() >= PARTITION_MAX {
            return None;
        }
        let (identity, delivery, features) = (asked.identity, delivery(asked), asked.features.clone());
        questions.push(Question { number, identity, delivery, vector, features });
        table.next += 1;
        Some(Entered { table: self.table.clone(), partition: asked.partition, number })
    }

    /// The nearest question whose answer would be served for this one: its identity, and the cosine.
    #[must_use]
    pub fn nearest(&self, asked: &Asked) -> Option<(Digest, f32)> {
        let vector = &asked.vector.as_ref()?.vector;
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let questions = table.partitions.get(&asked.partition)?.iter();
        questions
            .filter(|other| other.delivery == delivery(asked) && other.identity != asked.identity)
            .map(|other| (other, other.vector.iter().zip(vector.iter()).map(|(x, y)| x * y).sum::<f32>()))
            .filter(|(_, similarity)| *similarity >= asked.terms.threshold)
            .filter(|(other, _)| compare(&other.features, &asked.features).is_ok())
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(other, similarity)| (other.identity, similarity))
    }
}

impl SemanticCache {
    /// An answer on its way that would be served for this question, and the cosine of the two. Not in
    /// the mode `verified`: nothing is known yet of an answer that is not there.
    #[must_use]
    pub fn on_its_way(&self, asked: &Asked) -> Option<(Reader, f32)> {
        let (identity, similarity) =
            self.aloft.nearest(asked).filter(|_| self.settings.mode == Mode::Static)?;
        Some((self.flights.follow(&identity)?, similarity))
    }

    /// Lets others find this question while its answer is on its way.
    #[must_use]
    pub fn announce(&self, asked: &Asked) -> Option<Entered> {
        self.aloft.enter(asked)
    }
}

const fn delivery(asked: &Asked) -> (bool, bool) {
    (asked.question.stream, asked.question.include_usage)
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(questions) = table.partitions.get_mut(&self.partition) {
            questions.retain(|question| question.number != self.number);
            if questions.is_empty() {
                table.partitions.remove(&self.partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::cache::control::RequestControl;
    use tidegate_core::route::Protocol;
    use tidegate_core::wire::Identity;

    use super::*;
    use crate::config::{self, Env};
    use crate::embedding::Embedding;
    use crate::l2::Request;

    fn asked(tenant: &str, prompt: &str, stream: bool, vector: [f32; 2]) -> Asked {
        let settings = config::parse("cache: {l2: {enabled: true}}", &Env::new()).expect("valid").l2;
        let body = format!(
            r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
        );
        let request = Request {
            identity: &Identity::anonymous(tenant),
            path: "/v1/chat/completions",
            pin: "",
            protocol: Protocol::OpenAi,
            control: RequestControl::FREE,
            body: body.as_bytes(),
        };
        let mut asked = Asked::new(&settings, request).expect("a chat");
        asked.vector = Some(Embedding { vector: Arc::from(vector), tokens: 1 });
        asked
    }

    #[test]
    fn only_what_would_be_served_is_shared_and_only_while_it_is_on_its_way() {
        let aloft = Aloft::default();
        let first = asked("t", "wait 30 seconds now", false, [1.0, 0.0]);
        let entered = aloft.enter(&first).expect("room");
        let near = |tenant, prompt, stream, vector| aloft.nearest(&asked(tenant, prompt, stream, vector));
        let found = near("t", "wait 30 s now", false, [0.9, 0.1]).expect("near");
        assert_eq!(found, (first.identity, 0.9));
        for (tenant, prompt, stream, vector) in [
            ("u", "wait 30 s now", false, [1.0, 0.0]),
            ("t", "wait 300 seconds now", false, [1.0, 0.0]),
            ("t", "wait 30 s now", true, [1.0, 0.0]),
            ("t", "wait 30 s now", false, [0.8, 0.6]),
            ("t", "wait 30 seconds now", false, [1.0, 0.0]),
        ] {
            assert_eq!(near(tenant, prompt, stream, vector), None, "{tenant} {prompt} {stream} {vector:?}");
        }
        drop(entered);
        assert_eq!(near("t", "wait 30 s now", false, [1.0, 0.0]), None);
        assert!(aloft.table.lock().expect("lock").partitions.is_empty());
    }

    #[test]
    fn a_partition_holds_so_many() {
        let aloft = Aloft::default();
        let question = asked("t", "the same", false, [1.0, 0.0]);
        let entered: Vec<_> = (0..PARTITION_MAX + 5).filter_map(|_| aloft.enter(&question)).collect();
        assert_eq!(entered.len(), PARTITION_MAX);
        let unknown = Asked { vector: None, ..question };
        assert!(aloft.enter(&unknown).is_none() && aloft.nearest(&unknown).is_none());
    }
}
