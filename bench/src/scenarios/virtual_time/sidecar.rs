//! The sidecar's learning loop, with time as an argument.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tidegate::bus::Envelope;
use tidegate::clusters::Engine;
use tidegate::config::{Config, Env, parse};
use tidegate::embedding::Embedder;
use tidegate::learn::{Learner, Seen, Settings, carry_out, understand};
use tidegate::policies::{Book, Limits, Record};
use tidegate::snapshot::Parts;
use tidegate::store::Store;
use tidegate_core::event::Report;
use tidegate_core::policy::{AuthPolicy, BucketPolicy, DirectPolicy, L1Admission, L1Policy, Limits as Rates};

use super::super::file::Scenario;
use crate::error::BenchError;

/// What nobody comes near, in requests per second.
const RATE: f64 = 1e6;

/// The loop and what it has decided.
pub(super) struct Sidecar {
    config: Config,
    clusters: Arc<Engine>,
    learner: Learner<Arc<Engine>>,
    seen: Seen,
    book: Book,
    revision: String,
    document: Vec<u8>,
    _folder: TempDir,
}

impl Sidecar {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::doing("a folder for the store"))?;
        let config = parse(&scenario.config, &Env::new()).map_err(BenchError::doing("the configuration"))?;
        let store = Store::open(&folder.path().join("store.redb")).map_err(BenchError::doing("the store"))?;
        let embedder = Arc::new(Embedder::start(config.embedding.clone(), &mut Registry::default()));
        let mut clustering = config.clustering.clone();
        // The model takes real time, and is one witness of five.
        clustering.embedding = false;
        let clusters = Engine::start(clustering, embedder, Arc::new(store), &mut Registry::default())
            .map_err(|error| BenchError::new(error.to_string()))?;
        let learner = Learner::new(Arc::clone(&clusters));
        let (revision, document) = (String::new(), Vec::new());
        let (seen, book) = (Seen::default(), Book::default());
        let mut sidecar = Self { config, clusters, learner, seen, book, revision, document, _folder: folder };
        sidecar.publish()?;
        Ok(sidecar)
    }

    /// The document in force, if it is not the one of that revision.
    pub(super) fn document(&self, have: &str) -> Option<&[u8]> {
        (self.revision != have).then_some(self.document.as_slice())
    }

    /// The policies.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.book.records()
    }

    /// Takes a filter's report.
    pub(super) async fn hear(&mut self, report: Report, now_ms: u64) -> Result<(), BenchError> {
        let Some(batch) = report.batch else { return Ok(()) };
        let envelope = Envelope { vm: report.vm, batch };
        if !self.seen.take(&envelope.vm, envelope.batch.number) {
            return Ok(());
        }
        understand(&self.clusters, &envelope, None, now_ms).await;
        for note in self.learner.take(envelope, now_ms) {
            if let Some(ended) = self.book.note(&note, now_ms) {
                self.learner.forget(&ended.cluster_id);
                self.publish()?;
            }
        }
        Ok(())
    }

    /// Decides what is to be done.
    pub(super) fn decide(&mut self, now_ms: u64) -> Result<(), BenchError> {
        let incidents = self.config.incidents.clone();
        let limits = Limits {
            traffic_share_max: incidents.traffic_share_max,
            changes_per_minute: incidents.changes_per_minute,
        };
        let settings = Settings { incidents, breaker: self.config.breaker };
        let standing: Vec<Record> = self.book.records().cloned().collect();
        let decisions = self.learner.decide(&standing, &settings, &|_| Vec::new(), now_ms);
        let is_over = self.book.expire(now_ms);
        let (decided, lifted) = carry_out(decisions, &mut self.book, limits, now_ms);
        lifted.iter().for_each(|record| self.learner.forget(&record.cluster_id));
        if is_over || decided { self.publish() } else { Ok(()) }
    }

    fn publish(&mut self) -> Result<(), BenchError> {
        let rate = BucketPolicy { rate: RATE, burst: RATE as u64 };
        let parts = Parts {
            auth: AuthPolicy { generation: 1, anonymous_tenant: None, protect_other_routes: true },
            limits: Rates::of_requests(rate, rate),
            breaker: self.config.breaker,
            l1: L1Policy {
                enabled: false,
                bytes_max: 1 << 20,
                ttl_ms: 60_000,
                temperature_max: 1.0,
                allow_tools: false,
                admission: L1Admission::ScanResistant,
                generation: 0,
            },
            direct: DirectPolicy::default(),
            body_bytes_max: 1 << 20,
            sampler: self.config.sampler.clone(),
            slices: self.book.slices(),
        };
        let (snapshot, document) =
            parts.document().map_err(|invalid| BenchError::new(format!("{invalid:?}")))?;
        (self.revision, self.document) = (snapshot.revision, document);
        Ok(())
    }
}
