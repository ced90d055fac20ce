//! What an error means: the evidence for each meaning of the library, added up.
//!
//! Five kinds of evidence, each of which is sometimes missing or wrong: the phrases of a meaning,
//! its codes, its statuses, how near its nearest example is in words, and how near in embedding.
//! `bench --understanding` shows what each is worth.

use std::sync::Arc;

use super::exemplar::{Library, lowered};
use super::features::{cosine, features};
use super::{ErrorKind, StatusClass};

/// What each kind of evidence weighs. Full evidence of the first kinds together is a score above 1,
/// which is shown as 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Phrases.
    pub phrases: f32,
    /// Codes and types.
    pub codes: f32,
    /// The status.
    pub status: f32,
    /// Nearness to an example in words.
    pub words: f32,
    /// Nearness to an example in embedding.
    pub embedding: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { phrases: 0.45, codes: 0.25, status: 0.12, words: 0.6, embedding: 0.4 }
    }
}

/// Below this score the words of an error say nothing, and the status decides alone.
pub const SCORE_MIN: f32 = 0.22;
/// Below this score a caller is not blamed against a status that blames the server.
const BLAME_SCORE_MIN: f32 = 0.35;
/// What one phrase counts, before what it shares with other meanings.
const PHRASE_STRENGTH: f32 = 0.6;
/// Below this cosine an embedding says nothing: unrelated sentences are not at right angles.
const EMBEDDING_FLOOR: f32 = 0.3;
/// Shortest code that counts as one when it stands in the message.
const CODE_IN_WORDS_MIN: usize = 8;

/// The embedding of a template, and those of the library's examples in their order.
pub type Embedded<'a> = (&'a [f32], &'a [Arc<[f32]>]);

/// An error as it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Its HTTP status, if it is known.
    pub status: Option<u16>,
    /// Its codes and types.
    pub codes: &'a [String],
    /// Its masked template.
    pub template: &'a str,
    /// Where it lies, if the model has said so.
    pub embedding: Option<Embedded<'a>>,
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The meaning's index in the library; none when only the status speaks.
    pub meaning: Option<usize>,
    /// Its kind.
    pub kind: ErrorKind,
    /// 0 to 1: the evidence for it.
    pub score: f32,
    /// By how much the evidence for it is more than that for any other meaning.
    pub lead: f32,
}

impl Judgement {
    /// Whether the embedding, if it was not heard, could still change what is meant: it cannot where
    /// the lead is more than all that it weighs.
    #[must_use]
    pub fn needs_embedding(&self, weights: &Weights) -> bool {
        self.meaning.is_none() || self.lead < weights.embedding
    }
}

impl Library {
    /// Weighs the evidence and takes the meaning that has most.
    #[must_use]
    pub fn judge(&self, observed: &Observed<'_>, weights: &Weights) -> Judgement {
        let totals = self.evidence(observed, weights);
        let best = totals.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let others = totals.iter().enumerate().filter(|(index, _)| best.is_some_and(|b| b.0 != *index));
        let next = others.map(|(_, score)| *score).fold(0.0, f32::max);
        let lead = best.map_or(0.0, |(_, score)| score - next);
        let kind_of = |index: usize| self.meanings.get(index).map_or(ErrorKind::Unknown, |m| m.kind);
        let blames_server = StatusClass::of(observed.status) == StatusClass::Server;
        let is_said = |index, score: f32| {
            score >= BLAME_SCORE_MIN
                || score >= SCORE_MIN && !(blames_server && kind_of(index).is_callers_fault())
        };
        match best {
            Some((index, score)) if is_said(index, score) => {
                Judgement { meaning: Some(index), kind: kind_of(index), score: score.min(1.0), lead }
            }
            _ => {
                let kind = Self::kind_of_status(observed.status);
                let score = if kind == ErrorKind::Unknown { 0.0 } else { weights.status };
                Judgement { meaning: None, kind, score, lead }
            }
        }
    }

    /// The evidence for each meaning, in the library's order.
    fn evidence(&self, observed: &Observed<'_>, weights: &Weights) -> Vec<f32> {
        let text = lowered(observed.template);
        let mut totals = vec![0.0; self.meanings.len()];
        let mut add = |weight: f32, found: &[f32]| {
            totals.iter_mut().zip(found).for_each(|(total, evidence)| *total += weight * evidence);
        };
        add(weights.phrases, &self.by_phrases(&text));
        add(weights.codes, &self.by_codes(observed));
        add(weights.status, &self.by_status(observed.status));
        add(weights.words, &self.by_words(&text));
        if let Some((vector, examples)) = observed.embedding {
            add(weights.embedding, &self.by_embedding(vector, examples));
        }
        totals
    }

    fn by_phrases(&self, text: &str) -> Vec<f32> {
        let mut against = vec![1.0_f32; self.meanings.len()];
        for cue in self.phrases.iter().filter(|cue| text.contains(&cue.text)) {
            for (meaning, weight) in &cue.speaks_for {
                if let Some(slot) = against.get_mut(*meaning) {
                    *slot *= 1.0 - PHRASE_STRENGTH * weight;
                }
            }
        }
        against.into_iter().map(|rest| 1.0 - rest).collect()
    }

    fn by_codes(&self, observed: &Observed<'_>) -> Vec<f32> {
        let mut found = vec![0.0_f32; self.meanings.len()];
        let mut hear = |code: &str| {
            for (meaning, weight) in self.codes.get(&code.to_ascii_lowercase()).into_iter().flatten() {
                if let Some(slot) = found.get_mut(*meaning) {
                    *slot = slot.max(*weight);
                }
            }
        };
        observed.codes.iter().for_each(|code| hear(code));
        let in_words = |word: &&str| {
            word.len() >= CODE_IN_WORDS_MIN
                && (word.contains('_') || word.bytes().skip(1).any(|b| b.is_ascii_uppercase()))
        };
        let parts = observed.template.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        parts.filter(in_words).for_each(&mut hear);
        found
    }

    fn by_status(&self, status: Option<u16>) -> Vec<f32> {
        let mut found = vec![0.0_f32; self.meanings.len()];
        for (meaning, weight) in status.and_then(|s| self.statuses.get(&s)).into_iter().flatten() {
            if let Some(slot) = found.get_mut(*meaning) {
                *slot = *weight;
            }
        }
        found
    }

    fn by_words(&self, text: &str) -> Vec<f32> {
        let list = features(text);
        let idf_unseen = ((1.0 + self.examples.len() as f32).ln()) + 1.0;
        let weigh = |(hash, weight): &(u32, f32)| weight * self.idf.get(hash).copied().unwrap_or(idf_unseen);
        let length = list.iter().map(|f| weigh(f).powi(2)).sum::<f32>().sqrt().max(f32::EPSILON);
        let mut cosines = vec![0.0_f32; self.examples.len()];
        for feature in &list {
            let here = weigh(feature) / length;
            for (example, there) in self.postings.get(&feature.0).into_iter().flatten() {
                if let Some(slot) = cosines.get_mut(*example as usize) {
                    *slot += here * there;
                }
            }
        }
        self.nearest(cosines.into_iter())
    }

    fn by_embedding(&self, vector: &[f32], examples: &[Arc<[f32]>]) -> Vec<f32> {
        let scaled =
            |e: &Arc<[f32]>| ((cosine(vector, e) - EMBEDDING_FLOOR) / (1.0 - EMBEDDING_FLOOR)).max(0.0);
        self.nearest(examples.iter().map(scaled))
    }

    /// By meaning, the nearest of its examples.
    fn nearest(&self, cosines: impl Iterator<Item = f32>) -> Vec<f32> {
        let mut found = vec![0.0_f32; self.meanings.len()];
        for (example, near) in self.examples.iter().zip(cosines) {
            if let Some(slot) = found.get_mut(example.meaning) {
                *slot = slot.max(near);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::incident::exemplar::Meaning;

    fn library() -> Library {
        let meaning = |name: &str, kind, code: &str, status, phrase: &str, example: &str| Meaning {
            name: name.to_owned(),
            kind,
            codes: vec![code.to_owned()],
            statuses: vec![status],
            phrases: vec![phrase.to_owned()],
            examples: vec![example.to_owned()],
        };
        Library::new(vec![
            meaning(
                "pace",
                ErrorKind::RateLimited,
                "slow_down",
                429,
                "requests per min",
                "Limit reached on requests per min",
            ),
            meaning(
                "money",
                ErrorKind::Quota,
                "no_credit",
                429,
                "credit balance",
                "Your credit balance is too low",
            ),
        ])
        .unwrap()
    }

    fn kind(status: Option<u16>, codes: &[&str], template: &str) -> (ErrorKind, f32) {
        let codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
        let observed = Observed { status, codes: &codes, template, embedding: None };
        let judgement = library().judge(&observed, &Weights::default());
        (judgement.kind, judgement.score)
    }

    #[test]
    fn each_witness_is_heard() {
        assert_eq!(kind(None, &[], "more than <num> requests per min").0, ErrorKind::RateLimited);
        assert_eq!(kind(None, &["no_credit"], "declined").0, ErrorKind::Quota);
        assert_eq!(kind(None, &[], "no_credit_left: no_credit").0, ErrorKind::Quota);
        assert_eq!(kind(None, &[], "the balance is too low").0, ErrorKind::Quota);
        let embeddings: [Arc<[f32]>; 2] = [Arc::from([1.0, 0.0]), Arc::from([0.0, 1.0])];
        let observed = Observed {
            status: None,
            codes: &[],
            template: "zzz",
            embedding: Some((&[0.0, 1.0], &embeddings)),
        };
        assert_eq!(library().judge(&observed, &Weights::default()).kind, ErrorKind::Quota);
    }

    #[test]
    fn more_evidence_is_a_higher_score_and_none_leaves_the_status() {
        let (_, words) = kind(None, &[], "Your credit balance is too low");
        let (_, all) = kind(Some(429), &["no_credit"], "Your credit balance is too low");
        assert!(all > words && words > 0.5, "{all} {words}");
        assert_eq!(kind(Some(504), &[], "xyzzy").0, ErrorKind::Timeout);
        let whole = Library::new(vec![Meaning {
            name: "shape".to_owned(),
            kind: ErrorKind::InvalidRequest,
            codes: Vec::new(),
            statuses: vec![400],
            phrases: vec!["is null".to_owned()],
            examples: vec!["the field is null".to_owned()],
        }])
        .unwrap();
        let judged = |status| {
            let observed =
                Observed { status: Some(status), codes: &[], template: "foo is null", embedding: None };
            let weights = Weights { words: 0.0, ..Weights::default() };
            whole.judge(&observed, &weights).kind
        };
        assert_eq!(judged(500), ErrorKind::UpstreamBug, "a word or two do not blame the caller for a 500");
        assert_eq!(judged(400), ErrorKind::InvalidRequest);
        assert_eq!(kind(None, &[], "xyzzy"), (ErrorKind::Unknown, 0.0));
    }

    proptest! {
        #[test]
        fn an_embedding_that_is_not_needed_changes_nothing(
            status in prop::option::of(prop::sample::select(vec![400_u16, 429, 503])),
            words in prop::collection::vec(
                prop::sample::select(vec!["credit", "balance", "is", "too", "low", "requests per min", "limit"]), 0..8),
            angle in 0.0_f32..std::f32::consts::TAU,
        ) {
            let (template, weights, library) = (words.join(" "), Weights::default(), library());
            let without = Observed { status, codes: &[], template: &template, embedding: None };
            let first = library.judge(&without, &weights);
            let embeddings: [Arc<[f32]>; 2] = [Arc::from([1.0, 0.0]), Arc::from([0.0, 1.0])];
            let vector = [angle.cos(), angle.sin()];
            let with = Observed { embedding: Some((&vector, &embeddings)), ..without };
            let second = library.judge(&with, &weights);
            if !first.needs_embedding(&weights) {
                prop_assert_eq!((first.meaning, first.kind), (second.meaning, second.kind));
            }
        }

        #[test]
        fn any_error_gets_a_score_of_zero_to_one(status in prop::option::of(0_u16..700), text in "\\PC{0,200}") {
            let (_, score) = kind(status, &[text.as_str()], &text);
            prop_assert!((0.0..=1.0).contains(&score));
        }
    }
}
