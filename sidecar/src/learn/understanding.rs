//! What errors mean: which are one incident, and of what kind. The learning loop only asks.

use std::sync::Arc;

use tidegate_core::incident::cluster::Trend;
use tidegate_core::incident::{ErrorKind, Signature, StatusClass};

use crate::clusters::Engine;

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Its kind.
    pub kind: ErrorKind,
    /// The class of its statuses.
    pub class: StatusClass,
    /// 0 to 100.
    pub severity: f64,
    /// Where its rate is going.
    pub trend: Trend,
    /// Masked messages, the most telling first.
    pub examples: Vec<String>,
}

/// Whoever knows.
pub trait Understanding: Send {
    /// The cluster that errors of a signature are in.
    fn cluster_of(&self, signature: Signature) -> Option<Arc<str>>;
    /// What is known of a cluster.
    fn about(&self, cluster: &str, now_ms: u64) -> Option<About>;
}

impl Understanding for Arc<Engine> {
    fn cluster_of(&self, signature: Signature) -> Option<Arc<str>> {
        Engine::cluster_of(self, signature).map(|id| Arc::from(id.as_str()))
    }

    fn about(&self, cluster: &str, now_ms: u64) -> Option<About> {
        let view = self.show(cluster, now_ms)?;
        Some(About {
            kind: view.kind,
            class: view.status_class,
            severity: view.severity,
            trend: view.trend,
            examples: view.examples.into_iter().map(|member| member.template).collect(),
        })
    }
}
