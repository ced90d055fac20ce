//! The log: one line an event on standard error, never a body, a prompt or a credential.

use tracing::Level;

use crate::config::logging::{Format, Level as Configured, Logging};

/// Writes the log from here on; later calls change nothing.
pub fn start(logging: Logging) {
    let level = match logging.level {
        Configured::Error => Level::ERROR,
        Configured::Warn => Level::WARN,
        Configured::Info => Level::INFO,
        Configured::Debug => Level::DEBUG,
        Configured::Trace => Level::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let started = match logging.format {
        Format::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        Format::Text => builder.with_target(false).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
