//! Server-sent events, read at byte level: a chunk may end anywhere, also inside a multibyte
//! character. Format: WHATWG HTML, "Server-sent events", 9.2.6.

mod foreign;
mod parser;
mod scanner;

pub use foreign::usage as foreign_usage;
pub use parser::{EVENT_BYTES_MAX, Event, Parser};
pub use scanner::{Outcome, Scanner, Usage};
