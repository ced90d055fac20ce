//! Where an error lies: by its words always, and by its meaning when there is a model.

use serde::{Deserialize, Serialize};

use crate::incident::features::{cosine, dense, normalise};

/// What the embedding weighs beside the words.
const EMBEDDING_SHARE: f32 = 0.5;
/// A cluster's centroid moves at least by this share of the way to a new error: of an old cluster
/// the last hundred count, or it could never follow a change of wording.
const STEP_MIN: f32 = 0.01;

/// Two vectors of length 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    /// Hashed words; see [`dense`].
    pub words: Vec<f32>,
    /// The embedding; absent while no model is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
}

impl Vector {
    /// Where `template` lies.
    #[must_use]
    pub fn of(template: &str, embedding: Option<&[f32]>) -> Self {
        Self { words: dense(template), embedding: embedding.map(<[f32]>::to_vec) }
    }

    /// The cosine, by words and embedding in equal parts; by words alone where either has no
    /// embedding or they come from models of different size.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> f32 {
        let words = cosine(&self.words, &other.words);
        match (&self.embedding, &other.embedding) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                (1.0 - EMBEDDING_SHARE) * words + EMBEDDING_SHARE * cosine(a, b)
            }
            _ => words,
        }
    }

    /// Moves towards `point`, which is one of `members`.
    pub fn move_towards(&mut self, point: &Self, members: u64) {
        let step = (1.0 / members.max(1) as f32).max(STEP_MIN);
        step_towards(&mut self.words, &point.words, step);
        match (&mut self.embedding, &point.embedding) {
            (Some(mine), Some(theirs)) if mine.len() == theirs.len() => step_towards(mine, theirs, step),
            (mine, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }
}

fn step_towards(mine: &mut [f32], theirs: &[f32], step: f32) {
    mine.iter_mut().zip(theirs).for_each(|(m, t)| *m += step * (t - *m));
    normalise(mine);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_count_only_where_both_have_one() {
        let a = Vector::of("rate limit reached", Some(&[1.0, 0.0]));
        let b = Vector::of("rate limit reached", Some(&[0.0, 1.0]));
        let plain = Vector::of("rate limit reached", None);
        let other_model = Vector::of("rate limit reached", Some(&[1.0]));
        assert!((a.similarity(&plain) - 1.0).abs() < 1e-4);
        assert!((a.similarity(&other_model) - 1.0).abs() < 1e-4);
        assert!((a.similarity(&b) - 0.5).abs() < 1e-4);
    }

    #[test]
    fn a_centroid_is_the_mean_and_follows_what_comes() {
        let (a, b) = (Vector::of("alpha beta", None), Vector::of("gamma delta", None));
        let mut centroid = a.clone();
        centroid.move_towards(&b, 2);
        assert!((centroid.similarity(&a) - centroid.similarity(&b)).abs() < 1e-3);
        for _ in 0..500 {
            centroid.move_towards(&b, 1_000_000);
        }
        assert!(centroid.similarity(&b) > 0.95);
    }
}
