//! Where a credential may stand; both halves read it, and must not differ.

use crate::reply::{Code, Reply};

/// Headers that may carry a credential, of which a request has at most one.
pub const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// The refusal of a request with several credentials: which of them counts is not ours to guess.
#[must_use]
pub fn several_credentials() -> Reply {
    let names = CREDENTIAL_HEADERS.join(", ");
    let message = format!("more than one credential was sent; send exactly one of {names}");
    Reply::new(Code::DuplicateCredential, message)
}
