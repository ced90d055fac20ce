//! The metrics page: one registry for the sidecar's own numbers and the filters'.

mod filter;
mod page;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use filter::{FilterStats, ReportError, VmStatus};
pub use page::{CONTENT_TYPE, page};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// Counters of changes.
#[derive(Debug, Clone)]
pub struct ControlMetrics {
    /// Documents put in force.
    pub published: Counter,
    /// Documents that filters would have refused.
    pub publish_refused: Counter,
    /// Configuration files read again and put in force.
    pub reloaded: Counter,
    /// Configuration files refused.
    pub reload_refused: Counter,
}

impl ControlMetrics {
    /// Makes the counters known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let publications = Family::<ByResult, Counter>::default();
        let reloads = Family::<ByResult, Counter>::default();
        registry.register(
            "gateway_snapshot_publications",
            "Policy documents put in force by the sidecar",
            publications.clone(),
        );
        registry.register("gateway_config_reloads", "Reloads of the configuration file", reloads.clone());
        let of =
            |family: &Family<ByResult, Counter>, result| family.get_or_create_owned(&ByResult { result });
        Self {
            published: of(&publications, "ok"),
            publish_refused: of(&publications, "refused"),
            reloaded: of(&reloads, "ok"),
            reload_refused: of(&reloads, "refused"),
        }
    }
}

/// Makes the build known to `registry`.
pub fn register_build(registry: &mut Registry) {
    let labels = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("gateway_build", "Version of the running sidecar", Info::new(labels));
}
