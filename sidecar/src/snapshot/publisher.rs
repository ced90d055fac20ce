//! One watched value: the latest document.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::policy::{Invalid, Snapshot};
use tokio::sync::watch;

use super::Parts;

/// A document in force.
#[derive(Debug)]
pub struct Published {
    /// Its name.
    pub revision: String,
    /// What it says.
    pub snapshot: Snapshot,
    /// The document as filters read it.
    pub json: Bytes,
}

/// Puts documents in force and wakes those who wait for the next one.
#[derive(Debug)]
pub struct Publisher {
    latest: watch::Sender<Arc<Published>>,
}

impl Publisher {
    /// Puts the first document in force.
    ///
    /// # Errors
    /// A part that filters would refuse.
    pub fn start(parts: Parts) -> Result<Self, Invalid> {
        Ok(Self { latest: watch::Sender::new(Arc::new(written(parts)?)) })
    }

    /// Puts a document in force; false if it says what the last one says.
    ///
    /// # Errors
    /// A part that filters would refuse; the last good document stays in force.
    pub fn publish(&self, parts: Parts) -> Result<bool, Invalid> {
        let next = Arc::new(written(parts)?);
        Ok(self.latest.send_if_modified(|latest| {
            let changed = latest.revision != next.revision;
            if changed {
                *latest = next;
            }
            changed
        }))
    }

    /// The document in force.
    #[must_use]
    pub fn latest(&self) -> Arc<Published> {
        self.latest.borrow().clone()
    }

    /// The document in force as soon as it is another than `have`; `None` if that did not
    /// happen within `wait`, or when `draining` turns true, so that a poll delays no shutdown.
    pub async fn newer(
        &self,
        have: &str,
        wait: Duration,
        mut draining: watch::Receiver<bool>,
    ) -> Option<Arc<Published>> {
        let mut latest = self.latest.subscribe();
        let other = async {
            let found = latest.wait_for(|published| published.revision != have).await;
            found.ok().map(|published| published.clone())
        };
        tokio::select! {
            biased;
            found = other => found,
            _ = draining.wait_for(|draining| *draining) => None,
            () = tokio::time::sleep(wait) => None,
        }
    }
}

fn written(parts: Parts) -> Result<Published, Invalid> {
    let (snapshot, json) = parts.document()?;
    Ok(Published { revision: snapshot.revision.clone(), snapshot, json: json.into() })
}

#[cfg(test)]
mod tests {
    use tidegate_core::policy::{
        AuthPolicy, BreakerPolicy, BucketPolicy, DirectPolicy, L1Admission, L1Policy, Limits, SamplerPolicy,
    };

    use super::*;

    fn parts(rate: f64) -> Parts {
        let bucket = BucketPolicy { rate, burst: 1 };
        Parts {
            auth: AuthPolicy { generation: 1, anonymous_tenant: None, protect_other_routes: true },
            limits: Limits::of_requests(bucket, bucket),
            breaker: BreakerPolicy {
                failure_threshold: 1,
                window_ms: 1000,
                recovery_timeout_ms: 1000,
                recovery_increment: 0.2,
            },
            l1: L1Policy {
                enabled: false,
                bytes_max: 0,
                ttl_ms: 0,
                temperature_max: 1.0,
                allow_tools: false,
                admission: L1Admission::ScanResistant,
                generation: 0,
            },
            direct: DirectPolicy::default(),
            body_bytes_max: 1,
            sampler: SamplerPolicy { sampling_rate: 0.05, buffer_size: 1, region_headers: vec![] },
            slices: vec![],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_is_answered_by_a_change_and_by_nothing_else() {
        let publisher = Publisher::start(parts(1.0)).expect("valid");
        let (drain, draining) = watch::channel(false);
        let first = publisher.newer("", Duration::from_secs(9), draining.clone()).await.expect("at once");
        assert_eq!(Snapshot::parse(&first.json).expect("valid").revision, first.revision);
        assert!(!publisher.publish(parts(1.0)).expect("valid"), "the same content is no change");
        let idle = publisher.newer(&first.revision, Duration::from_secs(9), draining.clone()).await;
        assert!(idle.is_none());

        let poll = publisher.newer(&first.revision, Duration::from_secs(9), draining.clone());
        let (second, published) = tokio::join!(poll, async { publisher.publish(parts(2.0)) });
        assert_eq!(published, Ok(true));
        let second = second.expect("woken");
        assert_ne!(second.revision, first.revision);

        drain.send(true).expect("receivers");
        let forever = Duration::from_secs(u64::from(u32::MAX));
        assert!(publisher.newer(&second.revision, forever, draining).await.is_none());
    }

    #[test]
    fn a_bad_document_is_refused_and_the_last_good_one_stays() {
        let publisher = Publisher::start(parts(1.0)).expect("valid");
        let before = publisher.latest().revision.clone();
        let refused = publisher.publish(parts(f64::NAN)).expect_err("refused");
        assert_eq!(refused.field, "limits.rules[0].requests.rate");
        assert_eq!(publisher.latest().revision, before);
    }
}
