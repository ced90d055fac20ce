//! The conjunctions that are compared: of the values in which enough of the failures lie, the most
//! telling ones, alone and joined.

use std::collections::BTreeMap;

use super::{Observed, RECALL_MIN, log_likelihood_ratio, ratio};
use crate::event::{Attribute, Attributes};

/// Values that are joined; further ones are too weak to matter.
const LITERALS_MAX: usize = 14;
/// What each further condition has to gain in F1 to be worth it.
const CONDITION_COST: f64 = 0.03;
/// Scores closer than this are equal.
const SCORE_STEP: f64 = 0.01;

/// One attribute with one value.
#[derive(Debug)]
struct Literal<'a> {
    attribute: Attribute,
    value: &'a str,
    failures: u64,
    requests: u64,
    /// Its place in the preference.
    rank: usize,
}

/// The values to choose from, and the rows in terms of them.
#[derive(Debug)]
pub(super) struct Literals<'a> {
    literals: Vec<Literal<'a>>,
    /// Which literals hold, requests, failures, and whether these are attempts that nobody saw;
    /// equal rows are one.
    rows: Vec<(u32, u64, u64, bool)>,
    /// Bits of the literals that are about a provider.
    of_provider: u32,
    /// Failures, hidden ones too.
    all_failures: u64,
}

/// A conjunction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// Bits of its literals.
    pub(super) set: u32,
    /// F1 of precision and recall, less the cost of its conditions, in steps of [`SCORE_STEP`].
    pub(super) score: f64,
    /// Sum of its literals' ranks.
    pub(super) rank: usize,
    /// Log-likelihood ratio.
    pub(super) significance: f64,
}

impl<'a> Literals<'a> {
    pub(super) fn collect(rows: &[Observed<'a>], preference: &[Attribute]) -> Self {
        let all_requests: u64 = rows.iter().map(Observed::relevant).sum();
        let all_failures: u64 = rows.iter().map(|row| row.failures).sum();
        let mut counts: BTreeMap<(Attribute, &'a str), (u64, u64)> = BTreeMap::new();
        for row in rows {
            for (attribute, value) in row.attributes {
                let count = counts.entry((*attribute, value.as_str())).or_default();
                count.0 += row.relevant();
                count.1 += row.failures;
            }
        }
        let mut literals: Vec<Literal<'a>> = counts
            .into_iter()
            .filter(|(_, (_, failures))| ratio(*failures, all_failures) >= RECALL_MIN)
            .map(|((attribute, value), (requests, failures))| {
                let rank = preference.iter().position(|p| *p == attribute).unwrap_or(preference.len());
                Literal { attribute, value, failures, requests, rank }
            })
            .collect();
        let telling =
            |l: &Literal<'_>| log_likelihood_ratio(l.failures, l.requests, all_failures, all_requests);
        literals.sort_by(|a, b| telling(b).total_cmp(&telling(a)).then_with(|| a.rank.cmp(&b.rank)));
        literals.truncate(LITERALS_MAX);
        let mut merged: BTreeMap<(u32, bool), (u64, u64)> = BTreeMap::new();
        for row in rows {
            let holds = |l: &Literal<'_>| row.attributes.get(&l.attribute).is_some_and(|v| v == l.value);
            let bits = literals.iter().enumerate().filter(|(_, l)| holds(l)).map(|(i, _)| 1u32 << i).sum();
            let count = merged.entry((bits, row.hidden)).or_default();
            count.0 += row.relevant();
            count.1 += row.failures;
        }
        let row = |((bits, hidden), (requests, failures))| (bits, requests, failures, hidden);
        let is_of_provider = |(_, l): &(usize, &Literal<'_>)| l.attribute.is_of_provider();
        let of_provider = literals.iter().enumerate().filter(is_of_provider).map(|(i, _)| 1u32 << i).sum();
        Self { rows: merged.into_iter().map(row).collect(), of_provider, literals, all_failures }
    }

    /// All conjunctions of up to `most` literals with enough recall, the empty one included.
    pub(super) fn conjunctions(&self, most: usize) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = self.candidate(0).into_iter().collect();
        let mut last = vec![0u32];
        for _ in 0..most {
            let mut next = Vec::new();
            for set in &last {
                let from = (u32::BITS - set.leading_zeros()) as usize;
                for index in from..self.literals.len() {
                    let joined = set | 1 << index;
                    if let Some(candidate) = self.candidate(joined) {
                        candidates.push(candidate);
                        next.push(joined);
                    }
                }
            }
            last = next;
        }
        candidates
    }

    fn candidate(&self, set: u32) -> Option<Candidate> {
        let (mut requests, mut failures, mut all_requests, mut all_failures) = (0, 0, 0, 0);
        let with_hidden = set & self.of_provider != 0;
        for (bits, r, f, _) in self.rows.iter().filter(|(.., hidden)| with_hidden || !hidden) {
            all_requests += r;
            all_failures += f;
            if bits & set == set {
                requests += r;
                failures += f;
            }
        }
        let (precision, recall) = (ratio(failures, requests), ratio(failures, self.all_failures));
        if recall < RECALL_MIN || precision <= 0.0 {
            return None;
        }
        let f1 = 2.0 * precision * recall / (precision + recall);
        let score = f1 - CONDITION_COST * f64::from(set.count_ones());
        let chosen = self.chosen(set);
        Some(Candidate {
            set,
            score: (score / SCORE_STEP).round() * SCORE_STEP,
            rank: chosen.map(|literal| literal.rank).sum(),
            significance: log_likelihood_ratio(failures, requests, all_failures, all_requests),
        })
    }

    fn chosen(&self, set: u32) -> impl Iterator<Item = &Literal<'a>> {
        self.literals.iter().enumerate().filter(move |(i, _)| set & (1 << i) != 0).map(|(_, l)| l)
    }

    /// The conjunction as attributes.
    pub(super) fn scope(&self, set: u32) -> Attributes {
        self.chosen(set).map(|l| (l.attribute, l.value.to_owned())).collect()
    }
}
