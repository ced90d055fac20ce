//! Header names of the contract with the filter, made ready: looking one up by its text would check
//! and hash that text for every request.

use http::HeaderName;
use tidegate_core::wire::header;

/// Who calls, as the filter found out.
pub const IDENTITY: HeaderName = HeaderName::from_static(header::IDENTITY);
/// The secret that Envoy's routes add.
pub const PROXIED: HeaderName = HeaderName::from_static(header::PROXIED);
/// The secret of the filter's own calls.
pub const INTERNAL: HeaderName = HeaderName::from_static(header::INTERNAL);
/// The request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static(header::REQUEST_ID);
