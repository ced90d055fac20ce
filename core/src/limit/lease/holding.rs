//! What one gateway holds of one pool.

use super::{Mode, OnLoss, View};
use crate::limit::fair::Supply;
use crate::limit::{Bucket, Decision, Rate};

/// How long leased tokens may be spent without another exchange, in nanoseconds.
pub const LEASE_NS: u64 = 2_000_000_000;
/// When to come back if a lease may be had by then, in nanoseconds: an exchange and its answer.
const EXCHANGE_NS: u64 = 300_000_000;
/// When to come back while nothing is admitted, in nanoseconds.
const CLOSED_NS: u64 = 1_000_000_000;

/// Leased tokens, or the debt, of one pool. The default knows of nothing, and so takes the pool
/// for full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holding {
    /// Tokens leased and not spent; below zero, what was spent on credit.
    pub(super) balance: i64,
    /// When what is leased may no longer be spent.
    pub(super) expires_at_ns: u64,
    /// While leasing, the pool as far as known; alone, the bucket of this gateway's share.
    pub(super) bucket: Bucket,
    /// Gateways among which it is shared while this one is alone; 0 while leasing.
    pub(super) sharers: u32,
}

impl Holding {
    /// Spends `tokens`, if the lease, the credit or the share has them.
    ///
    /// # Errors
    /// Nanoseconds after which the same succeeds if nobody else comes.
    pub fn take(&mut self, tokens: u64, now_ns: u64, rate: Rate, view: View) -> Result<(), u64> {
        self.follow(now_ns, rate, view);
        match view.mode {
            Mode::Leased => self.take_leased(tokens, now_ns, rate, view.gateways),
            Mode::Alone(OnLoss::Share) => {
                let share = rate.share(self.sharers);
                // A single request may need more than the share, and must not wait for ever.
                match self.bucket.take(tokens.min(share.burst()), now_ns, share) {
                    Decision::Taken(bucket) => {
                        self.bucket = bucket;
                        Ok(())
                    }
                    Decision::Wait(ns) => Err(ns),
                }
            }
            Mode::Alone(OnLoss::Open) => Ok(()),
            Mode::Alone(OnLoss::Closed) => Err(CLOSED_NS),
        }
    }

    fn take_leased(&mut self, tokens: u64, now_ns: u64, rate: Rate, gateways: u32) -> Result<(), u64> {
        let spendable = self.balance.saturating_add(signed(self.credit(now_ns, rate, gateways)));
        let lacking = signed(tokens).saturating_sub(spendable);
        if lacking <= 0 {
            self.balance = self.balance.saturating_sub(signed(tokens));
            return Ok(());
        }
        let wait_ns = match self.bucket.take(lacking.unsigned_abs(), now_ns, rate) {
            Decision::Wait(ns) => ns,
            Decision::Taken(_) => 0,
        };
        Err(wait_ns.max(EXCHANGE_NS))
    }

    /// What may be spent before it is leased: an equal share of what is believed to be there.
    fn credit(&self, now_ns: u64, rate: Rate, gateways: u32) -> u64 {
        let there = self.bucket.remaining(now_ns, rate);
        there.div_ceil(u64::from(gateways.max(1)))
    }

    /// Puts back what was taken and not needed.
    pub fn refund(&mut self, tokens: u64, now_ns: u64, rate: Rate, view: View) {
        self.follow(now_ns, rate, view);
        if self.sharers > 0 {
            self.bucket = self.bucket.refund(tokens, rate.share(self.sharers));
        } else {
            self.balance = self.balance.saturating_add(signed(tokens)).min(signed(rate.burst()));
        }
    }

    /// Takes what was used already, whether it is there or not; no more than two bursts are owed.
    pub fn charge(&mut self, tokens: u64, now_ns: u64, rate: Rate, view: View) {
        self.follow(now_ns, rate, view);
        if self.sharers > 0 {
            self.bucket = self.bucket.charge(tokens, now_ns, rate.share(self.sharers));
        } else {
            let least = signed(rate.burst()).saturating_mul(-2);
            self.balance = self.balance.saturating_sub(signed(tokens)).max(least);
        }
    }

    /// Takes in what was granted, asked for at `asked_ns`: the lease counts from there, so that
    /// an answer that comes late ends no later.
    pub fn grant(
        &mut self,
        tokens: u64,
        full_in_ns: u64,
        asked_ns: u64,
        now_ns: u64,
        rate: Rate,
        view: View,
    ) {
        self.follow(now_ns, rate, view);
        self.balance = self.balance.saturating_add(signed(tokens));
        self.expires_at_ns = asked_ns.saturating_add(LEASE_NS);
        self.bucket = Bucket::from_full_at_ns(now_ns.saturating_add(full_in_ns));
    }

    /// Takes out what goes back to the pool; returns how much there was of it.
    pub fn give_back(&mut self, tokens: u64, now_ns: u64, rate: Rate, view: View) -> u64 {
        let there = self.balance(now_ns, rate, view).max(0).unsigned_abs();
        let back = tokens.min(there);
        self.balance = self.balance.saturating_sub(signed(back));
        back
    }

    /// Leased and not spent; below zero, what is owed.
    pub fn balance(&mut self, now_ns: u64, rate: Rate, view: View) -> i64 {
        self.follow(now_ns, rate, view);
        self.balance
    }

    /// Tokens that could be spent now, as far as known.
    #[must_use]
    pub fn remaining(&self, now_ns: u64, rate: Rate, view: View) -> u64 {
        let mut here = *self;
        here.follow(now_ns, rate, view);
        match view.mode {
            Mode::Leased => {
                let there = here.bucket.remaining(now_ns, rate);
                signed(there).saturating_add(here.balance).max(0).unsigned_abs().min(rate.burst())
            }
            Mode::Alone(OnLoss::Share) => here.bucket.remaining(now_ns, rate.share(here.sharers)),
            Mode::Alone(OnLoss::Open) => rate.burst(),
            Mode::Alone(OnLoss::Closed) => 0,
        }
    }

    /// What tenants of this gateway share: the lease and the credit, of this gateway's part of the
    /// limit. `None` while it is not counted.
    #[must_use]
    pub fn supply(&self, now_ns: u64, rate: Rate, view: View) -> Option<Supply> {
        let mut here = *self;
        here.follow(now_ns, rate, view);
        let (level, share) = match view.mode {
            Mode::Leased => {
                let credit = signed(here.credit(now_ns, rate, view.gateways));
                (credit.saturating_add(here.balance).max(0).unsigned_abs(), rate.share(view.gateways))
            }
            Mode::Alone(OnLoss::Share) => {
                let share = rate.share(here.sharers);
                (here.bucket.remaining(now_ns, share), share)
            }
            Mode::Alone(OnLoss::Open | OnLoss::Closed) => return None,
        };
        Some(Supply { level, burst: share.burst(), interval_ns: share.interval_ns() })
    }

    /// Nanoseconds until the bucket is full, as far as known.
    #[must_use]
    pub fn reset_ns(&self, now_ns: u64, rate: Rate) -> u64 {
        self.bucket.reset_ns(now_ns, rate)
    }

    /// Whether forgetting it loses nothing: no debt, no lease, and nothing known of the pool that
    /// time has not undone.
    #[must_use]
    pub fn is_idle(&self, now_ns: u64) -> bool {
        (self.balance == 0 || (self.balance > 0 && self.is_expired(now_ns))) && self.bucket.is_full(now_ns)
    }

    const fn is_expired(&self, now_ns: u64) -> bool {
        // A clock set back must not make a lease last longer.
        self.expires_at_ns <= now_ns || self.expires_at_ns - now_ns > LEASE_NS
    }

    /// Brings it up to date: a lease ends, the gateway is alone, or no longer.
    fn follow(&mut self, now_ns: u64, rate: Rate, view: View) {
        match (self.sharers, view.mode) {
            (0, Mode::Leased) => self.expire(now_ns),
            (0, Mode::Alone(_)) => {
                self.expire(now_ns);
                let sharers = view.gateways.max(1);
                let share = rate.share(sharers);
                let has = self.balance.saturating_add(signed(self.credit(now_ns, rate, sharers)));
                let lacks = share.burst().saturating_sub(has.max(0).unsigned_abs());
                let bucket = Bucket::default().charge(lacks, now_ns, share);
                *self = Self { balance: 0, expires_at_ns: 0, bucket, sharers };
            }
            (sharers, Mode::Leased) => {
                let share = rate.share(sharers);
                let lacks = share.burst().saturating_sub(self.bucket.remaining(now_ns, share));
                // Nothing is known of the pool; what it has is heard with the next lease.
                let bucket = Bucket::default().charge(rate.burst(), now_ns, rate);
                *self =
                    Self { balance: signed(lacks).saturating_neg(), expires_at_ns: 0, bucket, sharers: 0 };
            }
            (_, Mode::Alone(_)) => {}
        }
    }

    fn expire(&mut self, now_ns: u64) {
        if self.balance > 0 && self.is_expired(now_ns) {
            self.balance = 0;
        }
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BucketPolicy;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1000 * SECOND;
    const LEASED: View = View { mode: Mode::Leased, gateways: 3 };
    const SHARE: View = View { mode: Mode::Alone(OnLoss::Share), gateways: 3 };

    fn rate() -> Rate {
        Rate::new(BucketPolicy { rate: 30.0, burst: 30 })
    }

    /// Takes one by one until there is no more; returns how many there were.
    fn drain(holding: &mut Holding, now_ns: u64, view: View) -> u64 {
        (0..1000).take_while(|_| holding.take(1, now_ns, rate(), view).is_ok()).count() as u64
    }

    #[test]
    fn credit_first_then_the_lease_pays_the_debt() {
        let mut holding = Holding::default();
        assert_eq!(drain(&mut holding, NOW, LEASED), 10, "a third of a full pool");
        assert_eq!(holding.take(1, NOW, rate(), LEASED), Err(EXCHANGE_NS));
        holding.grant(15, SECOND, NOW, NOW, rate(), LEASED);
        assert_eq!(holding.balance(NOW, rate(), LEASED), 5);
        assert_eq!(drain(&mut holding, NOW, LEASED), 5, "the pool is empty, so there is no credit");
    }

    #[test]
    fn a_lease_ends_a_debt_does_not() {
        let mut holding = Holding::default();
        holding.grant(5, SECOND, NOW, NOW + SECOND, rate(), LEASED);
        let end = NOW + LEASE_NS;
        assert_eq!(holding.balance(end - 1, rate(), LEASED), 5);
        assert_eq!(holding.balance(end, rate(), LEASED), 0);
        holding.charge(7, end, rate(), LEASED);
        assert_eq!(holding.balance(end + 100 * SECOND, rate(), LEASED), -7);
        holding.charge(u64::MAX, end, rate(), LEASED);
        assert_eq!(holding.balance(end, rate(), LEASED), -60);
    }

    #[test]
    fn alone_it_has_its_share_and_afterwards_owes_what_it_spent_of_it() {
        let mut holding = Holding::default();
        holding.grant(4, SECOND, NOW, NOW, rate(), LEASED);
        assert_eq!(drain(&mut holding, NOW, SHARE), 4, "what it had");
        assert_eq!(drain(&mut holding, NOW + SECOND / 2, SHARE), 5, "10 a second");
        assert_eq!(drain(&mut holding, NOW + 100 * SECOND, SHARE), 10, "at most a third of the burst");
        assert_eq!(holding.balance(NOW + 100 * SECOND, rate(), LEASED), -10);
        assert!(holding.take(1, NOW + 100 * SECOND, rate(), LEASED).is_err());
        let mut idle = Holding::default();
        assert_eq!(idle.remaining(NOW, rate(), SHARE), 10);
        assert_eq!(idle.balance(NOW, rate(), SHARE), 0);
        assert_eq!(idle.balance(NOW, rate(), LEASED), 0, "nothing was spent");
    }

    #[test]
    fn tenants_share_what_this_gateway_may_spend() {
        let mut holding = Holding::default();
        let supply = |level| Supply { level, burst: 10, interval_ns: SECOND / 10 };
        let rounded = |supply: Option<Supply>| {
            supply.map(|s| Supply { interval_ns: (s.interval_ns + 500_000) / 1_000_000 * 1_000_000, ..s })
        };
        assert_eq!(rounded(holding.supply(NOW, rate(), LEASED)), Some(supply(10)), "a third on credit");
        assert_eq!(drain(&mut holding, NOW, LEASED), 10);
        holding.grant(14, SECOND, NOW, NOW, rate(), LEASED);
        assert_eq!(rounded(holding.supply(NOW, rate(), LEASED)), Some(supply(4)), "what the debt left");
        assert_eq!(rounded(holding.supply(NOW, rate(), SHARE)), Some(supply(4)));
        let open = View { mode: Mode::Alone(OnLoss::Open), gateways: 3 };
        assert_eq!(holding.supply(NOW, rate(), open), None);
    }

    #[test]
    fn open_admits_and_closed_refuses() {
        let view = |on_loss| View { mode: Mode::Alone(on_loss), gateways: 3 };
        let mut holding = Holding::default();
        assert!((0..100).all(|_| holding.take(9, NOW, rate(), view(OnLoss::Open)).is_ok()));
        assert_eq!(holding.take(1, NOW, rate(), view(OnLoss::Closed)), Err(CLOSED_NS));
    }

    #[test]
    fn what_goes_back_is_no_more_than_there_is() {
        let mut holding = Holding::default();
        assert_eq!(holding.give_back(5, NOW, rate(), LEASED), 0);
        holding.grant(5, 0, NOW, NOW, rate(), LEASED);
        assert_eq!(holding.give_back(3, NOW, rate(), LEASED), 3);
        assert_eq!(holding.give_back(3, NOW, rate(), LEASED), 2);
        holding.refund(100, NOW, rate(), LEASED);
        assert_eq!(holding.balance(NOW, rate(), LEASED), 30, "at most a burst");
        assert!(holding.is_idle(NOW + LEASE_NS) && !holding.is_idle(NOW));
    }
}
