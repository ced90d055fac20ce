//! The policy document: everything the filter needs to decide on a request, as one versioned
//! value. The sidecar makes it, the filter validates it again before use, because a gateway
//! must not be taken down by whatever reaches it over a wire.

mod direct;
mod limits;

use serde::{Deserialize, Serialize};

use crate::incident::enforcement::{POLICIES_MAX, SlicePolicy};
use crate::wire::is_name;

pub use direct::{CALLOUT_MS_MAX, CalloutPolicy, DirectPolicy, PREFIXES_MAX};
pub use limits::{
    BURST_MAX, BucketPolicy, CONCURRENCY_MAX, EACH, Limits, MODEL_BYTES_MAX, RATE_MAX, RULES_MAX, Rule,
    Scope, Selector, TOKENS_PER_DAY_MAX, TOKENS_PER_MINUTE_MAX, TRUSTED_PROXIES_MAX, WEIGHTS_MAX,
};

/// Version of the document's shape; a filter refuses any other.
pub const FORMAT: u32 = 5;
/// Largest L1 bound, in bytes.
pub const L1_BYTES_MAX: u64 = 16 << 30;
/// Largest request body that can be configured, in bytes.
pub const BODY_BYTES_MAX: u64 = 256 << 20;

/// One version of everything the filter needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// [`FORMAT`].
    pub format: u32,
    /// Names this version; two documents with different content never share one.
    pub revision: String,
    /// Who may call.
    pub auth: AuthPolicy,
    /// How much they may call.
    pub limits: Limits,
    /// When a failing route is left alone.
    pub breaker: BreakerPolicy,
    /// The exact cache inside Envoy.
    pub l1: L1Policy,
    /// LLM requests that do not go to the sidecar.
    pub direct: DirectPolicy,
    /// Largest accepted request body, in bytes.
    pub body_bytes_max: u64,
    /// What is observed of failures.
    pub sampler: SamplerPolicy,
    /// Slices of the traffic that are limited or broken; at most [`POLICIES_MAX`].
    pub slices: Vec<SlicePolicy>,
}

/// What is observed of failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerPolicy {
    /// Share of the failures of known signatures whose events are sent; 0 to 1.
    pub sampling_rate: f64,
    /// Most events that wait to be sent in one VM; 1 to 1,000,000.
    pub buffer_size: u32,
    /// Request headers that name a region, in lower case; the first that is there counts.
    pub region_headers: Vec<String>,
}

/// Most headers that may name a region.
pub const REGION_HEADERS_MAX: usize = 4;

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthPolicy {
    /// Rises whenever a credential may have lost its validity; verdicts of another generation
    /// are forgotten at once.
    pub generation: u64,
    /// Tenant of callers without a credential; `None` refuses them.
    pub anonymous_tenant: Option<String>,
    /// Whether the operator's own routes ask for a credential too. When false, credentials on
    /// them are the operator's business and are not looked at.
    pub protect_other_routes: bool,
}

/// When a failing route is left alone, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerPolicy {
    /// Failures within `window_ms` that open the breaker, if they are at least half of the
    /// requests in it; 1 to 1,000,000.
    pub failure_threshold: u32,
    /// Length of the observation window, in milliseconds; 100 to 600,000.
    pub window_ms: u64,
    /// How long an open breaker refuses everything, in milliseconds; 1 to 3,600,000.
    pub recovery_timeout_ms: u64,
    /// Share of the traffic admitted at the first recovery step, and added at each next one;
    /// above 0, at most 1.
    pub recovery_increment: f64,
}

/// The exact cache inside Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1Policy {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Bound on the stored answers of one Envoy process, in bytes.
    pub bytes_max: u64,
    /// How long an answer is served, in milliseconds.
    pub ttl_ms: u64,
    /// Requests that ask for a higher sampling temperature are not cached.
    pub temperature_max: f64,
    /// Whether requests that offer tools are cached.
    pub allow_tools: bool,
    /// What is stored.
    pub admission: L1Admission,
    /// Changes when answers are taken back; those that were stored under another are not found any more.
    pub generation: u64,
}

/// What the exact cache stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L1Admission {
    /// Everything while it pushes out nothing young, else what is asked a second time
    /// ([`crate::cache::admission`]).
    #[default]
    ScanResistant,
    /// Everything.
    Always,
}

/// Why a document was refused: the field, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field in the document.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Invalid {}

fn refuse(field: &str, problem: impl Into<String>) -> Result<(), Invalid> {
    Err(Invalid { field: field.to_owned(), problem: problem.into() })
}

impl Snapshot {
    /// Reads and validates a document.
    ///
    /// # Errors
    /// The first field that is missing, unknown, mistyped or out of range.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let snapshot: Self = serde_json::from_slice(json)
            .map_err(|e| Invalid { field: "document".to_owned(), problem: e.to_string() })?;
        snapshot.validate()?;
        Ok(snapshot)
    }

    /// Checks every range; the sidecar calls it before it publishes, the filter before use.
    ///
    /// # Errors
    /// The first field out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.format != FORMAT {
            refuse("format", format!("is {}, this build reads {FORMAT}", self.format))?;
        }
        if !is_name(&self.revision) {
            refuse("revision", "must be 1 to 64 of A-Z a-z 0-9 . _ -")?;
        }
        if self.auth.anonymous_tenant.as_deref().is_some_and(|tenant| !is_name(tenant)) {
            refuse("auth.anonymous_tenant", "must be 1 to 64 of A-Z a-z 0-9 . _ -")?;
        }
        if !(1..=BODY_BYTES_MAX).contains(&self.body_bytes_max) {
            refuse("body_bytes_max", format!("must be 1 to {BODY_BYTES_MAX}"))?;
        }
        self.limits.validate()?;
        self.direct.validate()?;
        self.breaker.validate()?;
        self.sampler.validate()?;
        if self.slices.len() > POLICIES_MAX {
            refuse("slices", format!("has more than {POLICIES_MAX} policies"))?;
        }
        for (index, slice) in self.slices.iter().enumerate() {
            if let Err((field, problem)) = slice.validate() {
                refuse(&format!("slices[{index}].{field}"), problem)?;
            }
        }
        self.l1.validate()
    }
}

impl SamplerPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        if !(0.0..=1.0).contains(&self.sampling_rate) {
            refuse("sampler.sampling_rate", "must be 0 to 1")?;
        }
        if !(1..=1_000_000).contains(&self.buffer_size) {
            refuse("sampler.buffer_size", "must be 1 to 1000000")?;
        }
        if self.region_headers.len() > REGION_HEADERS_MAX {
            refuse("sampler.region_headers", format!("has more than {REGION_HEADERS_MAX} names"))?;
        }
        Ok(())
    }
}

impl BreakerPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        if !(1..=1_000_000).contains(&self.failure_threshold) {
            refuse("breaker.failure_threshold", "must be 1 to 1000000")?;
        }
        if !(100..=600_000).contains(&self.window_ms) {
            refuse("breaker.window_ms", "must be 100 to 600000")?;
        }
        if !(1..=3_600_000).contains(&self.recovery_timeout_ms) {
            refuse("breaker.recovery_timeout_ms", "must be 1 to 3600000")?;
        }
        if !(self.recovery_increment > 0.0 && self.recovery_increment <= 1.0) {
            refuse("breaker.recovery_increment", "must be above 0 and at most 1")?;
        }
        Ok(())
    }
}

impl L1Policy {
    fn validate(&self) -> Result<(), Invalid> {
        let least = crate::cache::slots::SET_BYTES;
        if self.enabled && !(least..=L1_BYTES_MAX).contains(&self.bytes_max) {
            refuse("l1.bytes_max", format!("is {}, must be {least} to {L1_BYTES_MAX}", self.bytes_max))?;
        }
        if self.enabled && self.ttl_ms == 0 {
            refuse("l1.ttl_ms", "must be at least 1")?;
        }
        if !self.temperature_max.is_finite() || self.temperature_max < 0.0 {
            refuse("l1.temperature_max", "must be 0 or more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::enforcement::slice;

    fn good() -> Snapshot {
        Snapshot {
            format: FORMAT,
            revision: "r1".into(),
            auth: AuthPolicy {
                generation: 1,
                anonymous_tenant: Some("demo".into()),
                protect_other_routes: true,
            },
            limits: Limits::of_requests(
                BucketPolicy { rate: 10_000.0, burst: 10_000 },
                BucketPolicy { rate: 1000.0, burst: 1000 },
            ),
            breaker: BreakerPolicy {
                failure_threshold: 10,
                window_ms: 10_000,
                recovery_timeout_ms: 30_000,
                recovery_increment: 0.2,
            },
            l1: L1Policy {
                enabled: true,
                bytes_max: 64 << 20,
                ttl_ms: 300_000,
                temperature_max: 1.0,
                allow_tools: false,
                admission: L1Admission::ScanResistant,
                generation: 0,
            },
            direct: DirectPolicy {
                prefixes: vec!["/vllm".into()],
                callout: Some(CalloutPolicy {
                    deadline_ms: 75,
                    temperature_max: 1.0,
                    allow_tools: false,
                    has_secrets: false,
                }),
            },
            body_bytes_max: 10 << 20,
            sampler: SamplerPolicy {
                sampling_rate: 0.05,
                buffer_size: 1000,
                region_headers: vec!["x-region".into()],
            },
            slices: vec![SlicePolicy {
                id: "p1".into(),
                cluster: "c1".into(),
                scopes: vec![slice(crate::event::Attribute::Tenant, "acme")],
                measure: crate::incident::enforcement::Measure::Limit { rate: 1.0 },
                enforce: true,
                statuses: vec![429],
                sentence: "s".into(),
                retry: true,
                ttl_ms: 1000,
                renewal: 0,
            }],
        }
    }

    #[test]
    fn a_good_document_survives_the_wire() {
        let json = serde_json::to_vec(&good()).expect("serialises");
        assert_eq!(Snapshot::parse(&json), Ok(good()));
    }

    fn requests(snapshot: &mut Snapshot, rule: usize) -> &mut BucketPolicy {
        snapshot.limits.rules[rule].requests.as_mut().expect("a rate")
    }

    #[test]
    fn each_bad_field_is_named() {
        type Spoil = fn(&mut Snapshot);
        let cases: [(&str, Spoil); 17] = [
            ("format", |s| s.format = 1),
            ("revision", |s| s.revision.clear()),
            ("auth.anonymous_tenant", |s| s.auth.anonymous_tenant = Some("a b".into())),
            ("limits.rules[0].requests.rate", |s| requests(s, 0).rate = f64::NAN),
            ("limits.rules[1].requests.burst", |s| requests(s, 1).burst = 0),
            ("limits.rules[1].concurrency", |s| s.limits.rules[1].concurrency = Some(0)),
            ("limits.rules[0].tokens_per_day", |s| s.limits.rules[0].tokens_per_day = Some(u64::MAX)),
            ("limits.rules[0]", |s| s.limits.rules[0].requests = None),
            ("limits.rules[1].select.tenant", |s| s.limits.rules[1].select.tenant = Some("a b".into())),
            ("limits.rules[1].requests", |s| s.limits.rules[1].select.tenant = None),
            ("breaker.failure_threshold", |s| s.breaker.failure_threshold = 0),
            ("breaker.recovery_increment", |s| s.breaker.recovery_increment = 1.5),
            ("l1.bytes_max", |s| s.l1.bytes_max = 1),
            ("body_bytes_max", |s| s.body_bytes_max = 0),
            ("sampler.sampling_rate", |s| s.sampler.sampling_rate = f64::NAN),
            ("slices[0].id", |s| s.slices[0].id.clear()),
            ("slices[0].scopes", |s| s.slices[0].scopes.clear()),
        ];
        for (field, spoil) in cases {
            let mut snapshot = good();
            spoil(&mut snapshot);
            assert_eq!(snapshot.validate().map_err(|e| e.field), Err(field.to_owned()));
        }
    }

    #[test]
    fn an_unknown_field_or_broken_json_is_refused() {
        let json = serde_json::to_string(&good()).expect("serialises");
        let extra = json.replacen("{\"format\"", "{\"surprise\":1,\"format\"", 1);
        assert!(Snapshot::parse(extra.as_bytes()).is_err());
        assert!(Snapshot::parse(&json.as_bytes()[..json.len() - 1]).is_err());
    }
}
