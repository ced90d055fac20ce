//! A caller's request as work for the model.

use std::hash::{BuildHasher, RandomState};

use super::prompt::Prompt;

/// One generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What to answer.
    pub prompt: Prompt,
    /// How to choose tokens.
    pub sampler: Sampler,
    /// Texts that end the answer; none is empty.
    pub stops: Vec<String>,
    /// Most tokens to generate, at least 1.
    pub tokens_max: usize,
    /// Whether the caller wants events.
    pub stream: bool,
    /// Whether the caller wants a last event with the usage.
    pub include_usage: bool,
}

/// How tokens are chosen; the ranges are OpenAI's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// 0 to 2; 0 takes the likeliest token always.
    pub temperature: f64,
    /// 0 to 1.
    pub top_p: f64,
    /// The same seed gives the same answer.
    pub seed: u64,
    /// -2 to 2, subtracted once from each token that has occurred.
    pub presence_penalty: f32,
    /// -2 to 2, subtracted from each token as often as it has occurred.
    pub frequency_penalty: f32,
}

impl Sampler {
    /// Whether it matters what was generated so far.
    #[must_use]
    pub fn has_penalties(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Applies the penalties for the tokens `seen`.
    pub fn penalise(&self, seen: &[u32], logits: &mut [f32]) {
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        let mut before = None;
        for id in seen {
            let first = before != Some(id);
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit -= self.frequency_penalty + if first { self.presence_penalty } else { 0.0 };
            }
            before = Some(id);
        }
    }
}

/// A number that differs from call to call; for ids and seeds, not for secrets.
pub fn any_number() -> u64 {
    RandomState::new().hash_one(std::time::Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_occurrences() {
        let mut sampler =
            Sampler { temperature: 0.0, top_p: 1.0, seed: 0, presence_penalty: 1.0, frequency_penalty: 0.5 };
        let mut logits = [0.0; 3];
        sampler.penalise(&[2, 1, 2, 9], &mut logits);
        assert!(logits.iter().zip([0.0, -1.5, -2.0]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6));
        assert!(sampler.has_penalties());
        (sampler.presence_penalty, sampler.frequency_penalty) = (0.0, 0.0);
        assert!(!sampler.has_penalties());
    }
}
