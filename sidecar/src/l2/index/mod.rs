//! The vector index: which stored prompts are nearest to this one, inside its partition.
//!
//! Vectors of one partition lie in flat rows: exact 16-bit copies, and beside them the signs of
//! their distance from the mean, 1 bit a dimension. Up to [`EXACT_MAX`] rows a search compares all;
//! above, it counts differing signs and compares the nearest [`RERANK`] exactly. There is no graph:
//! an insert is an append, a delete is gone at once, and memory is what the rows take.

mod directory;
mod entry;
mod kernels;
mod partition;
mod rows;
mod worth;

#[cfg(test)]
mod tests;

pub use directory::{Index, Limits, Stats};
pub use entry::{EntryId, Found, PartitionKey};
pub use rows::{EXACT_MAX, RERANK};
pub use worth::Worth;
