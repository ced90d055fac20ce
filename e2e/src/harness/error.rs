//! What can go wrong in the harness itself, as opposed to in what it tests.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the harness could not do its part.
#[derive(Debug)]
pub enum HarnessError {
    /// A file or program that the harness needs is not there; says how to get it.
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was expected.
        path: PathBuf,
        /// What to do about it.
        fix: &'static str,
    },
    /// An operation on a file, a socket or a process failed.
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended or answered in a way that it should not have; carries its output.
    Program(String),
    /// A condition did not come true in time.
    Deadline(String),
    /// An HTTP exchange failed before a whole answer was there.
    Http(String),
}

impl HarnessError {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(super) fn http(doing: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{doing}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::Http(text)
    }
}

impl fmt::Display for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, path, fix } => {
                write!(f, "{what} is not at {}: {fix}", path.display())
            }
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Program(text) | Self::Deadline(text) | Self::Http(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for HarnessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
