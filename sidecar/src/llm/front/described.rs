//! A request in the terms in which the filter counts it, for what the filter does not see: attempts
//! that fail before somebody else answers, and who is to be passed by.

use std::sync::OnceLock;

use http::request::Parts;
use tidegate_core::event::{Attribute, Attributes, PathTemplate, VALUE_BYTES_MAX, prompt_length};
use tidegate_core::route::Endpoint;

use super::request::LlmRequest;
use crate::limits::Payer;

/// One request, described when somebody wants to know.
#[derive(Debug)]
pub struct Described<'a> {
    endpoint: Endpoint,
    head: &'a Parts,
    request: &'a LlmRequest,
    region_headers: &'a [String],
    made: OnceLock<Attributes>,
}

impl<'a> Described<'a> {
    /// A request for `endpoint`.
    #[must_use]
    pub const fn new(
        endpoint: Endpoint,
        head: &'a Parts,
        request: &'a LlmRequest,
        region_headers: &'a [String],
    ) -> Self {
        Self { endpoint, head, request, region_headers, made: OnceLock::new() }
    }

    /// All that is known of it at its entry.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        self.made.get_or_init(|| self.describe())
    }

    fn describe(&self) -> Attributes {
        let Self { endpoint, head, request, region_headers, .. } = self;
        let identity = head.extensions.get::<Payer>().map(|payer| &payer.identity);
        let region = region_headers.iter().find_map(|name| head.headers.get(name)?.to_str().ok());
        let path = PathTemplate::of(head.uri.path());
        let truth = |value| if value { "true" } else { "false" };
        let all = [
            (Attribute::Tenant, identity.map(|identity| identity.tenant.as_str())),
            (Attribute::Key, identity.and_then(|identity| identity.key.as_deref())),
            (Attribute::Route, Some(endpoint.label())),
            (Attribute::Path, Some(path.as_str())),
            (Attribute::Method, Some(head.method.as_str())),
            (Attribute::Model, Some(request.model.as_str())),
            (Attribute::Stream, Some(truth(request.stream))),
            (Attribute::Tools, Some(truth(request.has_tools))),
            (Attribute::PromptLength, Some(prompt_length(request.bytes))),
            (Attribute::Region, region),
        ];
        let known = all.into_iter().filter_map(|(attribute, value)| Some((attribute, cut(value?))));
        known.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// A value within the bound that the filter cuts it to.
fn cut(value: &str) -> String {
    let bytes = value.as_bytes();
    String::from_utf8_lossy(bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes)).into_owned()
}
