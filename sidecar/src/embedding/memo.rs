//! Vectors of texts that came before. Error templates and repeated prompts are most of what is
//! embedded, so remembering them saves most of the work.
//!
//! Two generations: what is found in the old one moves to the young; when the young one has half
//! the bound, it becomes the old one and the old one goes. That keeps what was used recently,
//! like LRU, at the cost of a hash map and without a list.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Embedding;

/// 128 bits of SHA-256: no text is kept, and nobody can make two texts meet.
type Key = [u8; 16];

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Embedding>,
    old: HashMap<Key, Embedding>,
}

/// A bounded memory of embeddings.
#[derive(Debug)]
pub struct Memo {
    half: usize,
    generations: Mutex<Generations>,
}

/// The key of a text.
#[must_use]
pub fn key(text: &str) -> Key {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut key = Key::default();
    key.copy_from_slice(&digest[..16]);
    key
}

impl Memo {
    /// Remembers at most `entries`.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self { half: entries / 2, generations: Mutex::default() }
    }

    /// What is remembered under `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Embedding> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.young.get(key) {
            return Some(found.clone());
        }
        let found = generations.old.remove(key)?;
        generations.keep(*key, found.clone(), self.half);
        Some(found)
    }

    /// Remembers an embedding.
    pub fn put(&self, key: Key, embedding: Embedding) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.keep(key, embedding, self.half);
    }
}

impl Generations {
    fn keep(&mut self, key: Key, embedding: Embedding, half: usize) {
        if half == 0 {
            return;
        }
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, embedding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(x: f32) -> Embedding {
        Embedding { vector: vec![x].into(), tokens: 1 }
    }

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let memo = Memo::new(8);
        memo.put(key("hot"), embedding(1.0));
        for i in 0..1000_u16 {
            memo.put(key(&i.to_string()), embedding(0.0));
            assert_eq!(memo.get(&key("hot")).map(|e| e.vector[0]), Some(1.0), "{i}");
            let generations = memo.generations.lock().expect("lock");
            assert!(generations.young.len() + generations.old.len() <= 8);
        }
        assert!(memo.get(&key("1")).is_none());
    }

    #[test]
    fn a_memo_of_nothing_remembers_nothing() {
        let memo = Memo::new(0);
        memo.put(key("a"), embedding(1.0));
        assert!(memo.get(&key("a")).is_none());
    }
}
