//! Speed and recall of the vector index.

use std::sync::Arc;
use std::time::Instant;

use tidegate::l2::index::{Index, Limits, Worth};

use super::adversarial::Dice;
use super::encoder::{Encoder, cosine};
use crate::error::BenchError;

/// Searches that are timed.
const QUERIES: usize = 500;
/// Difference of cosines that counts as none: what 16 bits leave.
const TIE: f32 = 2e-4;

/// Fills an index with real texts, and with such of which some words were exchanged, and asks for texts
/// of which other words were.
pub(crate) async fn report(
    texts: &[String],
    entries: usize,
    encoder: &Encoder,
) -> Result<String, BenchError> {
    eprintln!("semantic: index of {entries}");
    let mut dice = Dice(3);
    let mut stored = texts.to_vec();
    while stored.len() < entries {
        stored.push(reworded(&texts[dice.below(texts.len())], texts, &mut dice));
    }
    let asked: Vec<String> =
        (0..QUERIES).map(|_| reworded(&stored[dice.below(stored.len())], texts, &mut dice)).collect();
    let (vectors, rate) = encoder.embed(&stored.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let (queries, _) = encoder.embed(&asked.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let dimension = vectors.first().map_or(1, |vector| vector.len());
    let index = Index::new(Limits { dimension, bytes_max: usize::MAX });
    for vector in &vectors {
        let worth = Worth { bytes: 0, saves: 1.0, expires_at_ms: u64::MAX };
        index.insert([0; 32], vector, Arc::new(()), worth, 0);
    }
    let (mut times, mut right) = (Vec::new(), 0);
    for query in &queries {
        let started = Instant::now();
        let found = index.search(&[0; 32], query, 8, 0);
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let best = vectors.iter().map(|vector| cosine(vector, query)).fold(-1.0, f32::max);
        right += usize::from(found.first().is_some_and(|found| found.similarity >= best - TIE));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let bytes = Index::<()>::entry_bytes(dimension);
    Ok(format!(
        "\n### Index\n\n{entries} entries of {dimension} dimensions in one partition, {QUERIES} searches for 8 neighbours.\n\n\
         | search p50 | p99 | recall@1 | memory of an entry besides its answer | of 100,000 |\n|---|---|---|---|---|\n\
         | {:.3} ms | {:.3} ms | {:.4} | {bytes} bytes | {:.0} MiB |\n\n\
         {}: {rate:.0} texts/s in batches, one thread.\n",
        at(0.5),
        at(0.99),
        right as f64 / QUERIES as f64,
        bytes as f64 * 1e5 / f64::from(1 << 20),
        encoder.name(),
    ))
}

/// The text with about a third of its words taken from others.
pub(crate) fn reworded(text: &str, others: &[String], dice: &mut Dice) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for _ in 0..(words.len() / 3).max(1) {
        let other: Vec<&str> = others[dice.below(others.len())].split(' ').collect();
        let at = dice.below(words.len());
        words[at] = other[dice.below(other.len())];
    }
    words.join(" ")
}
