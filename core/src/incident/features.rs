//! A text as weighted features: words, pairs of words, and pieces of words, each hashed.
//!
//! Pieces of words make "rate-limited" and "rate limit" alike, and give languages without spaces
//! something to compare. Hashing instead of a vocabulary is Weinberger et al., "Feature Hashing
//! for Large Scale Multitask Learning" (ICML 2009).

/// Numbers in a [`dense`] vector.
pub const DIMENSION: usize = 384;
/// Most features taken of one text.
const FEATURES_MAX: usize = 1024;
/// Length of the pieces of words, in characters.
const PIECE_CHARS: usize = 4;
/// What a piece of a word counts beside a whole one.
const PIECE_WEIGHT: f32 = 0.4;

/// Features of `text` with their weights, ordered by hash, each once.
#[must_use]
pub fn features(text: &str) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = Vec::new();
    let mut before: Option<u32> = None;
    for word in words(text) {
        let this = hash(b"w", word.as_bytes());
        all.push((this, 1.0));
        if let Some(before) = before {
            all.push((before.rotate_left(7) ^ this, 1.0));
        }
        before = Some(this);
        pieces(&word, &mut all);
        if all.len() >= FEATURES_MAX {
            break;
        }
    }
    all.sort_unstable_by_key(|(hash, _)| *hash);
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    // A word that is said three times does not mean it three times as much.
    all.iter_mut().for_each(|(_, count)| *count = count.sqrt());
    all
}

/// The same as a vector of [`DIMENSION`] numbers and length 1; all zero for a text without words.
#[must_use]
pub fn dense(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0_f32; DIMENSION];
    for (hash, weight) in features(text) {
        let sign = if hash & 0x8000_0000 == 0 { 1.0 } else { -1.0 };
        if let Some(slot) = vector.get_mut(hash as usize % DIMENSION) {
            *slot += sign * weight;
        }
    }
    normalise(&mut vector);
    vector
}

/// Scales `vector` to length 1, unless it is all zero.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > f32::EPSILON {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

/// The inner product: the cosine, of vectors of length 1. Of vectors of different lengths it is 0.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() == b.len() { a.iter().zip(b).map(|(x, y)| x * y).sum() } else { 0.0 }
}

/// Words in lower case; `rate_limit` and `RateLimit` are two each, and each character of a
/// language without spaces is one.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        let mut word = String::new();
        let mut lower_before = false;
        while let Some(c) = chars.peek().copied() {
            let wide = c as u32 >= 0x2e80;
            let ends = !c.is_alphanumeric() || wide || (c.is_uppercase() && lower_before);
            if ends && !word.is_empty() {
                break;
            }
            chars.next();
            if wide && c.is_alphanumeric() {
                return Some(c.to_string());
            }
            if c.is_alphanumeric() {
                lower_before = c.is_lowercase();
                word.extend(c.to_lowercase());
            }
        }
        (!word.is_empty()).then_some(word)
    })
}

fn pieces(word: &str, all: &mut Vec<(u32, f32)>) {
    let ends: Vec<usize> = word.char_indices().map(|(at, _)| at).chain([word.len()]).collect();
    if ends.len() <= PIECE_CHARS + 1 {
        return;
    }
    for window in ends.windows(PIECE_CHARS + 1) {
        if let (Some(from), Some(to)) = (window.first(), window.last())
            && let Some(piece) = word.get(*from..*to)
        {
            all.push((hash(b"p", piece.as_bytes()), PIECE_WEIGHT));
        }
    }
}

/// FNV-1a, 32 bits, with its bits mixed at the end.
fn hash(salt: &[u8], bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in salt.iter().chain(bytes) {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^ (hash >> 13)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_those_of_names_too() {
        let list = |text| words(text).collect::<Vec<_>>();
        assert_eq!(list("rate_limit RateLimitError"), ["rate", "limit", "rate", "limit", "error"]);
        assert_eq!(list("余额 HTTP不足"), ["余", "额", "http", "不", "足"]);
        assert!(list(" ,.!").is_empty());
    }

    #[test]
    fn what_is_alike_lies_near() {
        let near = cosine(&dense("rate limit reached for <model>"), &dense("You reached the rate limit"));
        let far = cosine(&dense("rate limit reached for <model>"), &dense("certificate verify failed"));
        assert!(near > far + 0.3, "{near} {far}");
    }

    proptest! {
        #[test]
        fn vectors_have_length_one_or_none(text in "\\PC{0,200}") {
            let vector = dense(&text);
            let length = cosine(&vector, &vector);
            prop_assert!((length - 1.0).abs() < 1e-4 || length == 0.0);
        }
    }
}
