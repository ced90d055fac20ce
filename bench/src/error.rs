//! Why a benchmark could not be run or its figures cannot be trusted.

use std::fmt;

use tidegate_e2e::harness::HarnessError;

/// What went wrong, for a person to read.
#[derive(Debug)]
pub(crate) struct BenchError(String);

impl BenchError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Turns an error of the system into one that says what was being done.
    pub(crate) fn doing<E: fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self(format!("{what}: {error}"))
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

impl From<HarnessError> for BenchError {
    fn from(error: HarnessError) -> Self {
        Self(error.to_string())
    }
}
