//! Pools in Redis.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::Script;
use tidegate_core::wire::leases::{LeaseAnswer, LeaseGrant, LeaseRequest};

use super::GATEWAY_LIFE;
use crate::redis::{self, CallError, Redis};

/// Before every key; the braces keep all of them in one slot of a cluster.
const KEY_PREFIX: &str = "{tidegate:leases}";
/// How long a gateway that came to a pool counts as one of several.
const CONTEST: Duration = Duration::from_secs(1);
/// Gateways remembered of one pool.
const VISITORS_MAX: usize = 32;
/// Longest that a filter's call waits for Redis; the filter gives up after two seconds.
const LONGEST: Duration = Duration::from_millis(1_500);

static SCRIPT: LazyLock<Script> = LazyLock::new(|| redis::script("lease"));

/// One exchange.
pub async fn exchange(redis: &Redis, request: &LeaseRequest) -> Result<LeaseAnswer, CallError> {
    let mut call = SCRIPT.prepare_invoke();
    call.key(format!("{KEY_PREFIX}:gateways"));
    call.arg(format!("{:016x}", request.gateway));
    call.arg(micros(GATEWAY_LIFE)).arg(micros(CONTEST)).arg(VISITORS_MAX);
    for ask in &request.asks {
        call.key(format!("{KEY_PREFIX}:{:016x}", ask.pool));
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits than a float has")]
        let interval_us = ask.interval_ns as f64 / 1000.0;
        call.arg(interval_us).arg(ask.burst).arg(ask.ask).arg(ask.back);
    }
    let words: Vec<u64> =
        redis.run_within(LONGEST, |mut link| async move { call.invoke_async(&mut link).await }).await?;
    Ok(read(request, &words))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn read(request: &LeaseRequest, words: &[u64]) -> LeaseAnswer {
    let (gateways, rest) = words.split_first().map_or((1, words), |(first, rest)| (*first, rest));
    let (pairs, _) = rest.as_chunks::<2>();
    let grants = request.asks.iter().zip(pairs).map(|(ask, [tokens, full_in_us])| LeaseGrant {
        pool: ask.pool,
        tokens: *tokens,
        full_in_ns: full_in_us.saturating_mul(1000),
    });
    LeaseAnswer {
        is_leased: true,
        gateways: u32::try_from(gateways).unwrap_or(u32::MAX).max(1),
        grants: grants.collect(),
    }
}
