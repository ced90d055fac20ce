//! Third stage: token buckets, the tenant's and everyone's. All workers take from the same cells,
//! so the limits hold over all of them; a request refused by one bucket takes nothing from the other.

use tidegate_core::event::Counter;
use tidegate_core::limit::Rate;
use tidegate_core::reply::{Code, Reply};

use super::reply::Headers;
use crate::ports::SharedCells;
use crate::slices::{Place, Taken};
use crate::text::Text;
use crate::vm::{Policy, Vm};

/// The deciding bucket after this request, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u64,
    remaining: u64,
    reset_ms: u64,
}

impl Quota {
    fn new(taken: &Taken, rate: Rate) -> Self {
        Self { limit: rate.burst(), remaining: taken.remaining, reset_ms: taken.reset_ns.div_ceil(1_000_000) }
    }

    /// Adds the three headers to a reply.
    pub fn describe(&self, headers: &mut Headers) {
        headers.extend(self.pairs().map(|(name, value)| (name, value.as_str().to_owned())));
    }

    /// `x-ratelimit-{limit,remaining,reset}-requests`; the reset in OpenAI's form (`"12ms"`,
    /// `"1.500s"`): the time until the bucket is full.
    pub fn pairs(&self) -> [(&'static str, Text); 3] {
        [
            ("x-ratelimit-limit-requests", Text::of_number(self.limit)),
            ("x-ratelimit-remaining-requests", Text::of_number(self.remaining)),
            ("x-ratelimit-reset-requests", Text::of_duration_ms(self.reset_ms)),
        ]
    }
}

/// Takes one request from the tenant's bucket and from everyone's. Returns the bucket that decided,
/// and the refusal, if it is one, with the time after which the same request gets in.
pub fn take(
    vm: &mut Vm,
    cells: &impl SharedCells,
    policy: &Policy,
    tenant: &str,
    now_ns: u64,
) -> (Quota, Result<(), Reply>) {
    let place = Place::of_tenant(tenant);
    let rate = policy.rate_of(tenant);
    let taken = vm.slices.take(cells, place, now_ns, rate);
    if let Err(refusal) = check(vm, &taken, Counter::LimitTenant, "this tenant's") {
        return (Quota::new(&taken, rate), Err(refusal));
    }
    let all = vm.slices.take(cells, Place::GLOBAL, now_ns, policy.global);
    if let Err(refusal) = check(vm, &all, Counter::LimitGlobal, "the gateway's") {
        vm.slices.put_back(cells, place, rate);
        return (Quota::new(&all, policy.global), Err(refusal));
    }
    (Quota::new(&taken, rate), Ok(()))
}

fn check(vm: &mut Vm, taken: &Taken, counter: Counter, whose: &str) -> Result<(), Reply> {
    if taken.contended {
        vm.counts.add(Counter::LimitContended);
    }
    let Some(wait_ns) = taken.wait_ns else { return Ok(()) };
    vm.counts.add(counter);
    let ms = wait_ns.div_ceil(1_000_000).max(1);
    let message = format!("{whose} request rate limit is used up; try again in {ms} ms");
    Err(Reply::new(Code::RateLimitExceeded, message).retry_after_ms(ms))
}
