//! What the handlers share.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::attempts::Attempts;
use crate::bus::Bus;
use crate::clusters::Engine;
use crate::control::Control;
use crate::embedding::Embedder;
use crate::l2::SemanticCache;
use crate::leases::Leases;
use crate::limits::{Ledger, Probe};
use crate::llm::Providers;
use crate::login::Login;
use crate::metrics::FilterStats;
use crate::provisioning::Provisioning;
use crate::redis::Redis;
use crate::secret::Secret;
use crate::trace::Tracer;

/// One running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// What can change, and changes it.
    pub control: Arc<Control>,
    /// What the gateways share, if the configuration has it.
    pub redis: Option<Redis>,
    /// Limits that gateways share.
    pub leases: Leases,
    /// Who answers LLM requests.
    pub providers: Arc<Providers>,
    /// What fails, and what it means.
    pub clusters: Arc<Engine>,
    /// Changes who does.
    pub provisioning: Arc<Provisioning>,
    /// Texts as vectors.
    pub embedder: Arc<Embedder>,
    /// Answers to questions asked before in other words.
    pub cache: Arc<SemanticCache>,
    /// Where what the filters observe goes.
    pub bus: Bus,
    /// What the filters count.
    pub filters: Arc<FilterStats>,
    /// Everything on the metrics page.
    pub registry: Registry,
    /// The secret shared with Envoy and the filter.
    pub token: Secret,
    /// When this process started.
    pub started: Instant,
    /// Turns true when the process has been told to stop.
    pub draining: watch::Receiver<bool>,
    /// Checks passwords.
    pub login: Login,
    /// Bad credentials by where they came from.
    pub guesses: Attempts,
    /// What was used.
    pub ledger: Arc<Ledger>,
    /// Asks filters what their buckets hold.
    pub probe: Probe,
    /// Records spans, if there is a collector.
    pub tracer: Option<Tracer>,
}

impl Gateway {
    /// Whether the process has been told to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
