//! Words in letters: look-up, contractions, phrases, names and code.

use super::atom::{ACRONYM, Atom, CODE, FIRST, Kind, NAME, SPELLED, fnv};
use super::lexicon::{PHRASE_WORDS_MAX, lexicon};
use super::quantity::{Quantity, spelled, unit};
use super::read::{Reader, fold};
use super::script::{Script, script};

/// Most characters of a word; the rest begins another one.
const WORD_CHARS_MAX: usize = 100;

/// Whether a word in letters (other than Chinese) begins with this character.
pub(super) fn starts(c: char) -> bool {
    script(c).is_some_and(|script| script != Script::Han)
}

/// Reads the word that begins here.
pub(super) fn read(reader: &mut Reader) {
    let flags = reader.flags();
    if flags & CODE != 0 || code_length(reader).is_some() {
        let length = code_length(reader).unwrap_or(1);
        identifiers(reader, length, flags | CODE);
        return;
    }
    let raw = match initials(reader) {
        Some(letters) => {
            reader.at += letters.len();
            letters
        }
        None => plain_word(reader, reader.at),
    };
    for c in &raw {
        if let Some(script) = script(*c) {
            reader.letters[script as usize] += 1;
        }
    }
    reader.at += raw.len();
    let word = fold(&raw);
    if let Some(base) = word.strip_suffix("n't").map(|base| if base == "ca" { "can" } else { base }) {
        reader.push_word(base, &raw, flags);
        reader.push_word("not", &[], 0);
        return;
    }
    let languages = lexicon().languages(&word);
    for (id, votes) in reader.votes.iter_mut().enumerate() {
        *votes = votes.saturating_add(u16::from(languages >> id & 1));
    }
    let base = word.split('\'').next().unwrap_or_default();
    if base == "cannot" || base == "can" && raw.len() == 3 {
        reader.push_word(base, &raw, flags);
        return;
    }
    if !reader.phrase(base, raw.first().is_some_and(|c| c.is_uppercase()), flags) {
        reader.push_word(base, &raw, flags);
    }
}

/// The letters of an abbreviation with periods: `U.S.`, `p.m.`
fn initials(reader: &Reader) -> Option<Vec<char>> {
    let rest = reader.chars.get(reader.at..).unwrap_or_default();
    let pairs = rest.chunks_exact(2).take_while(|pair| matches!(pair, [c, '.'] if c.is_ascii_alphabetic()));
    let letters: Vec<char> = pairs.filter_map(|pair| pair.first().copied()).collect();
    let ends = rest.get(letters.len() * 2).is_none_or(|c| !c.is_alphanumeric());
    (letters.len() >= 2 && ends).then_some(letters)
}

/// Each identifier of a stretch of code is a word: `datasets.load(path)` has three.
fn identifiers(reader: &mut Reader, length: usize, flags: u8) {
    let part = |c: &char| c.is_alphanumeric() || *c == '_';
    let end = reader.at + length;
    while reader.at < end || reader.peek(0).is_some_and(|c| part(&c)) {
        let rest = reader.chars.get(reader.at..).unwrap_or_default();
        let run = rest.iter().take(WORD_CHARS_MAX).take_while(|c| part(c)).count();
        if run == 0 {
            reader.at += 1;
            continue;
        }
        let text = fold(rest.get(..run).unwrap_or_default());
        reader.at += run;
        let hash = fnv(stem(text.trim_matches('_')).as_bytes());
        reader.push(Atom { hash, kind: Kind::Content, tag: 0, flags, initial: 0 });
    }
}

/// Letters, digits that belong to a name such as `h1`, and apostrophes; `c++` and `c#` too.
fn plain_word(reader: &Reader, from: usize) -> Vec<char> {
    let rest = reader.chars.get(from..).unwrap_or_default();
    let mut word: Vec<char> =
        rest.iter().take(WORD_CHARS_MAX).take_while(|c| starts(**c) || **c == '\'').copied().collect();
    while word.last() == Some(&'\'') && word.len() > 1 {
        word.pop();
    }
    let marks = rest.iter().skip(word.len()).take_while(|c| matches!(c, '+' | '#')).count();
    let spaced = rest.get(word.len() + marks).is_none_or(|c| !c.is_alphanumeric());
    if word.len() == 1 && marks > 0 && spaced {
        word.extend(rest.iter().skip(1).take(marks));
    }
    word
}

/// Length of the identifier, path or URL that begins here, if it is one.
fn code_length(reader: &Reader) -> Option<usize> {
    let rest = reader.chars.get(reader.at..).unwrap_or_default();
    let body = |c: &char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '.' | ':' | '/' | '@' | '~' | '$' | '?' | '=' | '&' | '%' | '-' | '(' | ')')
    };
    let length = rest.iter().take(WORD_CHARS_MAX * 2).take_while(|c| body(c)).count();
    let word = rest.get(..length).unwrap_or_default();
    let end = word.iter().rposition(|c| c.is_ascii_alphanumeric() || *c == '_').map_or(0, |at| at + 1);
    let word = word.get(..end).unwrap_or_default();
    let joined = |mark: char| {
        word.windows(3).any(|w| matches!(w, [a, m, b] if *m == mark && a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric()))
    };
    let address = word.windows(3).any(|w| matches!(w, [':', '/', '/'])) || joined('@');
    let path =
        word.contains(&'_') || word.windows(2).any(|w| w == [':', ':']) || (joined('.') && word.len() > 5);
    let camel = word.iter().all(char::is_ascii_alphanumeric)
        && word
            .windows(2)
            .filter(|w| matches!(w, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
            .count()
            >= 2;
    (address || path || camel).then_some(end)
}

impl Reader {
    /// A phrase of the lists that begins with this word.
    fn phrase(&mut self, first: &str, capital: bool, flags: u8) -> bool {
        if !lexicon().starts_phrase(first) {
            return false;
        }
        let (mut text, mut at) = (first.to_owned(), self.at);
        let mut found = None;
        for _ in 1..PHRASE_WORDS_MAX {
            if self.chars.get(at) != Some(&' ') {
                break;
            }
            let next = plain_word(self, at + 1);
            if next.is_empty() {
                break;
            }
            at += 1 + next.len();
            text.push(' ');
            text.push_str(&fold(&next));
            if let Some(entry) = lexicon().get(&text) {
                found = Some((entry, at));
            }
        }
        let Some((entry, end)) = found else {
            return false;
        };
        self.at = end;
        let name = if capital && flags & FIRST == 0 && entry.kind == Kind::Term { NAME } else { 0 };
        self.push_entry(entry, 0, flags | name);
        true
    }

    /// One word in lower case; `raw` is how it was written.
    fn push_word(&mut self, word: &str, raw: &[char], flags: u8) {
        if self.grow(word) {
            return;
        }
        let capital = raw.first().is_some_and(|c| c.is_uppercase());
        let inner_capital = raw.iter().skip(1).any(|c| c.is_uppercase());
        let initial = word.bytes().next().filter(u8::is_ascii_lowercase).unwrap_or(0);
        if let Some(value) = spelled(word) {
            self.push_number(Quantity::plain(value), flags | SPELLED);
            return;
        }
        if word == "one" && self.unit_follows() {
            self.push_number(Quantity::plain(1.0), flags | SPELLED);
            return;
        }
        let name = if (capital && flags & FIRST == 0) || inner_capital { NAME } else { 0 };
        let key = match word {
            // `No, …` and `Yes, …` are answered by what follows.
            "no" if flags & FIRST != 0 && self.peek(0) == Some(',') => "well",
            // `US` is a country, `us` is not; `May` and `March` in mid-sentence are months.
            "us" if inner_capital => "usa",
            "may" if name != 0 => "may month",
            "march" if name != 0 => "march month",
            "second" => "second ordinal",
            other => other,
        };
        let singular = key.strip_suffix('s').filter(|base| base.len() > 3);
        let plural =
            || singular.and_then(|base| lexicon().get(base)).filter(|entry| entry.kind == Kind::Term);
        if let Some(entry) = lexicon().get(key).or_else(plural) {
            let keep = if matches!(entry.kind, Kind::Content | Kind::Term) { name } else { 0 };
            self.push_entry(entry, initial, flags | keep);
            return;
        }
        let short = (2..=5).contains(&raw.len()) && raw.iter().all(char::is_ascii_uppercase);
        let (flags, hash) = if short {
            (flags | name | ACRONYM, fnv(word.as_bytes()))
        } else {
            (flags | name, fnv(undoubled(stem(word)).as_bytes()))
        };
        self.push(Atom { hash, kind: Kind::Content, tag: 0, flags, initial });
    }

    /// `INR 25000` is `25000 INR`: the number takes the currency that stands before it.
    pub(super) fn currency_before(&mut self) {
        let Some([before, _]) = self.atoms.last_chunk::<2>().copied() else {
            return;
        };
        let Some(name) = currency_of(before.hash) else {
            return;
        };
        if self.grow(name)
            && let Some(number) = self.atoms.pop()
        {
            self.atoms.pop();
            self.atoms.push(number);
        }
    }

    fn unit_follows(&self) -> bool {
        let next = plain_word(self, self.at + 1);
        matches!(self.peek(0), Some(' ' | '-')) && next.len() > 2 && unit(&fold(&next)).is_some()
    }
}

/// The name of a currency from its hash in the lists.
fn currency_of(hash: u32) -> Option<&'static str> {
    const BEFORE: [&str; 8] = ["usd", "eur", "gbp", "inr", "rs", "rmb", "cny", "hkd"];
    BEFORE.into_iter().find(|name| lexicon().get(name).is_some_and(|entry| entry.hash == hash))
}

/// The word with doubled letters written once: nobody remembers which names have them.
fn undoubled(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

/// The word without the endings of plural and conjugation (the first steps of Porter, 1980).
fn stem(word: &str) -> &str {
    let long = word.len() > 4;
    if let Some(base) = word.strip_suffix("ies").filter(|_| long) {
        return base;
    }
    for ending in ["ing", "ed", "es", "ly", "s", "e", "y"] {
        let ends_so =
            ending != "s" || !(word.ends_with("ss") || word.ends_with("us") || word.ends_with("is"));
        if let Some(base) = word.strip_suffix(ending).filter(|base| base.len() >= 3 && long && ends_so) {
            let doubled = base.as_bytes();
            return match doubled {
                [.., a, b]
                    if a == b && ending != "s" && ending != "e" && base.is_char_boundary(base.len() - 1) =>
                {
                    base.get(..base.len() - 1).unwrap_or(base)
                }
                _ => base,
            };
        }
    }
    word.strip_suffix('s').filter(|base| base.len() >= 3 && !word.ends_with("ss")).unwrap_or(word)
}
