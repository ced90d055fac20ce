//! Prompts one after the other through a cache that begins empty: what is served, and how much of it
//! is wrong.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use tidegate::l2::index::{Index, Limits, Worth};
use tidegate_core::cache::semantic::guard::{Features, compare};
use tidegate_core::cache::semantic::{Audit, Candidate, Decision, ErrorBound, Evidence, Record, Verifier};

use super::adversarial::Dice;
use super::data::{self, Labelled, Pair};
use super::encoder::{Encoder, cosine};
use crate::error::BenchError;

/// Prompts of a stream at least.
const PROMPTS_MIN: usize = 10_000;
/// Neighbours that are weighed.
const NEIGHBOURS: usize = 8;
/// Share of hits that are audited.
const AUDIT_SHARE: f64 = 0.05;
/// Thresholds that are tried for the same error, in thousandths; the last lets only the same words pass.
const THRESHOLDS: std::ops::RangeInclusive<u16> = 600..=1000;
/// What rounding takes off the cosine of a text and itself.
const ROUNDING: f32 = 1e-5;

/// One stored prompt.
struct Stored {
    number: usize,
    class: u32,
    /// What the cache knows of classes: answers that were found equal share a number.
    answer: u64,
}

/// A prompt of the stream.
struct Prompt {
    text: String,
    vector: Arc<[f32]>,
    features: Features,
    class: u32,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    hits: u64,
    wrong: u64,
    prompts: usize,
}

impl Outcome {
    fn hit_rate(self) -> f64 {
        self.hits as f64 / self.prompts.max(1) as f64
    }

    fn error(self) -> f64 {
        self.wrong as f64 / self.hits.max(1) as f64
    }

    fn row(self, rule: &str) -> String {
        let interval = Audit { checked: self.hits, wrong: self.wrong }.error();
        let (low, high) = interval.map_or((0.0, 1.0), |interval| (interval.low, interval.high));
        format!(
            "| {rule} | {:.1} % | {:.2} % | {:.2} to {:.2} % |\n",
            self.hit_rate() * 100.0,
            self.error() * 100.0,
            low * 100.0,
            high * 100.0
        )
    }
}

pub(crate) async fn report(title: &str, rows: &[Labelled], encoder: &Encoder) -> Result<String, BenchError> {
    eprintln!("semantic: {title}");
    let mut rows = rows.to_vec();
    shuffle(&mut rows, &mut Dice(5));
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let (vectors, _) = encoder.embed(&texts).await?;
    let prompt = |(row, vector): (&Labelled, Arc<[f32]>)| Prompt {
        text: row.text.clone(),
        vector,
        features: Features::of(&row.text),
        class: row.class,
    };
    let prompts: Vec<Prompt> = rows.iter().zip(vectors).map(prompt).collect();
    let mut text = format!(
        "\n### {title}\n\n{} prompts, {}, cache empty at the start, {AUDIT_SHARE} of hits audited.\n\n\
         | rule | hit rate | wrong among hits | 95 % confidence |\n|---|---|---|---|\n",
        prompts.len(),
        encoder.name()
    );
    for bound in [0.02, 0.01] {
        let Some(bound) = ErrorBound::new(bound) else {
            continue;
        };
        let verified = verified(&prompts, bound);
        text += &verified.row(&format!("`verified`, bound {}", bound.share()));
        let (threshold, fixed) = equal_error(&prompts, verified.error());
        text += &fixed.row(&format!("threshold {threshold:.3}, the lowest with no more errors"));
    }
    let _ = write!(text, "{}", fixed(&prompts, 0.85).row("threshold 0.85"));
    Ok(text)
}

fn shuffle<T>(list: &mut [T], dice: &mut Dice) {
    for i in (1..list.len()).rev() {
        list.swap(i, dice.below(i + 1));
    }
}

/// A stream of at least [`PROMPTS_MIN`] from pairs, without what nobody has judged: of two texts of
/// different classes that lie within `near` of each other one is left out, unless their pair is
/// labelled. Texts come back as they are, as questions do.
pub(crate) async fn judged(
    pairs: &[Pair],
    near: f32,
    encoder: &Encoder,
) -> Result<(Vec<Labelled>, usize), BenchError> {
    let mut rows = data::closure(pairs);
    let all = rows.len();
    let mut dice = Dice(11);
    shuffle(&mut rows, &mut dice);
    let unlike: HashSet<[&str; 2]> = pairs
        .iter()
        .filter(|pair| pair.label == 0)
        .flat_map(|pair| [[pair.a.as_str(), &pair.b], [pair.b.as_str(), &pair.a]])
        .collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let (vectors, _) = encoder.embed(&texts).await?;
    let mut kept: Vec<usize> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let is_known = |j: &usize| {
            let other = &rows[*j];
            other.class == row.class
                || unlike.contains(&[row.text.as_str(), &other.text])
                || cosine(&vectors[i], &vectors[*j]) < near
        };
        if kept.iter().all(is_known) {
            kept.push(i);
        }
    }
    let again = (0..PROMPTS_MIN.saturating_sub(kept.len())).map(|_| kept[dice.below(kept.len())]);
    let chosen: Vec<usize> = kept.iter().copied().chain(again).collect();
    Ok((chosen.into_iter().map(|i| rows[i].clone()).collect(), all - kept.len()))
}

fn index(prompts: &[Prompt]) -> Index<Stored> {
    let dimension = prompts.first().map_or(1, |prompt| prompt.vector.len());
    Index::new(Limits { dimension, bytes_max: usize::MAX })
}

const WORTH: Worth = Worth { bytes: 0, saves: 1.0, expires_at_ms: u64::MAX };

fn verified(prompts: &[Prompt], bound: ErrorBound) -> Outcome {
    let index = index(prompts);
    let mut verifier = Verifier::new(bound, AUDIT_SHARE);
    let mut records = vec![Record::default(); prompts.len()];
    let mut dice = Dice(9);
    let mut outcome = Outcome { hits: 0, wrong: 0, prompts: prompts.len() };
    for (number, prompt) in prompts.iter().enumerate() {
        let found = index.search(&[0; 32], &prompt.vector, NEIGHBOURS, 0);
        // The same words are served without experience, as they are in the sidecar.
        if let Some(same) = found.iter().find(|found| prompts[found.value.number].text == prompt.text) {
            outcome.hits += 1;
            outcome.wrong += u64::from(same.value.class != prompt.class);
            continue;
        }
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|found| Candidate {
                similarity: found.similarity,
                answer: found.value.answer,
                guard: compare(&prompt.features, &prompts[found.value.number].features),
            })
            .collect();
        let evidence = Evidence::weigh(&candidates).ok();
        if let Some(evidence) = &evidence {
            let chosen = &found[evidence.chosen()].value;
            let record = &mut records[chosen.number];
            let right = chosen.class == prompt.class;
            if let Decision::Serve { audit, .. } = verifier.decide(evidence, record, dice.unit()) {
                outcome.hits += 1;
                outcome.wrong += u64::from(!right);
                if audit {
                    verifier.learn(evidence, record, right);
                }
                continue;
            }
            verifier.learn(evidence, record, right);
        }
        // The fresh answer is compared with those of all neighbours.
        let equal = found.iter().find(|found| found.value.class == prompt.class);
        let answer = equal.map_or(number as u64, |found| found.value.answer);
        let stored = Stored { number, class: prompt.class, answer };
        index.insert([0; 32], &prompt.vector, Arc::new(stored), WORTH, 0);
    }
    outcome
}

/// A fixed threshold without a guard.
fn fixed(prompts: &[Prompt], threshold: f32) -> Outcome {
    let index = index(prompts);
    let mut outcome = Outcome { hits: 0, wrong: 0, prompts: prompts.len() };
    for (number, prompt) in prompts.iter().enumerate() {
        let found = index.search(&[0; 32], &prompt.vector, 1, 0);
        if let Some(nearest) = found.first().filter(|found| found.similarity >= threshold - ROUNDING) {
            outcome.hits += 1;
            outcome.wrong += u64::from(nearest.value.class != prompt.class);
            continue;
        }
        let stored = Stored { number, class: prompt.class, answer: 0 };
        index.insert([0; 32], &prompt.vector, Arc::new(stored), WORTH, 0);
    }
    outcome
}

/// The lowest threshold whose error is no larger, by bisection: errors fall as thresholds rise, near
/// enough.
fn equal_error(prompts: &[Prompt], error: f64) -> (f32, Outcome) {
    let (mut low, mut high) = (*THRESHOLDS.start(), *THRESHOLDS.end());
    let at = |thousandths: u16| fixed(prompts, f32::from(thousandths) / 1000.0);
    while low < high {
        let middle = (low + high) / 2;
        if at(middle).error() <= error {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    (f32::from(low) / 1000.0, at(low))
}
