//! Hit rates and errors on pairs of known truth, and what the guard does to near-duplicates.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use tidegate_core::cache::semantic::guard::{Features, compare};

use super::adversarial::{Change, Dice, Names};
use super::data::{self, Pair};
use super::encoder::{Encoder, cosine};
use crate::error::BenchError;

/// Our default threshold.
const OURS: f32 = 0.85;
/// GPTCache's default `similarity_threshold` (its default model cannot be had offline, so the rule is
/// applied to the same vectors).
const GPTCACHE: f32 = 0.8;

/// A pair as the cache sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    similarity: f32,
    passes: bool,
    right: bool,
}

/// Hits and errors of one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    hit_rate: f64,
    error: f64,
}

fn outcome(seen: &[Seen], threshold: f32, guarded: bool) -> Outcome {
    let hits = seen.iter().filter(|pair| pair.similarity >= threshold && (pair.passes || !guarded));
    let (hits, wrong) =
        hits.fold((0.0, 0.0), |(n, wrong), pair| (n + 1.0, wrong + f64::from(u8::from(!pair.right))));
    Outcome { hit_rate: hits / seen.len().max(1) as f64, error: if hits > 0.0 { wrong / hits } else { 0.0 } }
}

/// The guarded threshold that comes nearest to a wish.
fn nearest(seen: &[Seen], distance: impl Fn(&Outcome) -> f64) -> (f32, Outcome) {
    let steps = (0..=500_u16).map(|step| 0.5 + f32::from(step) / 1000.0);
    let all = steps.map(|threshold| (threshold, outcome(seen, threshold, true)));
    let best = all.min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
    best.unwrap_or((1.0, Outcome { hit_rate: 0.0, error: 0.0 }))
}

pub(crate) async fn report(title: &str, path: &Path, encoder: &Encoder) -> Result<String, BenchError> {
    eprintln!("semantic: {title}");
    let pairs = data::pairs(path)?;
    let vectors = |texts: Vec<String>| async move {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        encoder.embed(&texts).await
    };
    let (a, _) = vectors(pairs.iter().map(|pair| pair.a.clone()).collect()).await?;
    let (b, rate) = vectors(pairs.iter().map(|pair| pair.b.clone()).collect()).await?;
    let look = |(i, pair): (usize, &Pair)| Seen {
        similarity: cosine(&a[i], &b[i]),
        passes: compare(&Features::of(&pair.a), &Features::of(&pair.b)).is_ok(),
        right: pair.label == 1,
    };
    let seen: Vec<Seen> = pairs.iter().enumerate().map(look).collect();
    let mut text =
        format!("\n### {title}\n\n{} pairs, {}, {rate:.0} texts/s.\n", pairs.len(), encoder.name());
    text += &table(&seen);
    text += &format!("\nReading and comparing a pair takes {:.1} us.\n", guard_us(&pairs));
    let changed = changes(&pairs);
    let (old, _) = vectors(changed.iter().map(|(_, pair)| pair.a.clone()).collect()).await?;
    let (new, _) = vectors(changed.iter().map(|(_, pair)| pair.b.clone()).collect()).await?;
    let similarity: Vec<f32> = old.iter().zip(&new).map(|(a, b)| cosine(a, b)).collect();
    text += &near_duplicates(&changed, &similarity, &seen);
    Ok(text)
}

fn table(seen: &[Seen]) -> String {
    let theirs = outcome(seen, GPTCACHE, false);
    let (equal_error, at_error) = nearest(seen, |o| {
        let over = if o.error > theirs.error { 1e3 } else { 0.0 };
        over - o.hit_rate
    });
    let (equal_rate, at_rate) = nearest(seen, |o| (o.hit_rate - theirs.hit_rate).abs());
    let mut text = String::from("\n| rule | threshold | hit rate | wrong among hits |\n|---|---|---|---|\n");
    for (rule, threshold, outcome) in [
        ("GPTCache's default", GPTCACHE, theirs),
        ("threshold alone", OURS, outcome(seen, OURS, false)),
        ("Tidegate, `static`", OURS, outcome(seen, OURS, true)),
        ("Tidegate at GPTCache's error", equal_error, at_error),
        ("Tidegate at GPTCache's hit rate", equal_rate, at_rate),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {rule} | {threshold:.3} | {:.1} % | {:.2} % |",
            outcome.hit_rate * 100.0,
            outcome.error * 100.0
        );
    }
    text
}

fn guard_us(pairs: &[Pair]) -> f64 {
    let started = Instant::now();
    let passed = pairs.iter().filter(|pair| compare(&Features::of(&pair.a), &Features::of(&pair.b)).is_ok());
    let passed = std::hint::black_box(passed.count());
    debug_assert!(passed <= pairs.len());
    started.elapsed().as_secs_f64() * 1e6 / pairs.len().max(1) as f64
}

fn changes(pairs: &[Pair]) -> Vec<(Change, Pair)> {
    let names = Names::of(pairs.iter().map(|pair| pair.a.as_str()));
    let mut dice = Dice(7);
    let mut changed = Vec::new();
    for pair in pairs {
        for change in Change::ALL {
            if let Some(b) = change.apply(&pair.a, &names, &mut dice) {
                changed.push((change, Pair { a: pair.a.clone(), b, label: 0 }));
            }
        }
    }
    changed
}

fn near_duplicates(changed: &[(Change, Pair)], similarity: &[f32], seen: &[Seen]) -> String {
    let mut text = format!(
        "\nNear-duplicates made by rule, that a threshold of {OURS} alone would serve:\n\n\
         | changed | false hits | with the guard | fewer |\n|---|---|---|---|\n"
    );
    let over: Vec<&(Change, Pair)> =
        changed.iter().zip(similarity).filter(|(_, s)| **s >= OURS).map(|(change, _)| change).collect();
    let passes = |pair: &Pair| compare(&Features::of(&pair.a), &Features::of(&pair.b)).is_ok();
    let mut row = |title: &str, chosen: &dyn Fn(&Change) -> bool| {
        let hits: Vec<_> = over.iter().filter(|(change, _)| chosen(change)).collect();
        let left = hits.iter().filter(|(_, pair)| passes(pair)).count();
        let fewer = 100.0 * (1.0 - left as f64 / hits.len().max(1) as f64);
        let _ = writeln!(text, "| {title} | {} | {left} | {fewer:.1} % |", hits.len());
    };
    for change in Change::ALL {
        row(change.title(), &|other| *other == change);
    }
    row("all", &|_| true);
    let mut loss = |name: &str, half: &dyn Fn(usize) -> bool| {
        let pairs =
            seen.iter().enumerate().filter(|(i, pair)| half(*i) && pair.right && pair.similarity >= OURS);
        let (hits, lost) =
            pairs.fold((0, 0), |(n, lost), (_, pair)| (n + 1, lost + usize::from(!pair.passes)));
        let share = 100.0 * lost as f64 / hits.max(1) as f64;
        let _ = writeln!(text, "\nTrue hits the guard gives up, {name}: {lost} of {hits}, {share:.2} %.");
    };
    loss("first half of the set", &|i| i < seen.len() / 2);
    loss("second half", &|i| i >= seen.len() / 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_all_pairs_and_errors_of_hits() {
        let pair = |similarity, passes, right| Seen { similarity, passes, right };
        let seen =
            [pair(0.9, true, true), pair(0.95, false, false), pair(0.86, true, false), pair(0.5, true, true)];
        assert_eq!(outcome(&seen, 0.85, true), Outcome { hit_rate: 0.5, error: 0.5 });
        assert_eq!(outcome(&seen, 0.85, false).hit_rate, 0.75);
        let (threshold, best) = nearest(&seen, |o| o.error * 10.0 - o.hit_rate);
        assert!(threshold > 0.86 && threshold <= 0.9 && best.error == 0.0, "{threshold} {best:?}");
    }
}
