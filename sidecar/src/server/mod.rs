//! Listeners, the entry of every request, and the drain.

mod connections;
mod entry;
mod listener;
mod opening;
mod router;

pub use connections::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS_MAX, serve};
pub use entry::Entry;
pub use listener::{ListenError, Listener};
pub use router::{llm, metrics_router, router};
