//! Guessing is slowed down by where it comes from.
//!
//! Each place has a bucket of attempts that refills steadily; a good attempt is given back, so
//! that only bad ones count. Memory is bounded: beyond [`PLACES_MAX`] places with recent failures,
//! further ones share one bucket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Most places with a bucket of their own.
pub const PLACES_MAX: usize = 10_000;
/// Least time between two clean-ups of a full table, in milliseconds.
const CLEANUP_INTERVAL_MS: u64 = 1000;

/// Where an attempt comes from: an IPv4 address, or an IPv6 network of 64 bits, which is what one
/// customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// An address or its network.
    At(IpAddr),
    /// Not known.
    Unknown,
}

impl Place {
    /// Reads an address.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::At(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            Ok(address) => Self::At(address),
            Err(_) => Self::Unknown,
        }
    }
}

/// How many bad attempts are too many.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// At once.
    pub burst: u64,
    /// One more after this many milliseconds.
    pub interval_ms: u64,
}

/// When each bucket is full again, in milliseconds since 1970 (the generic cell rate algorithm).
#[derive(Debug, Default)]
struct Table {
    full_at_ms: HashMap<Place, u64>,
    shared_full_at_ms: u64,
    cleaned_at_ms: u64,
}

/// Recent bad attempts by place.
#[derive(Debug)]
pub struct Attempts {
    allowance: Allowance,
    table: Mutex<Table>,
}

impl Attempts {
    /// Nobody has tried anything yet.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, table: Mutex::default() }
    }

    /// Takes an attempt.
    ///
    /// # Errors
    /// There is none left; the number of milliseconds until there is.
    pub fn take(&self, place: Place, now_ms: u64) -> Result<(), u64> {
        let Allowance { burst, interval_ms } = self.allowance;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at_ms = table.bucket(place, now_ms);
        let next = (*full_at_ms).max(now_ms).saturating_add(interval_ms);
        let latest = now_ms.saturating_add(burst.saturating_mul(interval_ms));
        if next > latest {
            return Err(next - latest);
        }
        *full_at_ms = next;
        Ok(())
    }

    /// The attempt was good, so it does not count.
    pub fn give_back(&self, place: Place, now_ms: u64) {
        let interval_ms = self.allowance.interval_ms;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at_ms = table.bucket(place, now_ms);
        *full_at_ms = full_at_ms.saturating_sub(interval_ms);
    }
}

impl Table {
    fn bucket(&mut self, place: Place, now_ms: u64) -> &mut u64 {
        if self.full_at_ms.len() >= PLACES_MAX && !self.full_at_ms.contains_key(&place) {
            if now_ms.saturating_sub(self.cleaned_at_ms) >= CLEANUP_INTERVAL_MS {
                self.cleaned_at_ms = now_ms;
                self.full_at_ms.retain(|_, full_at_ms| *full_at_ms > now_ms);
            }
            if self.full_at_ms.len() >= PLACES_MAX {
                return &mut self.shared_full_at_ms;
            }
        }
        self.full_at_ms.entry(place).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { burst: 3, interval_ms: 100 };

    #[test]
    fn bad_attempts_run_out_come_back_with_time_and_good_ones_do_not_count() {
        let attempts = Attempts::new(ALLOWANCE);
        let place = Place::of("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(attempts.take(place, 1000), Ok(()));
        }
        assert_eq!(attempts.take(place, 1000), Err(100));
        assert_eq!(attempts.take(place, 1099), Err(1), "who waits as told gets in");
        assert_eq!(attempts.take(place, 1100), Ok(()));
        assert_eq!(attempts.take(Place::of("192.0.2.2"), 1000), Ok(()), "another place");
        for _ in 0..100 {
            attempts.give_back(place, 1100);
            assert_eq!(attempts.take(place, 1100), Ok(()));
        }
    }

    #[test]
    fn a_customers_network_is_one_place() {
        assert_eq!(Place::of("2001:db8::1"), Place::of("2001:db8::ffff:1"));
        assert_ne!(Place::of("2001:db8::1"), Place::of("2001:db8:0:1::1"));
        assert_eq!(Place::of("::ffff:192.0.2.1"), Place::of("192.0.2.1"));
        assert_eq!(Place::of("somewhere"), Place::Unknown);
    }

    #[test]
    fn a_million_places_take_bounded_memory_and_are_still_slowed_down() {
        let attempts = Attempts::new(ALLOWANCE);
        let refused = (0..1_000_000_u32)
            .filter(|n| attempts.take(Place::At(IpAddr::from(n.to_be_bytes())), 1000).is_err())
            .count();
        assert_eq!(attempts.table.lock().expect("lock").full_at_ms.len(), PLACES_MAX);
        assert_eq!(refused, 1_000_000 - PLACES_MAX - 3);
        assert_eq!(attempts.take(Place::of("203.0.113.1"), 99_000), Ok(()), "room again");
        assert_eq!(attempts.table.lock().expect("lock").full_at_ms.len(), 1);
    }
}
