//! Which provider answers a request, and what to do when it does not: strategies, latency,
//! budgets and limits as values. Times are milliseconds of one monotonic clock, randomness is an
//! argument, so that every decision can be repeated in a test.

mod backoff;
mod balancer;
mod budget;
mod candidate;
mod concurrency;
mod ewma;
mod fault;
mod quantile;
mod rate_signals;
mod ring;
mod strategy;
mod stream_start;

pub use backoff::Backoff;
pub use balancer::{Balancer, SETS_MAX};
pub use budget::Budget;
pub use candidate::{Candidate, slow_start_weight};
pub use concurrency::AdaptiveLimit;
pub use ewma::Ewma;
pub use fault::{FaultKind, classify, is_about_model};
pub use quantile::Quantiles;
pub use rate_signals::{Allowance, RateSignals};
pub use strategy::{Draw, Strategy};
pub use stream_start::{StreamStart, StreamStartKind};
