//! Looks after the gateway's certificates: when their files change and are good, Envoy is told.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::tls::Tls;
use crate::envoy_config::Secrets;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What changes when a file is written or replaced: device, inode, size and time of change (ns).
type Stamp = Option<(u64, u64, u64, i64)>;

/// Tells Envoy of new certificates, for ever. Files that are wrong are named in the log, and Envoy
/// goes on with those it has.
pub async fn watch(tls: Tls, secrets: Secrets) {
    let mut known = stamps(&tls);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = stamps(&tls);
        if found != known {
            known = found;
            renew(&tls, &secrets);
        }
    }
}

fn renew(tls: &Tls, secrets: &Secrets) {
    if let Err(problems) = tls.recheck() {
        for problem in problems.list() {
            tracing::error!(%problem, "new certificates are not used; the last good ones stay");
        }
        return;
    }
    match secrets.publish(tls) {
        Ok(()) => tracing::info!("certificates changed; Envoy reads them again"),
        Err(error) => tracing::error!(%error, "Envoy could not be told of new certificates"),
    }
}

fn stamps(tls: &Tls) -> [Stamp; 3] {
    let files = [Some(&tls.cert_path), Some(&tls.key_path), tls.client_ca_path.as_ref()];
    files.map(|file| file.and_then(|path| stamp(path)))
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    let changed_ns = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), changed_ns))
}
