use proptest::prelude::*;

use super::*;
use crate::limit::{Bucket, Decision, Rate};
use crate::policy::BucketPolicy;

const SECOND: u64 = 1_000_000_000;

/// Who asks how often, and what came of it.
#[derive(Debug, Clone, Copy)]
struct Tenant {
    weight: u32,
    per_second: f64,
    /// Tokens of each request.
    size: u64,
}

fn tenant(weight: u32, per_second: f64) -> Tenant {
    Tenant { weight, per_second, size: 1 }
}

/// Tokens that a tenant asked for and got.
#[derive(Debug, Clone, Copy, Default)]
struct Service {
    asked: u64,
    got: u64,
}

/// A bucket and those who share it, as one gateway has them.
struct Place {
    rate: Rate,
    bucket: Bucket,
    shares: Shares,
}

impl Place {
    fn new(rate: f64, burst: u64) -> Self {
        let rate = Rate::new(BucketPolicy { rate, burst });
        Self { rate, bucket: Bucket::default(), shares: Shares::default() }
    }

    fn supply(&self, now_ns: u64) -> Supply {
        let Self { rate, bucket, .. } = self;
        Supply {
            level: bucket.remaining(now_ns, *rate),
            burst: rate.burst(),
            interval_ns: rate.interval_ns(),
        }
    }

    /// The wait, if it is refused.
    fn ask(&mut self, sharer: Sharer, tokens: u64, now_ns: u64) -> Option<u64> {
        let supply = self.supply(now_ns);
        if supply.is_contended(tokens) {
            let (_, mut shares) = Shares::decode(&self.shares.encode(7));
            let verdict = shares.take(sharer, tokens, supply, now_ns);
            if verdict.is_news {
                self.shares = shares;
            }
            if verdict.wait_ns.is_some() {
                return verdict.wait_ns;
            }
        }
        match self.bucket.take(tokens, now_ns, self.rate) {
            Decision::Taken(bucket) => self.bucket = bucket,
            Decision::Wait(_) => panic!("granted, and not there: {supply:?}"),
        }
        None
    }

    /// Tokens that each got between two moments, all asking evenly from the first second on.
    fn run(&mut self, tenants: &[Tenant], from_s: u64, until_s: u64) -> Vec<u64> {
        self.serve(tenants, from_s, until_s).iter().map(|service| service.got).collect()
    }

    /// The same, with what each asked for: uneven gaps make that differ from its rate.
    fn serve(&mut self, tenants: &[Tenant], from_s: u64, until_s: u64) -> Vec<Service> {
        let mut next: Vec<f64> = (0..tenants.len()).map(|i| 1.0 + i as f64 * 1e-4).collect();
        let mut services = vec![Service::default(); tenants.len()];
        loop {
            let (index, at) =
                next.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).expect("somebody asks");
            if at >= until_s as f64 {
                return services;
            }
            let Tenant { weight, per_second, size } = tenants[index];
            // Uneven gaps, so that no pattern favours anybody.
            let jitter = 0.5 + ((at * 7919.0).fract());
            next[index] = at + jitter / per_second;
            let sharer = Sharer { tag: 1_000 + index as u64, weight };
            let refused = self.ask(sharer, size, (at * SECOND as f64) as u64);
            if at >= from_s as f64 {
                services[index].asked += size;
                services[index].got += if refused.is_none() { size } else { 0 };
            }
        }
    }
}

/// What weighted max-min fairness gives to each demand, by its definition.
fn max_min(tenants: &[Tenant], demands: &[f64], rate: f64) -> Vec<f64> {
    let mut got = vec![0.0; tenants.len()];
    let (mut left, mut open) = (rate, (0..tenants.len()).collect::<Vec<_>>());
    loop {
        let weights: f64 = open.iter().map(|i| f64::from(tenants[*i].weight)).sum();
        let level = left / weights;
        let part = |i: usize| level * f64::from(tenants[i].weight);
        let (sated, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|i| demands[**i] <= part(**i));
        if sated.is_empty() {
            rest.iter().for_each(|i| got[*i] = part(*i));
            return got;
        }
        for i in sated {
            got[i] = demands[i];
            left -= got[i];
        }
        if rest.is_empty() {
            return got;
        }
        open = rest;
    }
}

#[test]
fn a_greedy_tenant_gets_what_the_others_leave_and_no_more() {
    let tenants = [tenant(1, 2_000.0), tenant(1, 20.0), tenant(2, 20.0)];
    let got = Place::new(100.0, 100).run(&tenants, 5, 25);
    let off = |got: u64, wanted: u64| got.abs_diff(wanted) * 100 <= wanted * 3;
    assert!(off(got[0], 1_200) && off(got[1], 400) && off(got[2], 400), "{got:?}");
}

#[test]
fn those_who_all_want_more_get_their_weights() {
    let tenants = [tenant(1, 2_000.0), tenant(1, 100.0), tenant(2, 100.0)];
    let got = Place::new(100.0, 100).run(&tenants, 5, 25);
    let off = |got: u64, wanted: u64| got.abs_diff(wanted) * 100 <= wanted * 3;
    assert!(off(got[0], 500) && off(got[1], 500) && off(got[2], 1_000), "{got:?}");
}

#[test]
fn a_bucket_of_one_goes_round() {
    let tenants = [tenant(1, 200.0), tenant(1, 30.0)];
    let got = Place::new(10.0, 1).run(&tenants, 5, 105);
    assert!(got.iter().sum::<u64>() >= 880, "a bucket of one loses what comes while nobody asks: {got:?}");
    assert!(got[1] >= 400, "{got:?}");
}

#[test]
fn large_requests_come_through_beside_small_ones() {
    let tenants = [tenant(1, 1_000.0), Tenant { weight: 1, per_second: 1.0, size: 3_000 }];
    let got = Place::new(1_000.0 / 6.0, 10_000).run(&tenants, 120, 1_320);
    assert!(got[1] >= 90_000 && got[0] >= 90_000, "half of 200,000 each: {got:?}");
}

#[test]
fn alone_a_tenant_has_the_whole_bucket() {
    let mut place = Place::new(10.0, 50);
    let sharer = Sharer { tag: 99, weight: 1 };
    assert!((0..50).all(|_| place.ask(sharer, 1, SECOND).is_none()));
    assert_eq!(place.ask(sharer, 1, SECOND), Some(SECOND / 10));
}

#[test]
fn more_tenants_than_places_are_still_bounded_and_served() {
    let tenants: Vec<Tenant> = (0..300).map(|i| tenant(1, if i == 7 { 500.0 } else { 1.0 })).collect();
    let mut place = Place::new(400.0, 400);
    let got = place.run(&tenants, 5, 15);
    assert!(place.shares.entries.len() <= SHARERS_MAX + BINS as usize);
    let served = got.iter().enumerate().filter(|(i, n)| *i != 7 && **n >= 8).count();
    assert!(served >= 290, "{served} of 299, and the greedy one {}", got[7]);
    assert!(got[7] <= 1_300, "{}", got[7]);
}

#[test]
fn what_comes_back_by_settling_is_its_own() {
    let mut place = Place::new(1.0, 100);
    let (greedy, modest) = (Sharer { tag: 20, weight: 1 }, Sharer { tag: 30, weight: 1 });
    while place.ask(greedy, 10, SECOND).is_none() {}
    assert!(place.ask(modest, 10, SECOND).is_some());
    place.bucket = place.bucket.refund(9, place.rate);
    place.shares.settle(modest, 9);
    assert!(place.ask(greedy, 9, SECOND).is_some(), "it is the other's");
    assert_eq!(place.ask(modest, 9, SECOND), None);
}

#[test]
fn cells_that_others_wrote_are_nobodys() {
    for bytes in [&b""[..], &[9; 60], &[1; 8]] {
        assert_eq!(Shares::decode(bytes).1, Shares::default());
    }
    let (bucket, shares) = Shares::decode(&[1; 9 + 44]);
    assert_eq!((bucket, shares.entries.len()), (0x0101_0101_0101_0101, 1));
}

prop_compose! {
    fn any_tenant()(weight in 1u32..=4, load in 0.1f64..20.0) -> (u32, f64) { (weight, load) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn everybody_gets_the_weighted_max_min_share(
        tenants in prop::collection::vec(any_tenant(), 2..6), rate in 50f64..200.0
    ) {
        // Each asks for some tenths of, to twenty times, an equal part.
        let equal = rate / tenants.len() as f64;
        let tenants: Vec<Tenant> = tenants.iter().map(|(w, load)| tenant(*w, load * equal)).collect();
        let services = Place::new(rate, rate as u64).serve(&tenants, 6, 26);
        let demands: Vec<f64> = services.iter().map(|service| service.asked as f64 / 20.0).collect();
        let wanted = max_min(&tenants, &demands, rate);
        for (index, (service, wanted)) in services.iter().zip(&wanted).enumerate() {
            let (got, wanted) = (service.got as f64 / 20.0, *wanted);
            prop_assert!((got - wanted).abs() <= wanted * 0.05 + rate * 0.01,
                "tenant {index} got {got:.1} of {wanted:.1} a second: {tenants:?}");
        }
    }

    #[test]
    fn nobody_below_its_share_starves_and_the_bucket_is_used_up(
        rate in 5f64..60.0, burst in 4u64..100, crowd in 1usize..5
    ) {
        let fair = rate / (crowd as f64 + 1.0);
        let mut tenants = vec![tenant(1, rate * 20.0); crowd];
        tenants.push(tenant(1, fair * 0.5));
        let mut place = Place::new(rate, burst.max(2 * crowd as u64 + 2));
        let services = place.serve(&tenants, 6, 26);
        // What is kept for the modest one is not lost.
        let used = services.iter().map(|service| service.got).sum::<u64>() + place.supply(26 * SECOND).level;
        let modest = services[crowd];
        prop_assert!(modest.got as f64 >= modest.asked as f64 * 0.93 - 2.0, "{services:?}");
        prop_assert!(used as f64 >= rate * 20.0 * 0.96 - 3.0, "{services:?}");
    }

    #[test]
    fn waiting_as_told_gets_in(rate in 1f64..1e4, burst in 1u64..200, others in 1u64..6) {
        let mut place = Place::new(rate, burst);
        let now = 100 * SECOND;
        for tag in 0..others {
            while place.ask(Sharer { tag: 100 + tag, weight: 1 }, 1, now).is_none() {}
        }
        let late = Sharer { tag: 999, weight: 1 };
        if let Some(wait) = place.ask(late, 1, now) {
            prop_assert_eq!(place.ask(late, 1, now + wait + 1_000), None);
        }
    }

    #[test]
    fn any_bytes_and_any_numbers_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..400), level in any::<u64>(), burst in 1u64..1 << 40,
        tokens in any::<u64>(), now in any::<u64>(), back in any::<i64>()
    ) {
        let bytes: Vec<u8> = std::iter::once(1).chain(bytes).collect();
        let (_, mut shares) = Shares::decode(&bytes);
        let supply = Supply { level: level.min(burst), burst, interval_ns: 1 + now % SECOND };
        let sharer = Sharer { tag: tokens, weight: 1 };
        let verdict = shares.take(sharer, tokens, supply, now);
        prop_assert!(verdict.wait_ns.is_some() || tokens <= supply.level);
        shares.settle(sharer, back);
        let _ = shares.take(sharer, tokens, supply, now);
    }
}
