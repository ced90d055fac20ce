//! Finds the template that several masked messages share, online: values that masking cannot know
//! for values (a user's name, a component) become wildcards where messages differ.
//!
//! The method is Drain's (He et al., "Drain: An Online Log Parsing Approach with Fixed Depth
//! Tree", ICWS 2017): messages are told apart by their number of words and their first words,
//! then compared word by word. Masking does most of its work beforehand.

use std::collections::HashMap;

/// What stands where messages of one template differ.
pub const WILDCARD: &str = "<*>";
/// Most templates that are remembered; beyond, the ones not seen for longest are forgotten.
pub const GROUPS_MAX: usize = 4096;
/// Most templates that one message is compared with.
const GROUPS_PER_LEAF_MAX: usize = 128;
/// Share of the words that must agree.
const SIMILARITY_MIN: f32 = 0.66;
/// Most words of a template; more are one.
const WORDS_MAX: usize = 64;

/// A template and when it was seen last.
#[derive(Debug, Clone)]
struct Group {
    words: Vec<String>,
    seen: u64,
}

/// The templates seen so far.
#[derive(Debug, Default)]
pub struct Miner {
    groups: HashMap<u32, Group>,
    leaves: HashMap<(usize, String), Vec<u32>>,
    next: u32,
    clock: u64,
}

impl Miner {
    /// The number of the template of `masked`, which is learnt. Numbers are not used again.
    pub fn learn(&mut self, masked: &str) -> u32 {
        self.clock += 1;
        let words: Vec<&str> = masked.split_whitespace().take(WORDS_MAX).collect();
        let leaf = (words.len(), lead(&words));
        if let Some(id) = self.nearest(&leaf, &words) {
            let clock = self.clock;
            if let Some(group) = self.groups.get_mut(&id) {
                group.seen = clock;
                generalise(&mut group.words, &words);
            }
            return id;
        }
        self.make_room(&leaf);
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let words = words.into_iter().map(str::to_owned).collect();
        self.groups.insert(id, Group { words, seen: self.clock });
        self.leaves.entry(leaf).or_default().push(id);
        id
    }

    /// The template that `masked` has, without learning it; itself if it is new.
    #[must_use]
    pub fn look_up(&self, masked: &str) -> String {
        let words: Vec<&str> = masked.split_whitespace().take(WORDS_MAX).collect();
        let leaf = (words.len(), lead(&words));
        self.nearest(&leaf, &words).and_then(|id| self.template(id)).unwrap_or_else(|| masked.to_owned())
    }

    /// The template of that number, as it is now.
    #[must_use]
    pub fn template(&self, id: u32) -> Option<String> {
        self.groups.get(&id).map(|group| group.words.join(" "))
    }

    fn nearest(&self, leaf: &(usize, String), words: &[&str]) -> Option<u32> {
        let near = |id: &u32| self.groups.get(id).map(|group| (similarity(&group.words, words), *id));
        let list = self.leaves.get(leaf)?;
        let best = list.iter().filter_map(near).max_by(|a, b| a.0.total_cmp(&b.0))?;
        (best.0 >= SIMILARITY_MIN).then_some(best.1)
    }

    fn make_room(&mut self, leaf: &(usize, String)) {
        let full = self.leaves.get(leaf).is_some_and(|list| list.len() >= GROUPS_PER_LEAF_MAX);
        let oldest = |ids: &mut dyn Iterator<Item = u32>| {
            ids.min_by_key(|id| self.groups.get(id).map_or(0, |group| group.seen))
        };
        let gone = if full {
            oldest(&mut self.leaves.get(leaf).into_iter().flatten().copied())
        } else if self.groups.len() >= GROUPS_MAX {
            oldest(&mut self.groups.keys().copied())
        } else {
            None
        };
        if let Some(id) = gone {
            self.groups.remove(&id);
            self.leaves.retain(|_, list| {
                list.retain(|kept| *kept != id);
                !list.is_empty()
            });
        }
    }
}

/// The first word that is a word: messages that begin differently are different.
fn lead(words: &[&str]) -> String {
    words.first().filter(|word| !is_value(word)).map_or_else(String::new, |word| (*word).to_owned())
}

/// Whether `word` is a placeholder, with whatever punctuation clings to it: `uid=<num>` says `uid`.
fn is_value(word: &str) -> bool {
    let Some((before, rest)) = word.split_once('<') else { return false };
    let after = rest.rsplit_once('>').map_or("", |(_, after)| after);
    !before.contains(char::is_alphabetic) && !after.contains(char::is_alphabetic)
}

/// The share of words that agree, of two lists of one length. Placeholders agree with each other,
/// but say less than a word does.
fn similarity(template: &[String], words: &[&str]) -> f32 {
    let agree = |(a, b): (&String, &&str)| match (a == b, is_value(a)) {
        (true, false) => 1.0,
        (true, true) => 0.6,
        (false, true) => 0.3,
        (false, false) => 0.0,
    };
    let most = |word: &String| if is_value(word) { 0.6 } else { 1.0 };
    let total: f32 = template.iter().map(most).sum();
    let sum: f32 = template.iter().zip(words).map(agree).sum();
    if total > 0.0 { sum / total } else { 1.0 }
}

fn generalise(template: &mut [String], words: &[&str]) {
    for (word, new) in template.iter_mut().zip(words) {
        if word != new && word != WILDCARD {
            WILDCARD.clone_into(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_that_differ_become_wildcards_and_stay_so() {
        let mut miner = Miner::default();
        let id = miner.learn("cannot mount the volume of alice");
        assert_eq!(miner.learn("cannot mount the volume of bob"), id);
        assert_eq!(miner.template(id).as_deref(), Some("cannot mount the volume of <*>"));
        assert_eq!(miner.look_up("cannot mount the volume of carol"), "cannot mount the volume of <*>");
    }

    #[test]
    fn what_is_told_apart_by_length_beginning_or_most_of_its_words_is_not_one() {
        let mut miner = Miner::default();
        let ids = [
            "connection reset by peer",
            "connection reset by the peer",
            "session reset by peer",
            "connection of <num> failed",
        ]
        .map(|line| miner.learn(line));
        let mut distinct = ids.to_vec();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(miner.look_up("never seen before"), "never seen before");
    }

    proptest! {
        #[test]
        fn templates_are_bounded_and_a_line_has_the_length_of_its_own(
            lines in prop::collection::vec("[ab<]{1,3}( [a-d]{1,2}){0,4}", 1..200)
        ) {
            let mut miner = Miner::default();
            for line in &lines {
                let id = miner.learn(line);
                let template = miner.template(id).unwrap();
                prop_assert_eq!(template.split(' ').count(), line.split(' ').count());
            }
            prop_assert!(miner.groups.len() <= GROUPS_MAX);
            prop_assert!(miner.leaves.values().all(|list| list.len() <= GROUPS_PER_LEAF_MAX));
        }
    }

    #[test]
    fn the_oldest_gives_way_where_there_are_too_many() {
        let mut miner = Miner::default();
        let unlike = |n: usize| format!("{} {} {}", "x".repeat(n + 1), "y".repeat(n + 1), "z".repeat(n + 1));
        // One leaf: lines that begin with a value.
        let first = miner.learn(&format!("<num> {}", unlike(0)));
        for n in 1..=GROUPS_PER_LEAF_MAX {
            miner.learn(&format!("<num> {}", unlike(n)));
        }
        assert_eq!(miner.template(first), None);
        assert_eq!(miner.groups.len(), GROUPS_PER_LEAF_MAX);
    }
}
