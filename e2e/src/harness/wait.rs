//! Waiting for a condition, never for a while.

use std::future::Future;
use std::time::{Duration, Instant};

use super::error::HarnessError;

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value.
///
/// # Errors
/// It gave none within `deadline`; the error says that `what` did not happen.
pub async fn eventually<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> Result<T, HarnessError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            return Err(HarnessError::Deadline(format!("{what}: not within {deadline:?}")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
