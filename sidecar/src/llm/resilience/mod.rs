//! One request, as many attempts as it takes and the budgets allow: with another key, another
//! provider, another model, or the same once more after a pause; never after the first token of
//! an answer has gone to the caller.

mod attempt;
mod deadline;
mod held;

use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use tidegate_core::event::Attribute;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::routing::FaultKind;
use tokio::time::{sleep, timeout};

use self::attempt::{Attempted, Failure, attempt};
use super::front::refusal::refuse;
use super::front::{ATTEMPTS, Described, LlmRequest, MODEL, PROVIDER, PROVIDER_KEY, Task};
use super::hidden::Unseen;
use super::providers::Providers;
use super::routing::{Blocked, Picked, Plan, key_name};
use super::upstream::Caller;
use crate::keys::unix_ms;

/// Most attempts of one request, whatever is configured.
const ATTEMPTS_MAX: u32 = 32;
/// How long a key rests after a 429 that does not say, in milliseconds.
const REST_MS: u64 = 1_000;
/// How long a key rests that is not accepted or has no credit, in milliseconds.
const REST_LONG_MS: u64 = 60_000;

/// One request of a caller.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// What its path is for.
    pub task: Task,
    /// Who asks.
    pub caller: &'a Caller<'a>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The request.
    pub request: &'a LlmRequest,
    /// The same in the terms in which requests are counted.
    pub described: &'a Described<'a>,
}

/// The attempts of one request.
struct Attempts<'a> {
    providers: &'a Providers,
    exchange: Exchange<'a>,
    plan: Plan,
    made: u32,
    same: u32,
}

/// Has somebody of the plan answer, in the time that the caller allows. The answer, and a
/// provider's refusal when nobody else could be asked, name who gave it.
///
/// # Errors
/// All providers have asked to be left alone, or the time is up.
pub async fn answer(providers: &Providers, plan: Plan, exchange: Exchange<'_>) -> Result<Response, Reply> {
    let Some(wait) = deadline::wait(exchange.headers) else {
        return in_turn(providers, plan, exchange).await;
    };
    timeout(wait, in_turn(providers, plan, exchange)).await.unwrap_or_else(|_| {
        let message =
            format!("No provider answered within the {} ms that the caller allows.", wait.as_millis());
        Err(Reply::new(Code::UpstreamTimeout, message))
    })
}

async fn in_turn(providers: &Providers, mut plan: Plan, exchange: Exchange<'_>) -> Result<Response, Reply> {
    providers.router.earn();
    let may_answer = |name: &str| plan.routes().any(|route| &*route.provider.name == name);
    plan.stance = providers.router.steering.weigh(|| exchange.described.attributes(), may_answer);
    let mut picked = providers.router.next(&mut plan).map_err(all_rest)?;
    let mut attempts = Attempts { providers, exchange, plan, made: 0, same: 0 };
    loop {
        let (by, attempted) = attempts.attempt(picked).await;
        let failed = match &attempted {
            Attempted::Answered(_) => None,
            Attempted::Failed(failure) => Some(failure.status()),
        };
        attempts.plan.stance.settle(&by.provider.name, by.key, failed);
        let failure = match attempted {
            Attempted::Answered(response) => return Ok(attempts.named(response, &by)),
            Attempted::Failed(failure) => failure,
        };
        match attempts.next(&by, &failure) {
            Some((next, pause)) => {
                // The same once more is the same request still, and would count one failure twice.
                if (&next.provider.name, next.key) != (&by.provider.name, by.key) {
                    attempts.hide(&by, failure).await;
                }
                sleep(pause).await;
                picked = next;
            }
            None => {
                let caller = exchange.caller;
                let refused = |reply: Reply| refuse(&reply, caller.protocol, caller.request_id);
                let response = failure.result.unwrap_or_else(refused);
                return Ok(attempts.named(response, &by));
            }
        }
    }
}

fn all_rest(blocked: Blocked) -> Reply {
    let message = "Every provider that could answer this has reached its limits.";
    let reply = Reply::new(Code::NoProviderAvailable, message);
    match blocked {
        Blocked::ToldToWait(ms) => reply.retry_after_ms(ms.max(1)),
        Blocked::Exhausted => reply.retry_after_ms(REST_MS),
    }
}

impl Attempts<'_> {
    /// One attempt, or two where the first one is slow and hedging is on.
    async fn attempt(&mut self, picked: Picked) -> (Picked, Attempted) {
        self.made += 1;
        let after = self.hedge_after(&picked);
        let Some(after) = after else {
            let attempted = attempt(self.exchange, &picked).await;
            return (picked, attempted);
        };
        let mut first = Box::pin(attempt(self.exchange, &picked));
        tokio::select! {
            attempted = &mut first => {
                drop(first);
                return (picked, attempted);
            }
            () = sleep(after) => {}
        }
        let Some(other) = hedge(self.providers, &mut self.plan, &picked) else {
            let attempted = first.await;
            return (picked, attempted);
        };
        self.made += 1;
        let second = Box::pin(attempt(self.exchange, &other));
        let (first_won, attempted, failed) = race(first, second).await;
        self.providers.routing_metrics.hedge(!first_won);
        let (winner, loser) = if first_won { (picked, other) } else { (other, picked) };
        if let Some(failure) = failed {
            self.note(&loser, &failure);
            self.hide(&loser, failure).await;
        }
        (winner, attempted)
    }

    /// After how long a second provider is asked: when the answer is later than nineteen of
    /// twenty are.
    fn hedge_after(&self, picked: &Picked) -> Option<Duration> {
        let settings = &self.plan.table.settings;
        let has_others = self.plan.routes().filter(|route| !route.tried).count() > 1;
        let wanted = settings.enabled && settings.hedging.enabled && has_others;
        let p95_ms = wanted.then(|| picked.provider.state.view(self.plan.stream).p95_ms)??;
        Some(Duration::from_secs_f64(p95_ms / 1000.0))
    }

    /// Notes a failure where the next choice looks for it.
    fn note(&mut self, picked: &Picked, failure: &Failure) {
        let (state, model) = (&picked.provider.state, picked.model_hash());
        self.providers.routing_metrics.fault(&picked.provider.name, failure.kind);
        let told = failure.wait_ms;
        match failure.kind {
            FaultKind::RateLimit => state.rest_key(picked.key, Some(model), told.unwrap_or(REST_MS)),
            FaultKind::Quota | FaultKind::Credential => {
                state.rest_key(picked.key, None, told.unwrap_or(REST_LONG_MS).max(REST_LONG_MS));
            }
            _ => {}
        }
        let is_about_the_key =
            matches!(failure.kind, FaultKind::RateLimit | FaultKind::Quota | FaultKind::Credential);
        let has_another_key = is_about_the_key && state.wait_ms(model) == 0;
        let (tier, index) = picked.place();
        if has_another_key {
            self.plan.preferred = Some((tier, index));
        } else if let Some(route) = self.plan.tiers.get_mut(tier).and_then(|tier| tier.get_mut(index)) {
            route.tried = true;
        }
        tracing::debug!(
            provider = &*picked.provider.name,
            kind = failure.kind.as_str(),
            attempt = self.made,
            "attempt failed"
        );
    }

    /// Tells of a failure that the caller does not see.
    async fn hide(&self, picked: &Picked, failure: Failure) {
        let mut attributes = self.exchange.described.attributes().clone();
        attributes.insert(Attribute::Provider, picked.provider.name.to_string());
        if picked.provider.state.keys() > 1 {
            attributes.insert(Attribute::ProviderKey, key_name(&picked.provider.name, picked.key));
        }
        let status = failure.status();
        let (in_stream, words) = failure.words(self.exchange.caller).await;
        let unseen = Unseen { status, in_stream, words: &words };
        self.providers.hidden.note(attributes, unseen, unix_ms());
    }

    /// Who is asked next, and after which pause; `None` to give up.
    fn next(&mut self, picked: &Picked, failure: &Failure) -> Option<(Picked, Duration)> {
        self.note(picked, failure);
        let router = &self.providers.router;
        if !self.plan.table.settings.enabled || self.made >= ATTEMPTS_MAX {
            return None;
        }
        if !failure.kind.may_succeed_elsewhere() {
            self.plan.fall_back(failure.kind);
        }
        let mut next = router.next(&mut self.plan);
        if next.is_err() {
            self.plan.fall_back(failure.kind);
            next = router.next(&mut self.plan);
        }
        if let Ok(next) = next {
            return self.afford(false).then_some((next, Duration::ZERO));
        }
        let retries = self.plan.table.settings.retries;
        if !failure.kind.may_pass_by_itself() || self.same + 1 >= retries.attempts {
            return None;
        }
        let pause_ms = failure.wait_ms.unwrap_or_else(|| retries.backoff.wait_ms(self.same, router.random()));
        if pause_ms > retries.backoff.max_ms || !self.afford(true) {
            return None;
        }
        self.same += 1;
        Some((router.again(&self.plan, picked)?, Duration::from_millis(pause_ms)))
    }

    fn afford(&self, same: bool) -> bool {
        let may = self.providers.router.may_retry(same);
        if may {
            self.providers.routing_metrics.retry(same);
        } else {
            self.providers.routing_metrics.budget_spent.inc();
        }
        may
    }

    fn named(&self, mut response: Response, by: &Picked) -> Response {
        attempt::heard(&response, by, self.plan.tokens);
        let headers = response.headers_mut();
        headers.insert(PROVIDER, by.provider.name_header.clone());
        headers.insert(MODEL, by.model_header.clone());
        headers.insert(ATTEMPTS, HeaderValue::from(self.made));
        if by.provider.state.keys() > 1
            && let Ok(key) = HeaderValue::try_from(key_name(&by.provider.name, by.key))
        {
            headers.insert(PROVIDER_KEY, key);
        }
        response
    }
}

/// Who is asked beside a slow one, if there is anybody, and budget.
fn hedge(providers: &Providers, plan: &mut Plan, slow: &Picked) -> Option<Picked> {
    let (tier, index) = slow.place();
    plan.tiers.get_mut(tier)?.get_mut(index)?.tried = true;
    let other = providers.router.next(plan).ok()?;
    providers.router.may_hedge().then_some(other)
}

/// The first answer of two attempts, or the last failure: whether it is the first attempt's, what
/// it is, and what the other one failed of. The loser is dropped, which ends its call.
async fn race(
    mut first: impl Future<Output = Attempted> + Unpin,
    mut second: impl Future<Output = Attempted> + Unpin,
) -> (bool, Attempted, Option<Failure>) {
    let (first_ended, attempted) = tokio::select! {
        attempted = &mut first => (true, attempted),
        attempted = &mut second => (false, attempted),
    };
    let failure = match attempted {
        Attempted::Answered(_) => return (first_ended, attempted, None),
        Attempted::Failed(failure) => failure,
    };
    let other = if first_ended { second.await } else { first.await };
    (!first_ended, other, Some(failure))
}
