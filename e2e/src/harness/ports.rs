//! Ports that stay ours: below the range that the kernel hands to clients, and locked against other
//! test processes for as long as the lease lives. A port that was merely free a moment ago can be
//! taken by any outgoing connection before the child binds it.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::HarnessError;

const LOWEST: u32 = 12_000;
const COUNT: u32 = 18_000;
/// Ports tried before giving up.
const TRIES_MAX: u32 = 2_000;
/// Spreads the starting points of processes with neighbouring ids.
const STRIDE: u32 = 613;

/// A free port on 127.0.0.1, leased until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Leases a port on which nothing listens.
    ///
    /// # Errors
    /// No port could be locked and bound.
    pub fn lease() -> Result<Self, HarnessError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = env::temp_dir().join("tidegate-e2e-ports");
        fs::create_dir_all(&dir).map_err(HarnessError::io("making the port lock directory"))?;
        for _ in 0..TRIES_MAX {
            let turn = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = process::id().wrapping_mul(STRIDE).wrapping_add(turn) % COUNT;
            let Ok(number) = u16::try_from(LOWEST + offset) else {
                continue;
            };
            let lock = File::create(dir.join(number.to_string()))
                .map_err(HarnessError::io("opening a port lock"))?;
            let free = lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            if free {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(HarnessError::Deadline(format!("no free port after {TRIES_MAX} tries")))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn leases_do_not_overlap() {
        let ports: Vec<Port> = (0..50).map(|_| Port::lease().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
