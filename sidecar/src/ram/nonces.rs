//! Nonces that were used, until their dates are too old anyway.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{ExistenceCheck, SetExpiry, SetOptions};

use crate::config::ram::AccessKey;
use crate::redis::Redis;

/// Most nonces remembered; at the default window of 15 minutes either way, 220 requests a second.
const NONCES_MAX: usize = 200_000;
/// Longest that a request waits for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(250);
/// Before a nonce in Redis.
const KEY_PREFIX: &str = "tidegate:nonce:";

/// Why a nonce cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpendError {
    /// It was used before.
    Spent,
    /// [`NONCES_MAX`] are remembered, none of which may be forgotten yet.
    Full,
}

/// Digest of access key and nonce.
type Id = [u8; 16];

#[derive(Debug, Default)]
struct Table {
    known: HashSet<Id>,
    by_end: BTreeSet<(u64, Id)>,
}

impl Table {
    fn spend(&mut self, id: Id, now_ms: u64, forget_at_ms: u64) -> Result<(), SpendError> {
        while let Some((end, oldest)) = self.by_end.first().copied().filter(|(end, _)| *end <= now_ms) {
            self.by_end.remove(&(end, oldest));
            self.known.remove(&oldest);
        }
        if self.known.contains(&id) {
            return Err(SpendError::Spent);
        }
        if self.known.len() >= NONCES_MAX {
            return Err(SpendError::Full);
        }
        self.known.insert(id);
        self.by_end.insert((forget_at_ms, id));
        Ok(())
    }
}

/// The nonces of this gateway; those of the fleet are in Redis.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<Table>);

impl Nonces {
    /// Uses a nonce up, here and in Redis. Without Redis, or while it is away, only here.
    pub async fn spend(
        &self,
        key: &AccessKey,
        nonce: &str,
        now_ms: u64,
        forget_at_ms: u64,
        redis: Option<&Redis>,
    ) -> Result<(), SpendError> {
        let id = id(&key.id, nonce);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spend(id, now_ms, forget_at_ms)?;
        let Some(redis) = redis else { return Ok(()) };
        let name = format!("{KEY_PREFIX}{:032x}", u128::from_be_bytes(id));
        let once = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::PX(forget_at_ms.saturating_sub(now_ms).max(1)));
        let set = redis.run_within(REDIS_TIMEOUT, |mut link| async move {
            redis::cmd("SET").arg(name).arg(1).arg(once).query_async::<Option<String>>(&mut link).await
        });
        match set.await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(SpendError::Spent),
            Err(error) => {
                tracing::debug!(%error, "a nonce was checked in this gateway alone");
                Ok(())
            }
        }
    }
}

fn id(access_key: &str, nonce: &str) -> Id {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    // Neither holds a zero byte: both came in a header.
    for part in [access_key, "\0", nonce] {
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_each_key_until_it_is_forgotten() {
        let mut table = Table::default();
        let (a, b) = (id("A", "n"), id("B", "n"));
        assert_ne!(a, b);
        assert_eq!(table.spend(a, 0, 100), Ok(()));
        assert_eq!(table.spend(b, 0, 100), Ok(()));
        assert_eq!(table.spend(a, 99, 199), Err(SpendError::Spent));
        assert_eq!(table.spend(a, 100, 200), Ok(()));
        assert_eq!((table.known.len(), table.by_end.len()), (1, 1));
    }

    #[test]
    fn a_full_table_refuses_rather_than_forgets() {
        let mut table = Table::default();
        for n in 0..NONCES_MAX as u128 {
            assert_eq!(table.spend(n.to_be_bytes(), 0, 100), Ok(()));
        }
        assert_eq!(table.spend([255; 16], 0, 100), Err(SpendError::Full));
        assert_eq!(table.spend(0_u128.to_be_bytes(), 0, 100), Err(SpendError::Spent));
        assert_eq!(table.spend([255; 16], 100, 200), Ok(()));
    }
}
