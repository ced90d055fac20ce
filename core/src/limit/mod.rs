//! Rate limiting: one token bucket, and the cells in which many of them are kept.

mod bucket;
mod set;

pub use bucket::{Bucket, Decision, Rate, SLICE_NS};
pub use set::{BucketSet, WAYS};
