//! What went wrong between us and a provider, as the caller gets to read it.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use tidegate_core::reply::{Code, Reply};

/// A connection-level fault, told from the chain of causes.
#[must_use]
pub fn of_connection(provider: &str, error: &hyper_util::client::legacy::Error) -> Reply {
    if error.is_connect() {
        return if has_io_kind(error, &[ErrorKind::TimedOut]) {
            Reply::new(
                Code::UpstreamTimeout,
                format!("Provider {provider} did not accept a connection in time."),
            )
        } else {
            Reply::new(Code::UpstreamUnreachable, format!("Provider {provider} could not be connected to."))
        };
    }
    reset(provider)
}

/// The connection broke before the answer's end.
#[must_use]
pub fn reset(provider: &str) -> Reply {
    Reply::new(Code::UpstreamReset, format!("Provider {provider} closed the connection before its answer."))
}

/// No complete answer within `timeout`.
#[must_use]
pub fn timeout(provider: &str, timeout: Duration) -> Reply {
    let ms = timeout.as_millis();
    Reply::new(Code::UpstreamTimeout, format!("Provider {provider} did not answer within {ms} ms."))
}

/// An answer that is none: `what` completes "Provider NAME answered STATUS ...".
#[must_use]
pub fn not_an_answer(provider: &str, status: u16, what: &str) -> Reply {
    Reply::new(Code::UpstreamError, format!("Provider {provider} answered {status} {what}."))
}

/// All causes in one line, for the log.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn has_io_kind(error: &(dyn Error + 'static), kinds: &[ErrorKind]) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|io| kinds.contains(&io.kind())) {
            return true;
        }
        source = cause.source();
    }
    false
}
