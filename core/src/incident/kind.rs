//! What kind of failure an error is: the question that decides who may be limited for it.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What kind of failure an error is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorKind { $($(#[$doc])* $variant,)* }

        impl ErrorKind {
            /// All of them, in this order everywhere.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in files, answers and labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// Too many requests or tokens in a short time; it passes by itself.
    RateLimited => "rate_limited",
    /// The account has nothing left; it passes when somebody pays or the day ends.
    Quota => "quota",
    /// The provider has no capacity for anyone.
    Overloaded => "overloaded",
    /// The credential, the account, the project or the region may not do this.
    Auth => "auth",
    /// The model or the path does not exist.
    NotFound => "not_found",
    /// The request is longer than the model or the provider takes.
    ContextTooLong => "context_too_long",
    /// Refused for what the prompt or the answer says.
    ContentRefused => "content_refused",
    /// The request is not one the provider understands.
    InvalidRequest => "invalid_request",
    /// The provider was not reached, or the connection broke.
    Network => "network",
    /// The answer took too long.
    Timeout => "timeout",
    /// The provider failed by its own fault.
    UpstreamBug => "upstream_bug",
    /// Nothing known is like it.
    Unknown => "unknown",
}

impl ErrorKind {
    /// Whether the caller's own request is at fault: such errors never count against a provider.
    #[must_use]
    pub const fn is_callers_fault(self) -> bool {
        matches!(self, Self::InvalidRequest | Self::ContextTooLong | Self::ContentRefused)
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!(ErrorKind::ALL.len(), 12);
        let blamed: Vec<_> = ErrorKind::ALL.iter().filter(|k| k.is_callers_fault()).collect();
        assert_eq!(blamed.len(), 3);
    }
}
