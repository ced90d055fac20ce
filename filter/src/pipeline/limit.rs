//! Third stage: token buckets, the tenant's and everyone's. Exact over all workers, because every
//! worker takes from the same cells; a request refused by one bucket takes nothing from the other.

use tidegate_core::event::Counter;
use tidegate_core::limit::{Bucket, BucketSet, Decision, Rate};
use tidegate_core::reply::{Code, Reply};

use super::reply::Headers;
use crate::cells::{self, Table, Updated};
use crate::ports::SharedCells;
use crate::vm::{Policy, Vm};

/// The tag of the bucket in the global cell, which holds no other.
const GLOBAL_TAG: u64 = 1;

/// A tenant's bucket after this request, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u64,
    remaining: u64,
    reset_ms: u64,
}

impl Quota {
    fn new(bucket: Bucket, now_ns: u64, rate: Rate) -> Self {
        Self {
            limit: rate.burst(),
            remaining: bucket.remaining(now_ns, rate),
            reset_ms: bucket.reset_ns(now_ns, rate).div_ceil(1_000_000),
        }
    }

    /// Adds `x-ratelimit-{limit,remaining,reset}-requests`; the reset in OpenAI's form (`"12ms"`,
    /// `"1.5s"`): the time until the bucket is full.
    pub fn describe(&self, headers: &mut Headers) {
        headers.extend(self.pairs());
    }

    /// The three headers.
    pub fn pairs(&self) -> [(&'static str, String); 3] {
        let reset = if self.reset_ms < 1000 {
            format!("{}ms", self.reset_ms)
        } else {
            format!("{}.{:03}s", self.reset_ms / 1000, self.reset_ms % 1000)
        };
        [
            ("x-ratelimit-limit-requests", self.limit.to_string()),
            ("x-ratelimit-remaining-requests", self.remaining.to_string()),
            ("x-ratelimit-reset-requests", reset),
        ]
    }
}

/// Takes one request from the tenant's bucket and from everyone's. Returns the bucket that decided,
/// and the refusal, if it is one, with the exact time after which the same request gets in.
pub fn take(
    vm: &mut Vm,
    cells: &impl SharedCells,
    policy: &Policy,
    tenant: &str,
    now_ns: u64,
) -> (Quota, Result<(), Reply>) {
    let tag = cells::hash(&[tenant.as_bytes()]);
    let key = cells::name(Table::Tenants, (tag % u64::from(cells::TENANT_SETS)) as u32);
    let rate = policy.rate_of(tenant);
    let (quota, wait) = take_from(vm, cells, &key, tag, now_ns, rate);
    if let Some(wait_ns) = wait {
        vm.counts.add(Counter::LimitTenant);
        return (quota, Err(refusal("this tenant's", wait_ns)));
    }
    let (global, wait) = take_from(vm, cells, cells::GLOBAL_BUCKET, GLOBAL_TAG, now_ns, policy.global);
    if let Some(wait_ns) = wait {
        give_back(cells, &key, tag, rate);
        vm.counts.add(Counter::LimitGlobal);
        return (global, Err(refusal("the gateway's", wait_ns)));
    }
    (quota, Ok(()))
}

/// Takes one token; the second value is the wait in nanoseconds when there was none. A cell that
/// stays contended admits the request: other requests just passed through it, so it is not empty
/// by much, and refusing without having looked would punish a bystander.
fn take_from(
    vm: &mut Vm,
    cells: &impl SharedCells,
    key: &str,
    tag: u64,
    now_ns: u64,
    rate: Rate,
) -> (Quota, Option<u64>) {
    let taken = cells::update(cells, key, |bytes| {
        let mut set = BucketSet::decode(bytes);
        match set.take(tag, 1, now_ns, rate) {
            Decision::Taken(bucket) => (Some(set.encode().to_vec()), (bucket, None)),
            Decision::Wait(ns) => (None, (set.get(tag), Some(ns))),
        }
    });
    let (bucket, wait) = match taken {
        Updated::Written(outcome) | Updated::Kept(outcome) => outcome,
        Updated::Contended => {
            vm.counts.add(Counter::LimitContended);
            (Bucket::default(), None)
        }
    };
    (Quota::new(bucket, now_ns, rate), wait)
}

fn give_back(cells: &impl SharedCells, key: &str, tag: u64, rate: Rate) {
    // Contended past the bound: the tenant is one request short, which its next refill mends.
    let _: Updated<()> = cells::update(cells, key, |bytes| {
        let mut set = BucketSet::decode(bytes);
        set.refund(tag, 1, rate);
        (Some(set.encode().to_vec()), ())
    });
}

fn refusal(whose: &str, wait_ns: u64) -> Reply {
    let ms = wait_ns.div_ceil(1_000_000).max(1);
    Reply::new(
        Code::RateLimitExceeded,
        format!("{whose} request rate limit is used up; try again in {ms} ms"),
    )
    .retry_after_ms(ms)
}
