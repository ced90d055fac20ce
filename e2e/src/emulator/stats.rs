//! Counters of one emulator, cheap enough for the benchmark's hot path.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) connections_total: Counter,
    pub(super) requests_total: Counter,
    pub(super) finished_total: Counter,
    pub(super) clients_left_total: Counter,
    pub(super) faults_total: Counter,
    /// Tokens of answers that were sent to their end.
    pub(super) whole: Tokens,
    /// Tokens of streams whose client left, as far as they were sent.
    pub(super) left: Tokens,
}

/// What answers cost.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    answers: Counter,
    prompt: Counter,
    completion: Counter,
}

/// What an answer costs, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl Tokens {
    pub(super) fn add(&self, bill: Bill) {
        self.answers.add_one();
        self.prompt.add(bill.prompt);
        self.completion.add(bill.completion);
    }

    fn snapshot(&self) -> TokenCount {
        let Self { answers, prompt, completion } = self;
        TokenCount { answers: answers.get(), prompt: prompt.get(), completion: completion.get() }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters at one moment, as `GET /__stats` shows them. Control calls are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// TCP connections accepted.
    pub connections_total: u64,
    /// Requests to a provider's paths that arrived whole.
    pub requests_total: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// Requests whose client left before the end of the answer.
    pub clients_left_total: u64,
    /// Requests that a fault hit.
    pub faults_total: u64,
}

/// Tokens of some answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    /// Answers.
    pub answers: u64,
    /// Tokens of their prompts.
    pub prompt: u64,
    /// Tokens of the answers.
    pub completion: u64,
}

/// The provider's own count of tokens; kept only together with the request log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokensSnapshot {
    /// Of answers that were sent to their end.
    pub whole: TokenCount,
    /// Of streams whose client left, as far as they were sent.
    pub left: TokenCount,
}

impl Stats {
    pub(super) fn tokens(&self) -> TokensSnapshot {
        TokensSnapshot { whole: self.whole.snapshot(), left: self.left.snapshot() }
    }

    pub(super) fn snapshot(&self) -> StatsSnapshot {
        let finished = self.finished_total.get();
        let requests_total = self.requests_total.get();
        StatsSnapshot {
            connections_total: self.connections_total.get(),
            requests_total,
            in_flight: requests_total.saturating_sub(finished),
            clients_left_total: self.clients_left_total.get(),
            faults_total: self.faults_total.get(),
        }
    }
}
