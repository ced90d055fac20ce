//! Clusters as they are shown.

use serde::Serialize;
use tidegate_core::incident::cluster::{Cluster, ClusterId, Member, Severity, Trend};
use tidegate_core::incident::{ErrorKind, Source, StatusClass};

use super::{Engine, State};

/// Values are shown to the thousandth.
const STEPS: f64 = 1000.0;

/// A cluster, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub id: ClusterId,
    /// Its most telling template.
    pub title: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// How sure that is, 0 to 1.
    pub score: f64,
    /// The meaning among the exemplars, if one was found.
    pub meaning: Option<String>,
    /// The class of the statuses.
    pub status_class: StatusClass,
    /// Who said that something failed.
    pub source: Source,
    /// Errors so far.
    pub members: u64,
    /// Errors a second, now.
    pub rate: f64,
    /// Share of all requests that end so, 0 to 1.
    pub share: f64,
    /// Where the rate is going.
    pub trend: Trend,
    /// 0 to 100.
    pub severity: f64,
    /// The same in a word.
    pub severity_level: Severity,
    /// Tenants hit; of more than 64, 64.
    pub tenants: u64,
    /// Providers whose answers they were.
    pub providers: Vec<String>,
    /// The first error, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// The last error, in milliseconds since 1970.
    pub last_seen_ms: u64,
    /// Masked messages, those seen most.
    pub examples: Vec<Member>,
}

/// All clusters together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    /// Clusters.
    pub clusters: usize,
    /// Errors so far.
    pub members: u64,
    /// Errors a second, now.
    pub rate: f64,
    /// Requests a second, now.
    pub requests: f64,
}

impl ClusterView {
    /// Adds what another sidecar has counted of the same cluster.
    pub(super) fn add(&mut self, other: &Self) {
        self.members += other.members;
        self.rate = rounded(self.rate + other.rate);
        self.share = self.share.max(other.share);
        self.severity = self.severity.max(other.severity);
        self.severity_level = Severity::of(self.severity);
        self.tenants = self.tenants.max(other.tenants);
        self.first_seen_ms = self.first_seen_ms.min(other.first_seen_ms);
        self.last_seen_ms = self.last_seen_ms.max(other.last_seen_ms);
        let new = other.providers.iter().filter(|name| !self.providers.contains(name)).cloned();
        self.providers.extend(new.collect::<Vec<_>>());
    }
}

impl Engine {
    /// All clusters of this sidecar, the worst first.
    #[must_use]
    pub fn list(&self, now_ms: u64) -> Vec<ClusterView> {
        let state = self.state();
        let mut views: Vec<ClusterView> =
            state.clusters.iter().map(|cluster| state.view(cluster, now_ms)).collect();
        views.sort_by(|a, b| b.severity.total_cmp(&a.severity).then(b.members.cmp(&a.members)));
        views
    }

    /// The cluster of that name, as this sidecar counts it.
    #[must_use]
    pub fn show(&self, id: &str, now_ms: u64) -> Option<ClusterView> {
        let state = self.state();
        state
            .clusters
            .iter()
            .find(|cluster| cluster.id.as_str() == id)
            .map(|cluster| state.view(cluster, now_ms))
    }

    /// All clusters together.
    #[must_use]
    pub fn totals(&self, now_ms: u64) -> Totals {
        let state = self.state();
        Totals {
            clusters: state.clusters.iter().count(),
            members: state.clusters.iter().map(|cluster| cluster.members).sum(),
            rate: rounded(state.clusters.iter().map(|cluster| cluster.activity.rate(now_ms)).sum()),
            requests: rounded(state.requests.rate(now_ms)),
        }
    }
}

impl State {
    pub(super) fn view(&self, cluster: &Cluster, now_ms: u64) -> ClusterView {
        let rate = cluster.activity.rate(now_ms);
        let breadth = self.breadth(&cluster.id, rate, now_ms);
        let severity = cluster.severity(breadth, now_ms);
        let mut examples = cluster.templates.clone();
        examples.sort_by_key(|member| std::cmp::Reverse(member.count));
        ClusterView {
            id: cluster.id.clone(),
            title: cluster.title().to_owned(),
            kind: cluster.kind,
            score: rounded(f64::from(cluster.score)),
            meaning: cluster.meaning.clone(),
            status_class: cluster.partition.class,
            source: cluster.partition.source,
            members: cluster.members,
            rate: rounded(rate),
            share: rounded(breadth.share),
            trend: cluster.activity.trend(now_ms),
            severity: rounded(severity),
            severity_level: Severity::of(severity),
            tenants: breadth.tenants,
            providers: self.hit.get(&cluster.id).map(|hit| hit.providers.clone()).unwrap_or_default(),
            first_seen_ms: cluster.first_seen_ms,
            last_seen_ms: cluster.last_seen_ms,
            examples,
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * STEPS).round() / STEPS
}
