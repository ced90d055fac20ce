//! The policies on slices of the traffic: what the learning loop proposes and operators decide,
//! as filters get to see it.

mod book;
mod edit;
mod record;
#[cfg(test)]
mod tests;
mod timeline;

pub use book::{Alarm, Book, Limits};
pub use edit::{BookError, Edit, break_by};
pub use record::{Proposal, Record};
pub use timeline::{Moment, What};
