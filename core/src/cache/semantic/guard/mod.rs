//! The lexical guard: what two prompts must agree on, however near their vectors are.
//!
//! An embedding puts `in 30 s` and `in 300 s`, `A to B` and `B to A`, `is` and `is not` at cosines
//! of .98. The guard reads both prompts as words and looks for what a vector does not see. It knows
//! English and Chinese, costs microseconds, and errs on the side of asking the model again.

mod atom;
mod compare;
mod lexicon;
mod number;
mod order;
mod quantity;
mod read;
mod script;
mod words;

#[cfg(test)]
mod tests;

use atom::{Atom, FIRST, Kind, NAME, fnv};
use read::Reader;
use script::SCRIPTS;

pub use compare::compare;

/// Most words that are read of a prompt. A longer one matches only itself.
pub const WORDS_MAX: usize = 1024;

/// Words from which a prompt in capitals is a heading rather than a few names.
const HEADING_WORDS_MIN: usize = 4;

/// Why two prompts may not share an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// Longer than [`WORDS_MAX`] words, and not the same text.
    Length,
    /// Written in different scripts or languages.
    Language,
    /// Different numbers, amounts, units, dates, times or versions.
    Number,
    /// Different quoted words.
    Quote,
    /// Different identifiers, paths or addresses.
    Code,
    /// One says what the other denies.
    Negation,
    /// Opposite words: more and less, enable and disable.
    Opposite,
    /// Different members of one set: two countries, two colours, two units.
    Term,
    /// Different names.
    Name,
    /// One asks about a part of the word that the other asks about.
    Part,
    /// The same arguments in another order.
    Order,
    /// Another kind of question: why and when.
    Question,
}

impl Mismatch {
    /// The word for it in headers, answers and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Language => "language",
            Self::Number => "number",
            Self::Quote => "quote",
            Self::Code => "code",
            Self::Negation => "negation",
            Self::Opposite => "opposite",
            Self::Term => "term",
            Self::Name => "name",
            Self::Part => "part",
            Self::Order => "order",
            Self::Question => "question",
        }
    }
}

/// What the guard keeps of a prompt: 12 bytes a word and 32 besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    digest: u64,
    atoms: Box<[Atom]>,
    /// Letters by script, in shares of 255.
    scripts: [u8; SCRIPTS],
    /// The language in Latin letters, if its small words gave it away; 0 if not.
    language: u8,
    complete: bool,
}

impl Features {
    /// Reads a prompt.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let mut reader = Reader::new(text);
        let complete = reader.run(WORDS_MAX);
        if written_in_capitals(&reader.atoms) {
            reader.atoms.iter_mut().for_each(|atom| atom.flags &= !NAME);
        }
        let letters: u32 = reader.letters.iter().sum::<u32>().max(1);
        let share = |count: u32| u8::try_from(u64::from(count) * 255 / u64::from(letters)).unwrap_or(u8::MAX);
        Self {
            digest: digest(text),
            scripts: reader.letters.map(share),
            language: reader.language(),
            atoms: reader.atoms.into_boxed_slice(),
            complete,
        }
    }

    /// Memory of this value, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.atoms.len() * size_of::<Atom>()
    }

    fn negations(&self) -> usize {
        self.atoms.iter().filter(|atom| atom.kind == Kind::Negation).count()
    }
}

/// Most words of a heading begin with a capital: then capitals say nothing.
fn written_in_capitals(atoms: &[Atom]) -> bool {
    let inner = atoms.iter().filter(|atom| !atom.is(FIRST) && atom.kind == Kind::Content);
    let (names, words) =
        inner.fold((0, 0), |(names, words), atom| (names + usize::from(atom.is(NAME)), words + 1));
    words >= HEADING_WORDS_MIN && names * 4 > words * 3
}

/// FNV-1a over both halves of the text: equal for equal texts.
fn digest(text: &str) -> u64 {
    let wide = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    wide ^ (u64::from(fnv(text.as_bytes())) << 32)
}
