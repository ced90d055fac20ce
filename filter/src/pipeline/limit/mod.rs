//! Third stage: limits. All workers take from the same cells, so that they hold over all of them.
//! A request has to pass every level; one that is refused by any of them takes nothing from the
//! others.
//!
//! Requests per second are taken when the caller is known, so that a flood is refused before its
//! bodies are read; what depends on the body (limits of the model, tokens, requests at a time)
//! when there is one and L1 did not answer it.

mod quota;
mod stage;
mod tokens;

use std::rc::Rc;

use tidegate_core::address::ClientAddress;
use tidegate_core::event::Counter;
use tidegate_core::hash::hash;
use tidegate_core::limit::fair::Sharer;
use tidegate_core::limit::{
    Attribute, BucketName, IN_FLIGHT_RETRY_MS, Kind, Level, Permitted, Rate, Subject,
};
use tidegate_core::reply::{Code, Reply};

use super::reply::Headers;
use crate::place::{Account, Place};
use crate::ports::StreamHost;
use crate::vm::{Policy, Vm};

use quota::{Quota, REQUESTS, TOKENS};
pub use tokens::Used;
use tokens::{Need, model_of};

/// What the bucket of [`Kind::Requests`] counts, in refusals.
const REQUESTS_PER_SECOND: &str = "requests per second";

/// What one request has taken.
#[derive(Debug, Default)]
pub struct Taking {
    of_caller: Rc<[Level]>,
    of_model: Rc<[Level]>,
    ip: Option<ClientAddress>,
    sharer: Sharer,
    model: u64,
    requests: Option<Quota>,
    tokens: Option<Quota>,
    reserved: Option<Need>,
    has_permits: bool,
}

/// Tokens wanted of one bucket.
struct Want<'l> {
    level: &'l Level,
    kind: Kind,
    rate: Rate,
    amount: u64,
}

/// Why a request is refused.
struct Short<'l> {
    level: &'l Level,
    what: &'static str,
    /// How long it takes until this one is there again.
    wait_ns: u64,
    /// Whether others have a right to what is there.
    is_kept: bool,
}

impl Taking {
    /// Takes one request from every level that is about the caller.
    ///
    /// # Errors
    /// 429 with the time after which the same request gets in.
    pub fn enter(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        subject: &Subject<'_>,
        now_ns: u64,
    ) -> Result<(), Reply> {
        self.ip = subject.ip;
        self.sharer = policy.sharer(subject.tenant);
        let levels = policy.levels.of_caller(subject);
        self.of_caller = Rc::clone(&levels);
        let wants = || requests(&levels);
        let Some((index, short)) = self.take(vm, host, wants(), now_ns) else { return Ok(()) };
        self.put_back(vm, host, wants().take(index), now_ns);
        let wait_ns = self.longest_wait(vm, host, without(index, wants()), &short, now_ns);
        Err(refusal(vm, &short, subject, wait_ns))
    }

    /// Takes what the body asks for: one request from every level of its model, and tokens from
    /// all that limit them.
    ///
    /// # Errors
    /// 429 with the time after which the same request gets in; 413 if it never will.
    pub fn reserve(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        subject: &Subject<'_>,
        need: impl FnOnce(&Vm, u64) -> Need,
        now_ns: u64,
    ) -> Result<(), Reply> {
        self.of_model = policy.levels.of_model(subject);
        let (caller, model) = (Rc::clone(&self.of_caller), Rc::clone(&self.of_model));
        let is_counted = caller.iter().chain(&*model).any(Level::limits_tokens);
        if model.is_empty() && !is_counted {
            return Ok(());
        }
        self.model = hash(&[subject.model.unwrap_or_default().as_bytes()]);
        let need = if is_counted { need(vm, self.model) } else { Need::default() };
        fits(vm, &caller, &model, need, subject)?;
        let wants = || requests(&model).chain(quotas(&caller, need)).chain(quotas(&model, need));
        let Some((index, short)) = self.take(vm, host, wants(), now_ns) else {
            self.reserved = is_counted.then_some(need);
            return Ok(());
        };
        self.put_back(vm, host, wants().take(index), now_ns);
        self.put_back(vm, host, requests(&caller), now_ns);
        if short.what != REQUESTS_PER_SECOND {
            self.forgive_request();
        }
        let wait_ns =
            self.longest_wait(vm, host, requests(&caller).chain(without(index, wants())), &short, now_ns);
        Err(refusal(vm, &short, subject, wait_ns))
    }

    /// Takes a permit of every limit on requests at a time. On a refusal all that was taken before
    /// is put back too.
    ///
    /// # Errors
    /// 429 when too many requests are in flight.
    pub fn admit(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        subject: &Subject<'_>,
        now_ns: u64,
    ) -> Result<(), Reply> {
        let (now_ms, gateways) = (now_ns / 1_000_000, vm.slices.fleet.view().gateways);
        let (caller, model) = (Rc::clone(&self.of_caller), Rc::clone(&self.of_model));
        for (index, (level, tag, most)) in permits(&caller, &model, self.ip, gateways).enumerate() {
            match vm.permits.take(host, tag, most, now_ms) {
                Permitted::Taken(_) => self.has_permits = true,
                // Where it cannot be counted, it cannot be refused either.
                Permitted::Full => vm.counts.add(Counter::LimitContended),
                Permitted::Refused => {
                    for (_, tag, most) in permits(&caller, &model, self.ip, gateways).take(index) {
                        vm.permits.give_back(host, tag, most, now_ms);
                    }
                    self.has_permits = false;
                    self.settle(vm, host, Used::Nothing, now_ns);
                    self.put_back(vm, host, requests(&caller).chain(requests(&model)), now_ns);
                    self.forgive_request();
                    let wait_ns = IN_FLIGHT_RETRY_MS * 1_000_000;
                    let short = Short { level, what: "requests at a time", wait_ns, is_kept: false };
                    return Err(refusal(vm, &short, subject, wait_ns));
                }
            }
        }
        Ok(())
    }

    /// The request is over: permits go back.
    pub fn leave(&mut self, vm: &mut Vm, host: &impl StreamHost, now_ns: u64) {
        if !std::mem::take(&mut self.has_permits) {
            return;
        }
        let gateways = vm.slices.fleet.view().gateways;
        for (_, tag, most) in permits(&self.of_caller, &self.of_model, self.ip, gateways) {
            vm.permits.give_back(host, tag, most, now_ns / 1_000_000);
        }
    }

    /// Whether tokens are reserved and not yet settled.
    pub const fn is_reserved(&self) -> bool {
        self.reserved.is_some()
    }

    /// Corrects what was reserved to what was used; once.
    pub fn settle(&mut self, vm: &mut Vm, host: &impl StreamHost, used: Used, now_ns: u64) {
        let Some(need) = self.reserved.take() else { return };
        if let Used::Reported { completion, .. } = used {
            vm.lengths.learn(self.model, completion);
        }
        let used = used.tokens(need);
        for want in quotas(&self.of_caller, need).chain(quotas(&self.of_model, need)) {
            let account = self.account(&want);
            match want.amount.checked_sub(used) {
                Some(surplus) => vm.slices.put_back(host, &account, surplus, now_ns),
                None => vm.slices.charge(host, &account, used - want.amount, now_ns),
            }
        }
        if let Some(quota) = &mut self.tokens {
            quota.correct(need.total(), used);
        }
    }

    /// Adds `x-ratelimit-*` to a reply.
    pub fn describe(&self, headers: &mut Headers) {
        for (quota, names) in [(&self.requests, REQUESTS), (&self.tokens, TOKENS)] {
            if let Some(quota) = quota {
                quota.describe(names, headers);
            }
        }
    }

    /// `x-ratelimit-*` of a response that passes.
    pub fn each_header(&self, put: impl Fn(&'static str, &str)) {
        for (quota, names) in [(&self.requests, REQUESTS), (&self.tokens, TOKENS)] {
            for (name, value) in quota.iter().flat_map(|quota| quota.pairs(names)) {
                put(name, value.as_str());
            }
        }
    }

    /// Takes all of `wants`; the first that is not there, and how many were taken before it.
    fn take<'l>(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        wants: impl Iterator<Item = Want<'l>>,
        now_ns: u64,
    ) -> Option<(usize, Short<'l>)> {
        for (index, want) in wants.enumerate() {
            let taken = vm.slices.take(host, self.account(&want), want.amount, now_ns);
            let Want { level, kind, rate, .. } = want;
            if taken.contended {
                vm.counts.add(Counter::LimitContended);
            }
            let (quota, what) = match kind {
                Kind::Requests => (&mut self.requests, REQUESTS_PER_SECOND),
                Kind::Minute => (&mut self.tokens, "tokens per minute"),
                Kind::Day => (&mut self.tokens, "tokens per day"),
            };
            let this = Quota::new(&taken, rate);
            if let Some(wait_ns) = taken.wait_ns {
                *quota = Some(this);
                return Some((index, Short { level, what, wait_ns, is_kept: taken.is_kept }));
            }
            *quota = Quota::tighter(*quota, this);
        }
        None
    }

    /// The request was put back, which is also what the caller is told.
    fn forgive_request(&mut self) {
        if let Some(quota) = &mut self.requests {
            quota.correct(1, 0);
        }
    }

    fn account(&self, want: &Want<'_>) -> Account {
        let place = Place::of(want.level, want.kind, self.ip);
        Account { place, rate: want.rate, sharer: self.sharer }
    }

    fn put_back<'l>(
        &self,
        vm: &mut Vm,
        host: &impl StreamHost,
        wants: impl Iterator<Item = Want<'l>>,
        now_ns: u64,
    ) {
        for want in wants {
            vm.slices.put_back(host, &self.account(&want), want.amount, now_ns);
        }
    }

    /// When all of `wants` will be there: the one that takes longest decides. Of the one that was
    /// refused it is known.
    fn longest_wait<'l>(
        &self,
        vm: &mut Vm,
        host: &impl StreamHost,
        wants: impl Iterator<Item = Want<'l>>,
        short: &Short<'_>,
        now_ns: u64,
    ) -> u64 {
        let wait = |want: Want<'_>| vm.slices.wait_ns(host, &self.account(&want), want.amount, now_ns);
        wants.map(wait).fold(short.wait_ns, u64::max)
    }
}

/// All but one.
fn without<'l>(index: usize, wants: impl Iterator<Item = Want<'l>>) -> impl Iterator<Item = Want<'l>> {
    wants.enumerate().filter(move |(at, _)| *at != index).map(|(_, want)| want)
}

/// One request of each level.
fn requests(levels: &[Level]) -> impl Iterator<Item = Want<'_>> {
    levels.iter().filter_map(|level| {
        let rate = level.requests?.rate;
        Some(Want { level, kind: Kind::Requests, rate, amount: 1 })
    })
}

/// The tokens of each level. A request that may need more than a whole quota waits for all of it,
/// and owes the rest once it is known.
fn quotas<'l>(levels: &'l [Level], need: Need) -> impl Iterator<Item = Want<'l>> {
    let wants = move |level: &'l Level| {
        [(level.minute, Kind::Minute), (level.day, Kind::Day)].into_iter().filter_map(
            move |(shared, kind)| {
                let rate = shared?.rate;
                Some(Want { level, kind, rate, amount: need.total().min(rate.burst()) })
            },
        )
    };
    levels.iter().flat_map(wants)
}

/// The limits on requests at a time: level, tag, and how many there are in one of `gateways`.
fn permits<'l>(
    caller: &'l [Level],
    model: &'l [Level],
    ip: Option<ClientAddress>,
    gateways: u32,
) -> impl Iterator<Item = (&'l Level, u64, u32)> {
    let levels = caller.iter().chain(model);
    levels.filter_map(move |level| Some((level, level.tag(ip), level.concurrency?.here(gateways))))
}

/// Refuses a prompt that no waiting will help.
fn fits(
    vm: &mut Vm,
    caller: &[Level],
    model: &[Level],
    need: Need,
    subject: &Subject<'_>,
) -> Result<(), Reply> {
    let mut wants = quotas(caller, need).chain(quotas(model, need));
    let Some(Want { level, kind, rate, .. }) = wants.find(|want| need.prompt_least > want.rate.burst())
    else {
        return Ok(());
    };
    vm.counts.add(counter(level));
    let period = if kind == Kind::Day { "day" } else { "minute" };
    let (name, most) = (BucketName::of(level.shape, subject), rate.burst());
    let message = format!(
        "the prompt alone has more tokens than the {most} per {period} that {name} may use; shorten it, waiting does not help"
    );
    Err(Reply::new(Code::RequestTooLarge, message))
}

fn refusal(vm: &mut Vm, short: &Short<'_>, subject: &Subject<'_>, wait_ns: u64) -> Reply {
    vm.counts.add(counter(short.level));
    let ms = wait_ns.div_ceil(1_000_000).max(1);
    let (what, name) = (short.what, BucketName::of(short.level.shape, subject));
    let message = if short.is_kept {
        format!(
            "the share of tenant {} in the limit on {what} of {name} is used up, and others have a right to what is \
             left; try again in {ms} ms",
            subject.tenant
        )
    } else {
        format!("the limit on {what} of {name} is used up; try again in {ms} ms")
    };
    Reply::new(Code::RateLimitExceeded, message).retry_after_ms(ms)
}

fn counter(level: &Level) -> Counter {
    match level.shape.leading() {
        None => Counter::LimitGlobal,
        Some(Attribute::Tenant) => Counter::LimitTenant,
        Some(Attribute::Key) => Counter::LimitKey,
        Some(Attribute::Ip) => Counter::LimitIp,
        Some(Attribute::Route) => Counter::LimitRoute,
        Some(Attribute::Model) => Counter::LimitModel,
    }
}
