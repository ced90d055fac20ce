//! The exact cache: what may be stored, under which key, and in which slot.

pub mod admission;
pub mod control;
mod entry;
mod key;
pub mod question;
pub mod replay;
pub mod semantic;
pub mod slots;

pub use entry::{Entry, Kind};
pub use key::CacheKey;
