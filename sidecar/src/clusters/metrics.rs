//! What the metrics page says of clusters: at most as many series as there may be clusters.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Engine, now_ms};

#[derive(Debug)]
pub(super) struct ClusterMetrics(pub(super) Arc<Engine>);

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let clusters = self.0.list(now_ms());
        let help = "Errors of a cluster so far";
        let mut sizes = encoder.encode_descriptor("gateway_cluster_size", help, None, MetricType::Gauge)?;
        for cluster in &clusters {
            let labels = [("cluster", cluster.id.as_str()), ("kind", cluster.kind.as_str())];
            sizes.encode_family(&labels)?.encode_gauge(&cluster.members)?;
        }
        let help = "Severity of a cluster, 0 to 100";
        let mut severities =
            encoder.encode_descriptor("gateway_cluster_severity", help, None, MetricType::Gauge)?;
        for cluster in &clusters {
            let labels = [("cluster", cluster.id.as_str()), ("kind", cluster.kind.as_str())];
            severities.encode_family(&labels)?.encode_gauge(&cluster.severity)?;
        }
        Ok(())
    }
}
