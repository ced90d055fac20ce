//! `sampler`: what filters tell of failures.

use serde::Deserialize;
use tidegate_core::policy::{REGION_HEADERS_MAX, SamplerPolicy};

use super::Problems;

/// Share of the failures of known signatures whose words are sent.
const SAMPLING_RATE: f64 = 0.05;
/// Events that wait in one Envoy worker.
const BUFFER_SIZE: u32 = 1000;
/// Headers that name a region unless the file says otherwise.
const REGION_HEADERS: [&str; 2] = ["x-region", "x-gateway-region"];

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    sampling_rate: Option<f64>,
    buffer_size: Option<u32>,
    region_headers: Option<Vec<String>>,
}

/// Checks the section.
pub fn validate(document: Document, problems: &mut Problems) -> SamplerPolicy {
    let Document { sampling_rate, buffer_size, region_headers } = document;
    let mut headers =
        region_headers.unwrap_or_else(|| REGION_HEADERS.iter().map(|name| (*name).to_owned()).collect());
    for (index, name) in headers.iter_mut().enumerate() {
        name.make_ascii_lowercase();
        if http::HeaderName::try_from(name.as_str()).is_err() {
            problems.add(format!("sampler.region_headers[{index}]"), "must be the name of a header");
        }
    }
    if headers.len() > REGION_HEADERS_MAX {
        let problem = format!("has {} names; at most {REGION_HEADERS_MAX} are allowed", headers.len());
        problems.add("sampler.region_headers", problem);
    }
    SamplerPolicy {
        sampling_rate: problems.within(
            "sampler.sampling_rate",
            sampling_rate.unwrap_or(SAMPLING_RATE),
            0.0..=1.0,
            " of the errors",
        ),
        buffer_size: problems.within(
            "sampler.buffer_size",
            buffer_size.unwrap_or(BUFFER_SIZE),
            1..=1_000_000,
            " events",
        ),
        region_headers: headers,
    }
}
