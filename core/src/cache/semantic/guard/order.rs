//! The order of arguments: `from A to B` against `from B to A`, `A eats B` against `B eats A`.

use super::Features;
use super::atom::{Atom, Kind};
use super::lexicon::{ALTERNATIVE, BACKWARDS, symmetric_hash};

/// Most words of an argument on either side of an arrow.
const ARGUMENT_WORDS_MAX: usize = 4;

/// Whether one prompt has the arguments of the other in the opposite order.
pub(super) fn swapped(a: &Features, b: &Features) -> bool {
    arrows_turned(a, b) || blocks_exchanged(a, b)
}

/// Where each arrow comes from and where it goes.
fn sides(features: &Features) -> impl Iterator<Item = (Vec<u32>, Vec<u32>)> + '_ {
    let atoms = &features.atoms;
    let arrows = atoms.iter().enumerate().filter(|(_, atom)| atom.kind == Kind::Arrow);
    arrows.map(move |(at, arrow)| {
        let before = argument(atoms.get(..at).unwrap_or_default().iter().rev());
        let after = argument(atoms.get(at + 1..).unwrap_or_default().iter());
        // `to Y from X` is `from X to Y`.
        if arrow.tag == BACKWARDS { (after, before) } else { (before, after) }
    })
}

fn argument<'a>(words: impl Iterator<Item = &'a Atom>) -> Vec<u32> {
    words
        .take_while(|atom| atom.kind != Kind::Arrow)
        .filter(|atom| atom.is_argument())
        .take(ARGUMENT_WORDS_MAX)
        .map(|atom| atom.hash)
        .collect()
}

fn arrows_turned(a: &Features, b: &Features) -> bool {
    sides(a).any(|(left, right)| {
        sides(b).any(|(other_left, other_right)| {
            let moves = |from: &[u32], here: &[u32], there: &[u32], back: &[u32]| {
                from.iter().any(|word| !here.contains(word) && there.contains(word) && !back.contains(word))
            };
            moves(&left, &right, &other_right, &other_left) && moves(&right, &left, &other_left, &other_right)
        })
    })
}

/// Both prompts are the same but for two stretches of words that changed places.
fn blocks_exchanged(a: &Features, b: &Features) -> bool {
    if a.atoms.len() != b.atoms.len() || symmetric(a) {
        return false;
    }
    let same = |(x, y): &(&Atom, &Atom)| x.hash == y.hash;
    let prefix = a.atoms.iter().zip(&b.atoms).take_while(same).count();
    let suffix = a.atoms.iter().rev().zip(b.atoms.iter().rev()).take_while(same).count();
    if prefix + suffix >= a.atoms.len() {
        return false;
    }
    let end = a.atoms.len() - suffix;
    let (Some(one), Some(other)) = (a.atoms.get(prefix..end), b.atoms.get(prefix..end)) else {
        return false;
    };
    exchange(one, other)
}

/// Whether `one` is X M Y and `other` is Y M X, with arguments in X and in Y.
fn exchange(one: &[Atom], other: &[Atom]) -> bool {
    let same = |x: &[Atom], y: &[Atom]| x.iter().map(|w| w.hash).eq(y.iter().map(|w| w.hash));
    let has_argument = |words: &[Atom]| words.iter().any(|word| word.is_argument());
    let length = one.len();
    (1..length.min(ARGUMENT_WORDS_MAX + 1)).any(|x| {
        (1..=(length - x).min(ARGUMENT_WORDS_MAX)).any(|y| {
            let (Some((front, rest)), Some((new_front, new_rest))) =
                (one.split_at_checked(x), other.split_at_checked(y))
            else {
                return false;
            };
            let (Some((middle, back)), Some((new_middle, new_back))) =
                (rest.split_at_checked(length - x - y), new_rest.split_at_checked(length - x - y))
            else {
                return false;
            };
            // Neighbours that changed places (`red big`, `a lot really`) say the same, and so do
            // alternatives (`tea or coffee`).
            !middle.is_empty()
                && middle.iter().all(|word| word.kind != Kind::Joint || word.tag != ALTERNATIVE)
                && same(front, new_back)
                && same(back, new_front)
                && same(middle, new_middle)
                && has_argument(front)
                && has_argument(back)
        })
    })
}

/// Asks for a difference, a comparison or the like: the order says nothing.
fn symmetric(features: &Features) -> bool {
    features.atoms.iter().any(|atom| atom.kind == Kind::Content && symmetric_hash(atom.hash))
}
