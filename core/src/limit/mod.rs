//! Limits: which of them a request must pass ([`RuleSet`]), the token bucket and the cells in
//! which many are kept, requests at a time ([`Permits`]), and what a request will have used
//! before that is known ([`OutputLengths`]).

mod bucket;
pub mod fair;
pub mod lease;
mod name;
mod permits;
mod prediction;
mod rules;
mod set;
mod state;

pub use bucket::{Bucket, Decision, Rate, SLICE_NS};
pub use name::{Attribute, BucketName, Shape, Subject};
pub use permits::{LIFE_MS, Permits, Permitted, SHARERS_MAX};
pub use prediction::{OutputLengths, UNKNOWN_TOKENS};
pub use rules::{Kind, Level, RuleSet, Shared};
pub use set::{BucketSet, WAYS};
pub use state::{BucketState, Buckets, IN_FLIGHT_RETRY_MS, Look, states};
