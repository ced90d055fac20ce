//! The configuration: a strict YAML document becomes one validated value, or a list of
//! everything that is wrong with it.
//!
//! Each section has a file with its document (what may be written, all optional), its validated
//! type (nothing optional that has a default) and the step between them, which takes the
//! document apart field by field, so that a new field does not compile until it is checked.

pub mod auth;
pub mod breaker;
pub mod bus;
pub mod cache;
mod cache_l2;
pub mod clustering;
pub mod embedding;
pub mod etcd;
pub mod jwt;
pub mod kafka;
pub mod limiter;
pub mod logging;
pub mod metrics;
pub mod pem;
pub mod policy;
pub mod problem;
pub mod providers;
pub mod ram;
pub mod redis;
#[cfg(test)]
mod reference_tests;
pub mod routing;
pub mod sampler;
pub mod security;
pub mod server;
mod source;
pub mod store;
mod structure;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tracing;
pub mod upstream;
pub mod value;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tidegate_core::policy::{
    BreakerPolicy, CALLOUT_MS_MAX, CalloutPolicy, DirectPolicy, L1Policy, SamplerPolicy,
};

pub use problem::{Problem, Problems};
pub use value::Env;

use crate::clusters;
use crate::embedding::Settings as EmbeddingSettings;
use crate::l2::Settings as L2Settings;
use crate::llm::ProviderSettings;
use crate::llm::routing::RoutingSettings;
use crate::provisioning::Document;
use crate::secret::Secret;

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What a filter that asks the semantic cache waits longer than an embedding may take.
const CALLOUT_MARGIN: Duration = Duration::from_millis(25);

/// A configuration that can be put in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners, Envoy and the process.
    pub server: server::Server,
    /// How much callers may call.
    pub limiter: limiter::Limiter,
    /// When a failing route is left alone.
    pub breaker: BreakerPolicy,
    /// The exact cache inside Envoy.
    pub l1: L1Policy,
    /// The semantic cache.
    pub l2: L2Settings,
    /// How errors are told apart.
    pub clustering: clusters::Settings,
    /// The embedding model.
    pub embedding: EmbeddingSettings,
    /// What filters tell of failures.
    pub sampler: SamplerPolicy,
    /// What is done about incidents.
    pub incidents: policy::Incidents,
    /// How what filters tell reaches whoever learns from it.
    pub bus: bus::Bus,
    /// Where state is kept.
    pub store: store::Store,
    /// What the gateways share.
    pub redis: Option<redis::RedisSettings>,
    /// Who answers LLM requests.
    pub providers: Vec<ProviderSettings>,
    /// The same as they are written, for what is laid on them at run time.
    pub provider_documents: Vec<Document>,
    /// Which of them answers what.
    pub routing: RoutingSettings,
    /// The same as it is written.
    pub routing_document: serde_json::Map<String, serde_json::Value>,
    /// Who may call.
    pub auth: auth::Auth,
    /// The metrics page.
    pub metrics: metrics::Metrics,
    /// The log.
    pub logging: logging::Logging,
    /// What Envoy does for the safety of clients.
    pub security: security::Security,
    /// Where spans go, if they are recorded.
    pub tracing: Option<tracing::Tracing>,
    /// Sections of the file that were checked, but that nothing uses.
    pub without_effect: Vec<&'static str>,
}

impl Config {
    /// What the filter does for LLM requests that Envoy sends to the operator's own upstreams.
    #[must_use]
    pub fn direct(&self) -> DirectPolicy {
        let upstreams = self.server.upstreams.iter().filter(|upstream| upstream.api.is_some());
        let deadline = self.embedding.deadline + CALLOUT_MARGIN;
        let callout = CalloutPolicy {
            deadline_ms: breaker::millis(deadline).min(CALLOUT_MS_MAX),
            temperature_max: self.l2.temperature_max,
            allow_tools: self.l2.allow_tools,
            has_secrets: !self.l2.never_store.is_empty(),
        };
        DirectPolicy {
            prefixes: upstreams.map(|upstream| upstream.prefix.clone()).collect(),
            callout: (self.l2.enabled && self.l2.callout).then_some(callout),
        }
    }

    /// Sections in which `next` differs, but which are read at the start alone.
    #[must_use]
    pub fn restart_needed_for(&self, next: &Self) -> Vec<&'static str> {
        let Self {
            server,
            limiter: _,
            breaker: _,
            l1: _,
            l2,
            clustering,
            embedding,
            sampler: _,
            incidents: _,
            bus,
            store,
            redis,
            providers: _,
            provider_documents: _,
            routing: _,
            routing_document: _,
            auth: _,
            metrics,
            logging,
            security,
            tracing,
            without_effect: _,
        } = self;
        [
            ("server", *server != next.server),
            ("cache.l2", *l2 != next.l2),
            ("clustering", *clustering != next.clustering),
            ("embedding", *embedding != next.embedding),
            ("bus", *bus != next.bus),
            ("store", *store != next.store),
            ("redis", *redis != next.redis),
            ("metrics", *metrics != next.metrics),
            ("logging", *logging != next.logging),
            ("security", *security != next.security),
            ("tracing", *tracing != next.tracing),
        ]
        .into_iter()
        .filter_map(|(section, differs)| differs.then_some(section))
        .collect()
    }
}

/// The file as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sections {
    server: Option<server::Document>,
    limiter: Option<limiter::Document>,
    breaker: Option<breaker::Document>,
    cache: Option<cache::Document>,
    clustering: Option<clustering::Document>,
    embedding: Option<embedding::Document>,
    store: Option<store::Document>,
    redis: Option<redis::Document>,
    providers: Option<Vec<Option<providers::Document>>>,
    routing: Option<routing::Document>,
    auth: Option<auth::Document>,
    metrics: Option<metrics::Document>,
    logging: Option<logging::Document>,
    sampler: Option<sampler::Document>,
    policy: Option<policy::Document>,
    bus: Option<bus::Document>,
    kafka: Option<kafka::Document>,
    etcd: Option<etcd::Document>,
    security: Option<security::Document>,
    discovery: Option<Nothing>,
    tracing: Option<tracing::Document>,
}

/// A section without a field.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Nothing {}

/// What every section's validation works with.
pub struct Check<'a> {
    /// Everything found wrong so far.
    pub problems: Problems,
    /// Variables for `${NAME}` in secrets and paths.
    pub env: &'a Env,
}

impl Check<'_> {
    /// Text with its variables replaced; a missing variable is a problem of `path`.
    pub fn expanded(&mut self, path: &str, text: &str) -> String {
        value::expand(text, self.env).unwrap_or_else(|what| {
            self.problems.add(path, what);
            String::new()
        })
    }

    /// A key for others' servers, which has to fit into a header.
    pub fn key(&mut self, path: String, key: &Secret) -> Secret {
        let key = self.expanded(&path, key.expose());
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            self.problems.add(path, "must be 1 or more visible ASCII characters, without spaces");
        }
        Secret::new(key)
    }

    /// A tenant, key or provider name.
    pub fn name(&mut self, path: &str, name: String) -> String {
        if !tidegate_core::wire::is_name(&name) {
            self.problems.add(path, "must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        name
    }

    /// Items of a list, with their paths. An empty item is a problem, unless it is what was left
    /// of one that was noted already.
    pub fn items<T>(&mut self, path: &str, list: Option<Vec<Option<T>>>, max: usize) -> Vec<(String, T)> {
        let list = list.unwrap_or_default();
        if list.len() > max {
            self.problems.add(path, format!("has {} items; at most {max} are allowed", list.len()));
        }
        let mut items = Vec::with_capacity(list.len().min(max));
        for (index, item) in list.into_iter().take(max).enumerate() {
            let path = format!("{path}[{index}]");
            match item {
                Some(item) => items.push((path, item)),
                None => self.problems.add(path, "is empty; fill it in or remove it"),
            }
        }
        items
    }
}

/// Reads, overrides and validates the configuration file at `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its YAML path.
pub fn load(path: &Path, env: &Env) -> Result<Config, Problems> {
    let refused = |what: String| {
        let mut problems = Problems::default();
        problems.add("document", what);
        problems
    };
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return Err(refused(format!("{shown} is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(_) => {}
        Err(error) => {
            return Err(refused(format!("cannot read {shown}: {error}; name a file with --config")));
        }
    }
    let yaml = std::fs::read_to_string(path).map_err(|e| refused(format!("cannot read {shown}: {e}")))?;
    parse(&yaml, env)
}

/// Overrides and validates a configuration text.
///
/// # Errors
/// Everything that is wrong with it, each with its YAML path.
pub fn parse(yaml: &str, env: &Env) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let tree = source::tree(yaml, env, &mut problems);
    let provider_documents = Document::of_section(tree.get("providers"));
    let routing_document = match tree.get("routing").map(serde_json::to_value) {
        Some(Ok(serde_json::Value::Object(fields))) => fields,
        _ => serde_json::Map::new(),
    };
    let Sections {
        server,
        limiter,
        breaker,
        cache,
        clustering,
        embedding,
        store,
        redis,
        providers,
        routing,
        auth,
        metrics,
        logging,
        sampler,
        policy,
        bus,
        kafka,
        etcd,
        security,
        discovery,
        tracing,
    } = structure::read(tree, &mut problems);
    let has = [("kafka", kafka.is_some()), ("etcd", etcd.is_some())];
    let later = structure::LATER.into_iter().zip([discovery]);
    let later = later.filter_map(|(section, there)| there.map(|_| section));
    let mut check = Check { problems, env };
    let server = server::validate(server.unwrap_or_default(), &mut check);
    let (l1, l2) = cache::validate(cache.unwrap_or_default(), redis.is_some(), &mut check);
    let mut config = Config {
        limiter: limiter.unwrap_or_default().validate(
            "limiter",
            &server.trusted_proxies,
            &mut check.problems,
        ),
        breaker: breaker::validate(breaker.unwrap_or_default(), &mut check.problems),
        l1,
        l2,
        clustering: clustering::validate(clustering.unwrap_or_default(), &mut check),
        embedding: embedding::validate(embedding.unwrap_or_default(), &mut check),
        sampler: sampler::validate(sampler.unwrap_or_default(), &mut check.problems),
        incidents: policy::validate(policy.unwrap_or_default(), &mut check),
        bus: bus::validate(bus.unwrap_or_default(), kafka, &mut check.problems),
        store: store::validate(store.unwrap_or_default(), etcd, &mut check),
        redis: redis::validate(redis, &mut check),
        providers: providers::validate(providers, &mut check),
        provider_documents,
        routing_document,
        routing: routing::validate("routing", routing.unwrap_or_default(), &mut check.problems),
        auth: auth::validate(auth.unwrap_or_default(), &server, &mut check),
        metrics: metrics::validate(metrics.unwrap_or_default(), &server, &mut check),
        logging: logging::validate(logging.unwrap_or_default()),
        tracing: tracing::validate(tracing.unwrap_or_default(), &mut check),
        security: security::validate(security.unwrap_or_default(), &server, &mut check),
        without_effect: Vec::new(),
        server,
    };
    let is_used = [("kafka", config.bus.kafka.is_some()), ("etcd", config.store.etcd.is_some())];
    let idle = has.into_iter().zip(is_used).filter(|((_, there), (_, used))| *there && !used);
    config.without_effect = idle.map(|((section, _), _)| section).chain(later).collect();
    if check.problems.is_empty() { Ok(config) } else { Err(check.problems) }
}
