//! What went wrong between us and a provider, as the caller gets to read it.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tidegate_core::reply::{Code, Reply};

/// A connection-level fault, told from the chain of causes.
#[must_use]
pub fn of_connection(provider: &str, error: &hyper_util::client::legacy::Error) -> Reply {
    if error.is_connect() {
        return if cause_of::<io::Error>(error).is_some_and(|e| e.kind() == ErrorKind::TimedOut) {
            Reply::new(
                Code::UpstreamTimeout,
                format!("Provider {provider} did not accept a connection in time."),
            )
        } else {
            Reply::new(Code::UpstreamUnreachable, format!("Provider {provider} could not be connected to."))
        };
    }
    if cause_of::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return Reply::new(
            Code::UpstreamError,
            format!("Provider {provider} answered with what is not HTTP."),
        );
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

/// The first cause of type `T`.
fn cause_of<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| Error::source(*cause))
        .find_map(|cause| cause.downcast_ref())
}
