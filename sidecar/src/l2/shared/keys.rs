//! The names of things in Redis.
//!
//! `tidegate:cache:{cNN}:a:<name>` is an answer, `tidegate:cache:{cNN}:v:<space>:<name>` its prompt's
//! vector under one embedding model, and `tidegate:cache:{cNN}:n:<space>:<partition>` the index of a
//! partition, where the index lies in Redis. The part in braces decides the slot in a cluster: an answer and
//! its vectors lie together, and all of them in 64 groups. The two streams lie together in one slot.

use std::fmt;

use super::super::entry::Name;
use super::super::index::PartitionKey;
use crate::keys::random::hex;

/// Groups of keys that share a slot of a cluster.
pub const GROUPS: u8 = 64;
/// What was stored and learned, in this order.
pub const LOG: &str = "tidegate:cache:{log}:changes";
/// What was taken out.
pub const REMOVALS: &str = "tidegate:cache:{log}:removals";

/// The vectors of one model: the first 8 bytes of [`crate::embedding::ModelInfo::digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space(pub [u8; 8]);

impl Space {
    /// The space of a model.
    #[must_use]
    pub const fn of(digest: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *digest;
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The group of a name.
#[must_use]
pub const fn group(name: Name) -> u8 {
    let [first, ..] = *name.bytes();
    first % GROUPS
}

/// The key of the vectors of a partition.
#[must_use]
pub fn partition(space: Space, partition: &PartitionKey) -> String {
    let [first, ..] = *partition;
    format!("tidegate:cache:{{c{:02x}}}:n:{space}:{}", first % GROUPS, hex(partition))
}

/// The key of an answer.
#[must_use]
pub fn answer(name: Name) -> String {
    format!("tidegate:cache:{{c{:02x}}}:a:{name}", group(name))
}

/// The key of a vector.
#[must_use]
pub fn vector(space: Space, name: Name) -> String {
    format!("tidegate:cache:{{c{:02x}}}:v:{space}:{name}", group(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_its_vectors_share_a_slot_but_models_share_nothing() {
        let name = Name::of(&[0xc5; 32]);
        let tag =
            |key: &str| key.split('{').nth(1).and_then(|rest| rest.split('}').next()).map(str::to_owned);
        let (one, other) = (Space::of(&[1; 32]), Space::of(&[2; 32]));
        assert_eq!(tag(&answer(name)), tag(&vector(one, name)));
        assert_eq!(answer(name), format!("tidegate:cache:{{c05}}:a:{}", "c5".repeat(16)));
        assert_ne!(vector(one, name), vector(other, name));
        assert_eq!(tag(LOG), tag(REMOVALS));
    }
}
