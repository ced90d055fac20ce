//! Two prompts, feature by feature; the first difference that matters is the answer.

use super::atom::{ACRONYM, Atom, CODE, HAN, Kind, NAME, QUOTED, SPELLED, fnv};
use super::lexicon::Ask;
use super::{Features, Mismatch, order};

/// Shares of letters in one script, of 255, that make a difference between two prompts.
const SCRIPT_GAP: u8 = 128;
/// Share of the arguments two prompts have in common from which they are one sentence with a
/// change in it, not two sentences: then what only one of them says counts too.
const CLOSE: f64 = 0.7;

/// Characters of the stretch in which two otherwise equal Chinese prompts differ.
const SLOT_WORDS_MIN: usize = 1;
/// The same, at most.
const SLOT_WORDS_MAX: usize = 4;

/// Whether an answer to `a` may answer `b` as far as words can tell. Symmetric.
///
/// # Errors
/// The first difference found.
pub fn compare(a: &Features, b: &Features) -> Result<(), Mismatch> {
    if a.digest == b.digest {
        return Ok(());
    }
    let pair = Pair::new(a, b);
    type Check = fn(&Pair<'_>) -> bool;
    let checks: [(Check, Mismatch); 12] = [
        (|pair| !pair.a.complete || !pair.b.complete, Mismatch::Length),
        (|pair| pair.languages_differ(), Mismatch::Language),
        (|pair| pair.numbers_differ(), Mismatch::Number),
        (|pair| pair.negations_differ(), Mismatch::Negation),
        (|pair| pair.opposed(), Mismatch::Opposite),
        (|pair| pair.terms_differ(), Mismatch::Term),
        (|pair| pair.flagged_differ(CODE), Mismatch::Code),
        (|pair| pair.flagged_differ(QUOTED), Mismatch::Quote),
        (|pair| pair.names_differ() || pair.slot_differs(), Mismatch::Name),
        (|pair| part(pair.a) != part(pair.b), Mismatch::Part),
        (|pair| pair.closeness > 0.99 && order::swapped(pair.a, pair.b), Mismatch::Order),
        (|pair| pair.questions_differ(), Mismatch::Question),
    ];
    match checks.into_iter().find(|(differs, _)| differs(&pair)) {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}

/// Two prompts with what is needed of both more than once.
struct Pair<'a> {
    a: &'a Features,
    b: &'a Features,
    /// Hashes of all words, sorted.
    words_a: Vec<u32>,
    words_b: Vec<u32>,
    /// Share of the arguments in common, numbers left out.
    closeness: f64,
}

impl<'a> Pair<'a> {
    fn new(a: &'a Features, b: &'a Features) -> Self {
        Self {
            a,
            b,
            words_a: sorted(a, |_| true),
            words_b: sorted(b, |_| true),
            closeness: shares(a, b, |_| true),
        }
    }

    fn languages_differ(&self) -> bool {
        let mut scripts = self.a.scripts.iter().zip(&self.b.scripts);
        let (one, other) = (self.a.language, self.b.language);
        scripts.any(|(x, y)| x.abs_diff(*y) > SCRIPT_GAP) || (one != 0 && other != 0 && one != other)
    }

    /// Each prompt has a number of its own; or one has, in digits, in a sentence that is otherwise the
    /// same. An English number in letters (`these two words`) may be left out.
    fn numbers_differ(&self) -> bool {
        let (one, other) = (numbers(self.a), numbers(self.b));
        let in_digits = |numbers: &[Atom]| numbers.iter().any(|atom| !atom.is(SPELLED) || atom.is(HAN));
        match (unmatched(&one, &other), unmatched(&other, &one)) {
            (true, true) => true,
            (false, false) => false,
            (true, false) => in_digits(&one) && self.closeness > 0.99,
            (false, true) => in_digits(&other) && self.closeness > 0.99,
        }
    }

    fn negations_differ(&self) -> bool {
        self.a.negations() % 2 != self.b.negations() % 2 && self.closeness >= CLOSE
    }

    /// Each prompt leans to another side of one opposition.
    fn opposed(&self) -> bool {
        let count = |features: &Features, tag: u8| {
            features.atoms.iter().filter(|atom| atom.kind == Kind::Pole && atom.tag == tag).count()
        };
        let mut tags = self.a.atoms.iter().filter(|atom| atom.kind == Kind::Pole).map(|atom| atom.tag);
        tags.any(|tag| {
            let other = tag ^ 1;
            count(self.a, tag) > count(self.b, tag) && count(self.b, other) > count(self.a, other)
        })
    }

    /// Each prompt names a member of a set that the other does not.
    fn terms_differ(&self) -> bool {
        let alone = |one: &Features, others: &[u32]| -> Vec<u8> {
            let terms = one.atoms.iter().filter(|atom| atom.kind == Kind::Term);
            terms.filter(|term| others.binary_search(&term.hash).is_err()).map(|term| term.tag).collect()
        };
        let (only_a, only_b) = (alone(self.a, &self.words_b), alone(self.b, &self.words_a));
        only_a.iter().any(|set| only_b.contains(set))
    }

    /// Each prompt has a word of this kind that the other has not, or not as often.
    fn flagged_differ(&self, flag: u8) -> bool {
        let alone = |one: &Features, other: &Features, others: &[u32]| {
            let flagged = |atom: &Atom| atom.is(flag) && atom.is_argument() && !abbreviates(*atom, other);
            missing(&sorted(one, flagged), others) > 0
        };
        alone(self.a, self.b, &self.words_b) && alone(self.b, self.a, &self.words_a)
    }

    /// Each has a name of its own; but two sentences in other words that share most of their names may
    /// each have one more.
    fn names_differ(&self) -> bool {
        let names = |features: &Features| sorted(features, |atom| atom.is(NAME) && atom.is_argument());
        let (one, other) = (names(self.a), names(self.b));
        let missing = missing(&one, &self.words_b).max(missing(&other, &self.words_a));
        let shared = one.len().min(other.len()).saturating_sub(missing);
        let is_reworded = || shares(self.a, self.b, |atom| !atom.is(NAME)) < CLOSE;
        self.flagged_differ(NAME) && (shared < missing || shared == 0 || !is_reworded())
    }

    /// A Chinese sentence in which one stretch is filled with other characters.
    fn slot_differs(&self) -> bool {
        let (one, other) = (&self.a.atoms, &self.b.atoms);
        let same = |(x, y): &(&Atom, &Atom)| x.hash == y.hash;
        let prefix = one.iter().zip(other.iter()).take_while(same).count();
        let shorter = one.len().min(other.len());
        let suffix = one.iter().rev().zip(other.iter().rev()).take_while(same).count().min(shorter - prefix);
        let slot = |atoms: &'_ [Atom]| atoms.get(prefix..atoms.len() - suffix).unwrap_or_default().to_vec();
        let (x, y) = (slot(one), slot(other));
        let fits = |slot: &[Atom]| {
            (SLOT_WORDS_MIN..=SLOT_WORDS_MAX).contains(&slot.len())
                && slot.iter().all(|atom| atom.is(HAN) && matches!(atom.kind, Kind::Content | Kind::Term))
        };
        let shared = x.iter().filter(|atom| y.iter().any(|other| other.hash == atom.hash)).count();
        fits(&x) && fits(&y) && shared * 2 < x.len().max(y.len())
    }

    fn questions_differ(&self) -> bool {
        let asked = |features: &Features| {
            let questions = features.atoms.iter().filter(|atom| atom.kind == Kind::Question);
            questions.fold(0_u8, |all, atom| all | atom.tag)
        };
        let specific = [Ask::Why, Ask::When, Ask::Where, Ask::Who, Ask::Quantity];
        let specific = specific.into_iter().fold(0, |all, ask| all | ask as u8);
        let (one, other) = (asked(self.a) & specific, asked(self.b) & specific);
        one != 0 && other != 0 && one & other == 0
    }
}

/// The character of a word that a Chinese prompt asks about: `天道酬勤的道是什么意思`.
fn part(features: &Features) -> Option<u32> {
    let possessive = fnv("的".as_bytes());
    let atoms = &features.atoms;
    atoms.windows(2).enumerate().find_map(|(at, pair)| match pair {
        [of, part] if of.hash == possessive && part.is(HAN) => {
            let is_of_the_word = atoms.iter().take(at).any(|atom| atom.hash == part.hash);
            let ends =
                atoms.get(at + 2).is_none_or(|next| !next.is_argument() || next.hash == fnv("字".as_bytes()));
            (is_of_the_word && ends).then_some(part.hash)
        }
        _ => None,
    })
}

fn sorted(features: &Features, wanted: impl Fn(&Atom) -> bool) -> Vec<u32> {
    let mut hashes: Vec<u32> =
        features.atoms.iter().filter(|atom| wanted(atom)).map(|atom| atom.hash).collect();
    hashes.sort_unstable();
    hashes
}

fn numbers(features: &Features) -> Vec<Atom> {
    features.atoms.iter().copied().filter(|atom| atom.kind == Kind::Number).collect()
}

/// Whether some number of `one` has no equal in `other`. A unit may be left out, but not changed.
fn unmatched(one: &[Atom], other: &[Atom]) -> bool {
    let mut left = other.to_vec();
    one.iter().any(|atom| {
        let same = |o: &Atom| o.hash == atom.hash && (o.tag == atom.tag || o.tag == 0 || atom.tag == 0);
        left.iter().position(same).map(|at| left.swap_remove(at)).is_none()
    })
}

/// How many of `one` are not matched by an equal of `other`; both sorted.
fn missing(one: &[u32], other: &[u32]) -> usize {
    let mut others = other.iter().peekable();
    let mut count = 0;
    for hash in one {
        while others.next_if(|next| *next < hash).is_some() {}
        if others.next_if_eq(&hash).is_none() {
            count += 1;
        }
    }
    count
}

/// Share of these arguments that the two have in common, numbers left out.
fn shares(a: &Features, b: &Features, wanted: impl Fn(&Atom) -> bool) -> f64 {
    let argument = |atom: &Atom| atom.is_argument() && atom.kind != Kind::Number && wanted(atom);
    let (one, other) = (sorted(a, argument), sorted(b, argument));
    let longer = one.len().max(other.len());
    if longer == 0 {
        return 1.0;
    }
    (one.len() - missing(&one, &other)) as f64 / longer as f64
}

/// Whether the initials of words in a row spell this acronym.
fn abbreviates(atom: Atom, other: &Features) -> bool {
    atom.is(ACRONYM)
        && (2..=5).any(|length| {
            other.atoms.windows(length).any(|words| {
                let mut initials = [0; 5];
                initials.iter_mut().zip(words).for_each(|(initial, word)| *initial = word.initial);
                initials.get(..length).is_some_and(|initials| fnv(initials) == atom.hash)
            })
        })
}
