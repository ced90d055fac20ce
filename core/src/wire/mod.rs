//! The contract between the filter and the sidecar: header names, and the bodies of
//! `/internal/v1/{snapshot,authenticate,events,leases,limits,lookup,store}`.
//!
//! Trust goes by two headers that carry the same shared secret and that clients can never set,
//! because the filter strips everything under [`header::PREFIX`] at entry:
//! Envoy's route adds [`header::PROXIED`] to what it forwards to the sidecar, which makes the
//! filter's [`header::IDENTITY`] believable; the filter adds [`header::INTERNAL`] to its own
//! call-outs, which alone opens `/internal`.

mod auth;
mod credential;
mod identity;
pub mod leases;
mod limits;
pub mod semantic;
pub mod signature;

pub use auth::{AuthenticateRequest, Verdict};
pub use credential::{CREDENTIAL_HEADERS, several_credentials};
pub use identity::{Identity, Role, SCOPE_DIGITS, is_name};
pub use limits::{DescribedRequest, LimitAnswer, LimitAnswers, LimitQuestion, LimitQuestions, QUESTIONS_MAX};

/// Header names of the contract; all lower case.
pub mod header {
    /// Everything under this prefix belongs to the gateway and is stripped at entry.
    pub const PREFIX: &str = "x-tidegate-";
    /// Shared secret, added by Envoy's route on requests forwarded to the sidecar.
    pub const PROXIED: &str = "x-tidegate-proxied";
    /// Shared secret, added by the filter to its own call-outs; opens `/internal`.
    pub const INTERNAL: &str = "x-tidegate-internal";
    /// Who the filter found the caller to be; see [`super::Identity`].
    pub const IDENTITY: &str = "x-tidegate-identity";
    /// Set by the sidecar on every response, so that the filter can tell its answers from
    /// Envoy's own "no upstream" replies; stripped before the client sees it.
    pub const ANSWERED: &str = "x-tidegate-answered";

    /// Names a question that the sidecar was asked about, so that its answer can be stored.
    pub const TICKET: &str = "x-tidegate-ticket";
    /// Tokens that an answer used, set by the sidecar: `prompt,completion`; stripped before the
    /// client sees it.
    pub const USAGE: &str = "x-tidegate-usage";

    /// `hit`, `miss` or `bypass`.
    pub const CACHE: &str = "x-gateway-cache";
    /// `l1`, `redis` or `semantic`.
    pub const CACHE_LAYER: &str = "x-gateway-cache-layer";
    /// Cosine of the prompt and the one whose answer is served, 0 to 1.
    pub const CACHE_SIMILARITY: &str = "x-gateway-cache-similarity";
    /// Name of the stored answer that is served, for `POST /v1/cache/feedback`.
    pub const CACHE_ENTRY: &str = "x-gateway-cache-entry";
    /// Provider that answered.
    pub const PROVIDER: &str = "x-gateway-provider";
    /// Model that answered.
    pub const MODEL: &str = "x-gateway-model";
    /// The cluster of errors that a refusal answers.
    pub const CLUSTER: &str = "x-gateway-cluster";
    /// The policy that refused.
    pub const POLICY: &str = "x-gateway-policy";
    /// Which of the provider's API keys was used (`openai#1`), set by the sidecar where there are
    /// several; stripped before the client sees it.
    pub const PROVIDER_KEY: &str = "x-tidegate-provider-key";
    /// Upstream attempts made for this answer.
    pub const ATTEMPTS: &str = "x-gateway-attempts";
    /// Fields of the request that were left out for a provider that has no word for them.
    pub const DROPPED: &str = "x-gateway-dropped";
    /// Request id, made if absent, always echoed.
    pub const REQUEST_ID: &str = "x-request-id";
}

/// Paths on the sidecar's port that only the filter may call.
pub mod path {
    /// `GET ?have=<revision>&wait_ms=<n>`: the current [`crate::policy::Snapshot`] when its
    /// revision differs from `have`, else 304 after `wait_ms`.
    pub const SNAPSHOT: &str = "/internal/v1/snapshot";
    /// `POST` [`super::AuthenticateRequest`] answers [`super::Verdict`].
    pub const AUTHENTICATE: &str = "/internal/v1/authenticate";
    /// `POST` [`crate::event::Report`] answers 204.
    pub const EVENTS: &str = "/internal/v1/events";
    /// `POST` [`super::leases::LeaseRequest`] answers [`super::leases::LeaseAnswer`].
    pub const LEASES: &str = "/internal/v1/leases";
    /// `POST` [`super::LimitAnswers`] answers [`super::LimitQuestions`], as soon as there are any.
    pub const LIMITS: &str = "/internal/v1/limits";
    /// `POST` [`super::semantic::LookupHead`] and a chat: 200 with the answer to serve and its
    /// headers; or 204, with [`super::header::TICKET`] if a fresh answer may be stored and
    /// `cache-control: no-store` if no cache may keep it.
    pub const LOOKUP: &str = "/internal/v1/lookup";
    /// `POST` [`super::semantic::StoreHead`] and an answer: 204 once it was looked at.
    pub const STORE: &str = "/internal/v1/store";
}

/// Longest the sidecar holds a snapshot poll open, in milliseconds.
pub const SNAPSHOT_WAIT_MS_MAX: u64 = 20_000;
