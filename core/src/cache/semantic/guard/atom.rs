//! What the guard keeps of one word: eight bytes.

/// What a word does in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Carries the meaning: nouns, verbs, whatever no list knows.
    Content,
    /// Articles, pronouns, auxiliaries, politeness: never compared.
    Function,
    /// A quantity; the hash is of its value in its unit's base unit.
    Number,
    /// One of a closed set (a country, a month, a unit); the tag is the set.
    Term,
    /// One side of an opposition; the tag is `pair * 2 + side`.
    Pole,
    /// Turns the meaning around.
    Negation,
    /// Joins two arguments whose order matters (`to`, `than`, `比`).
    Arrow,
    /// Joins two arguments whose order does not matter (`and`, `vs`, `和`).
    Joint,
    /// Asks for something; the tag is what for.
    Question,
}

/// The word stands between quotation marks.
pub(super) const QUOTED: u8 = 1;
/// The word is code: an identifier, a path, a URL.
pub(super) const CODE: u8 = 2;
/// The word is written like a name.
pub(super) const NAME: u8 = 4;
/// The word is the first of its sentence, so that its capital says nothing.
pub(super) const FIRST: u8 = 8;
/// A number spelled in letters (`two`, `五`).
pub(super) const SPELLED: u8 = 16;
/// A Han character or a word made of them.
pub(super) const HAN: u8 = 32;
/// Two to five capital letters: perhaps the initials of several words.
pub(super) const ACRONYM: u8 = 64;

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Atom {
    /// FNV-1a of the normalised word; synonyms share one.
    pub(super) hash: u32,
    pub(super) kind: Kind,
    pub(super) tag: u8,
    pub(super) flags: u8,
    /// The first letter in lower case if it is ASCII, else 0.
    pub(super) initial: u8,
}

impl Atom {
    pub(super) const fn is(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it may stand as an argument: it names something.
    pub(super) const fn is_argument(self) -> bool {
        matches!(self.kind, Kind::Content | Kind::Number | Kind::Term | Kind::Pole)
    }
}

/// FNV-1a (Fowler, Noll, Vo), 32 bits.
pub(super) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
