//! How much a gateway leases.

/// How much of an earlier estimate stays, in 256ths, at each exchange with less demand.
const DECAY: u64 = 128;
/// Exchanges for which tokens are leased ahead.
const AHEAD: u64 = 2;

/// What one pool's requests in this gateway ask for, as an estimate in tokens per exchange: at
/// once as high as the last one, and halved by each that has less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Demand {
    per_exchange: u64,
}

/// What an exchange is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Tokens to ask for.
    pub ask: u64,
    /// Tokens to give back.
    pub back: u64,
}

impl Demand {
    /// Takes note of what was asked for since the last exchange, refused or not.
    #[must_use]
    pub fn after(self, asked: u64) -> Self {
        let faded = (u128::from(self.per_exchange) * u128::from(DECAY) / 256) as u64;
        Self { per_exchange: asked.max(faded) }
    }

    /// What to ask for, or to give back, at a balance: enough for two exchanges, and no more than
    /// the pool can hold. What is there beyond twice that is given back.
    #[must_use]
    pub fn plan(self, balance: i64, burst: u64) -> Plan {
        let want = self.per_exchange.saturating_mul(AHEAD).min(burst);
        let has = balance.max(0).unsigned_abs();
        let owes = balance.min(0).unsigned_abs();
        if has > want.saturating_mul(2) {
            return Plan { ask: 0, back: has - want };
        }
        Plan { ask: want.saturating_sub(has).saturating_add(owes), back: 0 }
    }

    /// Whether nobody asks any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.per_exchange == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leases_ahead_pays_debts_and_gives_back_what_is_too_much() {
        let busy = Demand::default().after(10);
        assert_eq!(busy.plan(0, 100), Plan { ask: 20, back: 0 });
        assert_eq!(busy.plan(15, 100), Plan { ask: 5, back: 0 });
        assert_eq!(busy.plan(-7, 100), Plan { ask: 27, back: 0 });
        assert_eq!(busy.plan(40, 100), Plan { ask: 0, back: 0 });
        assert_eq!(busy.plan(41, 100), Plan { ask: 0, back: 21 });
        assert_eq!(busy.plan(0, 5), Plan { ask: 5, back: 0 });
    }

    #[test]
    fn demand_fades_to_nothing_and_then_all_goes_back() {
        let mut demand = Demand::default().after(1000);
        let mut exchanges = 0;
        while !demand.is_over() {
            demand = demand.after(0);
            exchanges += 1;
        }
        assert_eq!(exchanges, 10);
        assert_eq!(demand.plan(3, 100), Plan { ask: 0, back: 3 });
        assert_eq!(demand.plan(0, 100), Plan::default());
    }
}
