//! Pools in this process.

use std::collections::HashMap;

use tidegate_core::limit::Rate;
use tidegate_core::limit::lease::Pool;
use tidegate_core::wire::leases::{LeaseAnswer, LeaseAsk, LeaseGrant, LeaseRequest};

use super::GATEWAY_LIFE;

/// Most pools that are not idle; of further ones nothing is leased.
const POOLS_MAX: usize = 100_000;
/// Most Envoys of one sidecar that are counted.
const GATEWAYS_MAX: usize = 1024;

/// The pools, and who was heard of.
#[derive(Debug, Default)]
pub struct Pools {
    pools: HashMap<u64, Pool>,
    gateways: HashMap<u64, u64>,
}

impl Pools {
    /// One exchange.
    pub fn exchange(&mut self, request: &LeaseRequest, now_ns: u64) -> LeaseAnswer {
        let life_ns = u64::try_from(GATEWAY_LIFE.as_nanos()).unwrap_or(u64::MAX);
        self.gateways.retain(|_, seen_ns| now_ns.saturating_sub(*seen_ns) < life_ns);
        if self.gateways.len() < GATEWAYS_MAX {
            self.gateways.insert(request.gateway, now_ns);
        }
        let grants = request.asks.iter().map(|ask| self.grant(request.gateway, ask, now_ns)).collect();
        let gateways = u32::try_from(self.gateways.len()).unwrap_or(u32::MAX).max(1);
        LeaseAnswer { is_leased: true, gateways, grants }
    }

    fn grant(&mut self, gateway: u64, ask: &LeaseAsk, now_ns: u64) -> LeaseGrant {
        let LeaseAsk { pool, interval_ns, burst, ask, back } = *ask;
        if self.pools.len() >= POOLS_MAX && !self.pools.contains_key(&pool) {
            self.pools.retain(|_, pool| !pool.is_idle(now_ns));
            if self.pools.len() >= POOLS_MAX {
                return LeaseGrant { pool, tokens: 0, full_in_ns: interval_ns.saturating_mul(burst) };
            }
        }
        let rate = Rate::from_parts(interval_ns, burst);
        let granted = self.pools.entry(pool).or_default().exchange(gateway, ask, back, now_ns, rate);
        LeaseGrant { pool, tokens: granted.tokens, full_in_ns: granted.full_in_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_bounded_and_idle_ones_give_way() {
        let mut pools = Pools::default();
        let ask = |pool| LeaseAsk { pool, interval_ns: 1_000_000_000, burst: 2, ask: 1, back: 0 };
        let mut lease = |pool, now_ns| {
            let request = LeaseRequest { gateway: 1, asks: vec![ask(pool)] };
            pools.exchange(&request, now_ns).grants[0].tokens
        };
        let second = 1_000_000_000;
        assert!((0..POOLS_MAX as u64).all(|pool| lease(pool, second) == 1));
        assert_eq!(lease(u64::MAX, second), 0, "no place");
        assert_eq!(lease(u64::MAX, 4 * second), 1, "the others are full again");
    }
}
