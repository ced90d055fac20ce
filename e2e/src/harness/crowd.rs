//! Callers that ask at rates of their own, whatever the answers are.

use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::client::Client;
use super::fleet::Tally;

/// Connections of a caller to one gateway, for each so many requests a second.
const PER_CONNECTION: f64 = 100.0;

/// One of the crowd.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Its API key.
    pub key: &'a str,
    /// Requests a second, over all gateways.
    pub per_second: f64,
}

/// Lets all callers ask all of `urls` for so long; what became of each one's requests.
pub async fn crowd(urls: &[String], callers: &[Caller<'_>], length: Duration) -> Vec<Tally> {
    let end = Instant::now() + length;
    let mut sending = JoinSet::new();
    for (index, caller) in callers.iter().enumerate() {
        let connections = (caller.per_second / PER_CONNECTION).ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few connections")]
        let senders = urls.iter().flat_map(|url| (0..connections as usize).map(move |_| url));
        let count = connections * f64::from(u32::try_from(urls.len()).unwrap_or(1));
        let pause = Duration::from_secs_f64(count / caller.per_second);
        for (number, url) in senders.enumerate() {
            let first = Instant::now() + pause.mul_f64(f64::from(u32::try_from(number).unwrap_or(0)) / count);
            let (client, url) = (Client::new().with_key(caller.key), url.clone());
            sending.spawn(async move { (index, send(client, url, first, pause, end).await) });
        }
    }
    let mut tallies = vec![Tally::default(); callers.len()];
    while let Some(part) = sending.join_next().await {
        if let Ok((index, tally)) = part
            && let Some(all) = tallies.get_mut(index)
        {
            *all += tally;
        }
    }
    tallies
}

/// Sends at even intervals until the end.
pub(super) async fn send(
    client: Client,
    url: String,
    first: Instant,
    pause: Duration,
    end: Instant,
) -> Tally {
    let mut tally = Tally::default();
    let mut ticks = interval_at(first, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while ticks.tick().await < end {
        match client.get(&url).await.map(|answer| answer.status) {
            Ok(StatusCode::OK) => tally.admitted += 1,
            Ok(StatusCode::TOO_MANY_REQUESTS) => tally.refused += 1,
            Ok(_) | Err(_) => tally.failed += 1,
        }
    }
    tally
}
