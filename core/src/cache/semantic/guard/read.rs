//! From text to words: one pass over the characters.

use super::atom::{Atom, CODE, FIRST, HAN, Kind, NAME, QUOTED, SPELLED, fnv};
use super::lexicon::{Entry, HAN_CHARS_MAX, lexicon};
use super::number;
use super::quantity::{Quantity, spelled, unit};
use super::script::{SCRIPTS, Script, plain, script, unaccented};
use super::words;

/// What one pass collects.
pub(super) struct Reader {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    pub(super) atoms: Vec<Atom>,
    pub(super) letters: [u32; SCRIPTS],
    /// The quantity of the last atom, while it may still grow.
    pub(super) open: Option<Quantity>,
    sentence_start: bool,
    quote: Option<(char, usize)>,
    pub(super) votes: [u16; LANGUAGES + 1],
}

/// How many languages in Latin letters are told apart.
const LANGUAGES: usize = 6;
/// Most characters between two quotation marks; further apart they are no pair.
const QUOTED_CHARS_MAX: usize = 200;

impl Reader {
    pub(super) fn new(text: &str) -> Self {
        Self {
            chars: text.chars().map(plain).collect(),
            at: 0,
            atoms: Vec::new(),
            letters: [0; SCRIPTS],
            open: None,
            sentence_start: true,
            quote: None,
            votes: [0; LANGUAGES + 1],
        }
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Reads everything, up to `atoms_max` words; whether the text ended before.
    pub(super) fn run(&mut self, atoms_max: usize) -> bool {
        while let Some(c) = self.peek(0) {
            if self.atoms.len() >= atoms_max {
                return false;
            }
            self.step(c);
        }
        true
    }

    fn step(&mut self, c: char) {
        if let Some((_, end)) = self.quote.filter(|(_, end)| self.at >= *end) {
            self.quote = None;
            if self.at == end {
                // The closing mark opens nothing.
                self.at += 1;
                return;
            }
        }
        if number::starts(self) {
            number::read(self);
        } else if words::starts(c) {
            words::read(self);
        } else if script(c) == Some(Script::Han) {
            self.han();
        } else {
            self.mark(c);
        }
    }

    /// The language in Latin letters whose small words are most frequent, if any stands out.
    pub(super) fn language(&self) -> u8 {
        let best = (1..=LANGUAGES).max_by_key(|id| self.votes.get(*id).copied().unwrap_or(0)).unwrap_or(0);
        let votes = |id: usize| self.votes.get(id).copied().unwrap_or(0);
        let second = (1..=LANGUAGES).filter(|id| *id != best).map(votes).max().unwrap_or(0);
        if votes(best) >= 2 && votes(best) > second { u8::try_from(best).unwrap_or(0) } else { 0 }
    }

    /// Punctuation, symbols and blanks.
    fn mark(&mut self, c: char) {
        self.at += 1;
        match c {
            ' ' | '\t' => {}
            '-' if self.peek(0) != Some('>') => {}
            '.' | '?' | '!' | '\n' | ':' | ';' | '\r' => {
                self.open = None;
                self.sentence_start = true;
            }
            '"' | '“' | '”' | '「' | '『' | '《' | '〈' | '【' | '\'' | '`' => self.open_quote(c),
            _ if c.is_ascii_punctuation() || c == '、' => self.symbol(c),
            _ if u32::from(c) >= 0x2190
                && !c.is_alphanumeric()
                && !('\u{3000}'..='\u{303f}').contains(&c) =>
            {
                // Emoji and other pictures are words of their own.
                self.push(Atom { hash: fnv_char(c), kind: Kind::Content, tag: 0, flags: NAME, initial: 0 });
            }
            _ => self.open = None,
        }
    }

    fn symbol(&mut self, c: char) {
        let mut text = String::from(c);
        if matches!(c, '-' | '=') && self.peek(0) == Some('>') {
            self.at += 1;
            text.push('>');
        }
        self.open = None;
        if let Some(entry) = lexicon().get(&text) {
            self.push_entry(entry, 0, 0);
        }
    }

    fn open_quote(&mut self, c: char) {
        let close = match c {
            '「' => '」',
            '『' => '』',
            '《' => '》',
            '〈' => '〉',
            '【' => '】',
            '“' => '”',
            other => other,
        };
        let before = self.at.checked_sub(2).and_then(|at| self.chars.get(at));
        if c == '\'' && before.is_some_and(|b| b.is_alphanumeric()) {
            return;
        }
        if self.quote.is_some() {
            return;
        }
        let rest = self.chars.get(self.at..).unwrap_or_default();
        if let Some(length) = rest.iter().take(QUOTED_CHARS_MAX).position(|other| *other == close) {
            self.quote = Some((close, self.at + length));
        }
    }

    /// Flags of a word that begins here.
    pub(super) fn flags(&mut self) -> u8 {
        let first = if self.sentence_start { FIRST } else { 0 };
        self.sentence_start = false;
        let quoted = match self.quote {
            Some(('`', _)) => CODE,
            Some(_) => QUOTED,
            None => 0,
        };
        first | quoted
    }

    pub(super) fn push(&mut self, atom: Atom) {
        self.open = None;
        self.atoms.push(atom);
    }

    pub(super) fn push_entry(&mut self, entry: Entry, initial: u8, flags: u8) {
        self.push(Atom { hash: entry.hash, kind: entry.kind, tag: entry.tag, flags, initial });
    }

    pub(super) fn push_number(&mut self, quantity: Quantity, flags: u8) {
        self.push(Atom {
            hash: quantity.hash(),
            kind: Kind::Number,
            tag: quantity.dimension(),
            flags,
            initial: 0,
        });
        self.open = Some(quantity);
    }

    /// Lets the last number take the unit, or the next part, that follows it.
    pub(super) fn grow(&mut self, word: &str) -> bool {
        let (Some(quantity), Some(last)) = (self.open, self.atoms.last_mut()) else {
            return false;
        };
        let numeral =
            if last.is(SPELLED) { spelled(word).and_then(|next| quantity.then(next)) } else { None };
        let grown = numeral.or_else(|| unit(word).and_then(|unit| quantity.with(unit)));
        let Some(grown) = grown else {
            return false;
        };
        last.hash = grown.hash();
        last.tag = grown.dimension();
        self.open = Some(grown);
        true
    }

    /// A Chinese word: the longest of the lists that fits here, else one character.
    fn han(&mut self) {
        let Some(c) = self.peek(0) else {
            return;
        };
        let flags = self.flags() | HAN;
        self.letters[Script::Han as usize] += 1;
        if self.open.is_some() && self.han_unit() {
            return;
        }
        let rest = self.chars.get(self.at..).unwrap_or_default();
        let mut word = String::with_capacity(16);
        let mut found = None;
        for (index, c) in rest.iter().take(HAN_CHARS_MAX).enumerate() {
            word.push(*c);
            if let Some(entry) = lexicon().get(&word) {
                found = Some((index + 1, entry));
            }
        }
        if found.is_none_or(|(length, _)| length < 2) && number::read_han(self, flags) {
            return;
        }
        let (length, entry) =
            found.unwrap_or_else(|| (1, Entry { kind: Kind::Content, tag: 0, hash: fnv_char(c) }));
        self.at += length;
        let asks =
            entry.kind == Kind::Negation && length == 1 && !self.atoms.is_empty() && self.sentence_ends();
        let entry = if asks { Entry { kind: Kind::Function, ..entry } } else { entry };
        self.letters[Script::Han as usize] += u32::try_from(length - 1).unwrap_or(0);
        self.push_entry(entry, 0, flags);
    }

    /// A Chinese negation at the end (`有人买过没`) only asks.
    fn sentence_ends(&self) -> bool {
        self.peek(0).is_none_or(|c| matches!(c, '?' | '.' | ',' | '!' | ' ' | '呢' | '啊' | '呀'))
    }

    fn han_unit(&mut self) -> bool {
        let rest: String = self.chars.get(self.at..).unwrap_or_default().iter().take(3).collect();
        for length in (1..=3).rev() {
            let Some((end, _)) = rest.char_indices().nth(length).or(Some((rest.len(), ' '))) else {
                continue;
            };
            let word = rest.get(..end).unwrap_or_default();
            if word.chars().count() == length && self.grow(word) {
                self.at += length;
                return true;
            }
        }
        // A year, a month or a day of the month says nothing that the number does not.
        if matches!(rest.chars().next(), Some('年' | '月' | '号' | '日' | '季' | '集' | '章')) {
            self.at += 1;
            self.open = None;
            return true;
        }
        false
    }
}

fn fnv_char(c: char) -> u32 {
    fnv(c.encode_utf8(&mut [0; 4]).as_bytes())
}

/// Lower case, without accents.
pub(super) fn fold(word: &[char]) -> String {
    word.iter().flat_map(|c| c.to_lowercase()).map(unaccented).collect()
}
