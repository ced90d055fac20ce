//! The semantic cache's judgement: whether an answer to one prompt may be served for another.
//!
//! A lookup goes in three steps. The index finds the nearest stored prompts; the [`guard`] says of
//! each whether words forbid it; [`Evidence::weigh`] picks one and what speaks for it. Then a fixed
//! threshold decides ([`Threshold`]), or a model that learns how often such evidence was right and
//! keeps the share of wrong answers under a bound ([`Verifier`]). What was decided is checked by
//! asking again now and then ([`Audit`]).

mod audit;
mod codec;
mod decision;
mod evidence;
pub mod guard;
mod logistic;
mod verifier;

#[cfg(test)]
mod tests;

pub use audit::{Audit, AuditTable, Interval};
pub use decision::{Decision, Reason, Threshold};
pub use evidence::{Candidate, Evidence};
pub use verifier::{ErrorBound, OBSERVATIONS_MAX, OBSERVATIONS_MIN, Outcome, Record, Verifier};
