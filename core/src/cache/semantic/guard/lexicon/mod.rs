//! The word lists as one table: what a word does, whatever language it is in.

mod chinese;
mod english;
mod terms;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::atom::{Kind, fnv};

/// Most characters of a Chinese word in the lists.
pub(super) const HAN_CHARS_MAX: usize = 5;
/// Most words of an English phrase in the lists.
pub(super) const PHRASE_WORDS_MAX: usize = 4;

/// The tag of an arrow that points from its right to its left.
pub(super) const BACKWARDS: u8 = 1;

/// The tag of a joint between alternatives, whose order never matters.
pub(super) const ALTERNATIVE: u8 = 1;

/// Phrases in which a negation denies nothing.
const NEUTRAL_PHRASES: &str = "or_not why_not whether_or_not if_not not_only";

/// Joints between alternatives.
const ALTERNATIVES: &str = "or nor vs versus 还是 或 或者 抑或";

/// What a question asks for; the value is its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ask {
    Why = 1,
    When = 2,
    Where = 4,
    Who = 8,
    Quantity = 16,
    How = 32,
    What = 64,
}

/// What the lists say of a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) tag: u8,
    /// Shared by synonyms.
    pub(super) hash: u32,
}

/// All lists.
pub(super) struct Lexicon {
    words: HashMap<String, Entry>,
    phrase_starts: HashSet<String>,
    symmetric: HashSet<u32>,
    languages: HashMap<&'static str, u8>,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::build);

/// The table, built at its first use.
pub(super) fn lexicon() -> &'static Lexicon {
    &LEXICON
}

impl Lexicon {
    /// What is known of a word in lower case.
    pub(super) fn get(&self, word: &str) -> Option<Entry> {
        self.words.get(word).copied()
    }

    /// Whether a phrase of the lists begins with this word.
    pub(super) fn starts_phrase(&self, word: &str) -> bool {
        self.phrase_starts.contains(word)
    }

    /// The languages of which this Latin function word is typical: a bit for each.
    pub(super) fn languages(&self, word: &str) -> u8 {
        self.languages.get(word).copied().unwrap_or(0)
    }

    fn build() -> Self {
        let mut lists = Self {
            words: HashMap::new(),
            phrase_starts: HashSet::new(),
            symmetric: HashSet::new(),
            languages: HashMap::new(),
        };
        // The first list that has a word decides.
        for (tag, set) in (0_u8..).zip(terms::SETS) {
            for member in set.split_ascii_whitespace() {
                lists.group(Kind::Term, tag, member.split('='), member);
            }
        }
        for asks in [english::ASKS, chinese::ASKS] {
            for (ask, words) in asks {
                lists.each(Kind::Question, *ask as u8, words);
            }
        }
        let sides = english::POLES.iter().chain(chinese::POLES);
        for (pair, (one, other)) in (0_u8..).zip(sides) {
            for (side, words) in [(0, one), (1, other)] {
                lists.group(Kind::Pole, pair * 2 + side, words.split_ascii_whitespace(), words);
            }
        }
        lists.each(Kind::Arrow, BACKWARDS, english::ARROW_BACK);
        lists.each(Kind::Function, 0, NEUTRAL_PHRASES);
        lists.each(Kind::Joint, ALTERNATIVE, ALTERNATIVES);
        for (kind, english, chinese) in [
            (Kind::Negation, english::NEGATION, chinese::NEGATION),
            (Kind::Arrow, english::ARROW, chinese::ARROW),
            (Kind::Joint, english::JOINT, chinese::JOINT),
        ] {
            lists.each(kind, 0, english);
            lists.each(kind, 0, chinese);
        }
        for words in english::SYNONYMS.iter().chain(chinese::SYNONYMS) {
            lists.group(Kind::Content, 0, words.split_ascii_whitespace(), words);
        }
        for words in [english::SYMMETRIC, chinese::SYMMETRIC] {
            lists.symmetric.extend(words.split_ascii_whitespace().map(|word| fnv(word.as_bytes())));
            lists.each(Kind::Content, 0, words);
        }
        for (id, words) in english::LANGUAGES {
            for word in words.split_ascii_whitespace() {
                *lists.languages.entry(word).or_insert(0) |= 1 << id;
            }
        }
        lists.each(Kind::Function, 0, english::FUNCTION);
        lists.each(Kind::Function, 0, chinese::FUNCTION);
        lists
    }

    fn each(&mut self, kind: Kind, tag: u8, words: &str) {
        for word in words.split_ascii_whitespace() {
            let hash = fnv(word.as_bytes());
            self.add(word, Entry { kind, tag, hash });
        }
    }

    fn group<'a>(&mut self, kind: Kind, tag: u8, words: impl Iterator<Item = &'a str>, all: &str) {
        let entry = Entry { kind, tag, hash: fnv(all.as_bytes()) };
        for word in words {
            self.add(word, entry);
        }
    }

    fn add(&mut self, word: &str, entry: Entry) {
        let word = word.replace('_', " ");
        if let Some((start, _)) = word.split_once(' ') {
            self.phrase_starts.insert(start.to_owned());
        }
        self.words.entry(word).or_insert(entry);
    }
}

/// Whether the word of this hash says that the order of arguments does not matter.
pub(super) fn symmetric_hash(hash: u32) -> bool {
    LEXICON.symmetric.contains(&hash)
}
