//! What speaks for serving a stored answer, as numbers.

use super::decision::Reason;
use super::guard::Mismatch;

/// Numbers a lookup is judged by.
pub(super) const FEATURES: usize = 5;
/// Keeps the odds of a unanimous vote finite.
const VOTE_FLOOR: f32 = 0.01;
/// Least distance from a cosine of 1 that is told apart.
const DISTANCE_FLOOR: f32 = 1e-3;

/// A stored prompt near the one asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Cosine of the two prompts.
    pub similarity: f32,
    /// Which answer it has: prompts whose answers were found equal share one number.
    pub answer: u64,
    /// What the guard says of the two prompts.
    pub guard: Result<(), Mismatch>,
}

/// The candidate to serve, and what speaks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    chosen: usize,
    similarity: f32,
    pub(super) features: [f64; FEATURES],
}

impl Evidence {
    /// Weighs candidates, the nearest first. The first that the guard lets pass is chosen; the others
    /// speak for it if they have the same answer, and against it if they have another or the guard
    /// forbids them.
    ///
    /// # Errors
    /// [`Reason::Empty`] without candidates, [`Reason::Guard`] if the guard forbids all.
    pub fn weigh(candidates: &[Candidate]) -> Result<Self, Reason> {
        let nearest = candidates.first().ok_or(Reason::Empty)?;
        let passing = candidates.iter().enumerate().find(|(_, candidate)| candidate.guard.is_ok());
        let Some((chosen, best)) = passing else {
            return Err(nearest.guard.err().map_or(Reason::Empty, Reason::Guard));
        };
        let same = |other: &&Candidate| other.guard.is_ok() && other.answer == best.answer;
        let distance = |similarity: f32| (1.0 - similarity).max(DISTANCE_FLOOR);
        let rival = candidates.iter().filter(|other| !same(other)).map(|other| other.similarity);
        let lead = distance(rival.fold(0.0, f32::max)) / distance(best.similarity);
        // Inverse squares of distances: models differ in how far apart they put things.
        let say = |other: &Candidate| (distance(best.similarity) / distance(other.similarity)).powi(2);
        let all: f32 = candidates.iter().map(say).sum();
        let vote = candidates.iter().filter(same).map(say).sum::<f32>() / all;
        let features = [
            1.0,
            -distance(best.similarity).ln(),
            ((vote + VOTE_FLOOR) / (1.0 - vote + VOTE_FLOOR)).ln(),
            lead.ln(),
            best.similarity,
        ];
        Ok(Self { chosen, similarity: best.similarity, features: features.map(f64::from) })
    }

    /// Place of the chosen candidate in the list that was weighed.
    #[must_use]
    pub const fn chosen(&self) -> usize {
        self.chosen
    }

    /// Cosine of the chosen candidate.
    #[must_use]
    pub const fn similarity(&self) -> f32 {
        self.similarity
    }
}
