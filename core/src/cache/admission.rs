//! Which answers are worth a place: a cache whose answers are pushed out before they could be asked
//! for again only costs work. Idea: the doorkeeper of TinyLFU (Einziger, Friedman and Manes,
//! "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 2017).
//!
//! While a set has room, or gives up answers that had their time, everything is stored. When storing
//! would push out a live answer younger than [`RETENTION_MS`], only what is asked a second time is:
//! a stream of questions that nobody repeats then leaves the repeated ones in place.

/// Age, in milliseconds, from which a live answer may give way to any other.
pub const RETENTION_MS: u64 = 60_000;

/// Questions one [`Doorkeeper`] remembers; it takes four bytes for each.
const TAGS: usize = 8192;

/// Remembers which questions were turned away, each until another takes its place.
#[derive(Debug)]
pub struct Doorkeeper {
    tags: Box<[u32]>,
}

impl Default for Doorkeeper {
    fn default() -> Self {
        Self { tags: vec![0; TAGS].into() }
    }
}

impl Doorkeeper {
    /// Whether the question of `tag`, a hash of it, was here before; from now on it was.
    pub fn knows(&mut self, tag: u64) -> bool {
        let (place, mark) = (tag as usize % TAGS, (tag >> 32) as u32);
        self.tags.get_mut(place).is_some_and(|tag| std::mem::replace(tag, mark) == mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_is_known_and_a_stream_of_strangers_is_not() {
        let mut door = Doorkeeper::default();
        let tag = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!(!door.knows(tag(0)));
        assert!(door.knows(tag(0)));
        let strangers = (1..100_000).filter(|i| door.knows(tag(*i))).count();
        assert_eq!(strangers, 0);
        assert!(!door.knows(tag(0)), "memory is bounded: a hundred thousand others took its place");
    }
}
