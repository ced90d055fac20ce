//! Who is asked next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tidegate_core::hash::{hash, mix};
use tidegate_core::routing::{Balancer, Budget, Candidate, Draw, Strategy, slow_start_weight};

use super::clock::Clock;
use super::plan::{Plan, Route};
use super::settings::RoutingSettings;
use super::state::Standing;
use super::steering::{Course, Stance, Steering};
use crate::llm::providers::Provider;

/// Retries with other providers that are saved up: when one of several goes down, every request
/// that it had in its hands must find another at once.
const FAILOVER_RESERVE: f64 = 1_000.0;
/// Retries with the same provider, and hedges, that are saved up.
const RESERVE: f64 = 10.0;
/// Retries a second that a gateway with hardly any traffic has all the same.
const TRICKLE_PER_SECOND: f64 = 1.0;

/// A provider and the model and key it is asked with.
#[derive(Debug, Clone)]
pub struct Picked {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model, by the provider's name for it.
    pub model: Arc<str>,
    /// The `x-gateway-model` value.
    pub model_header: HeaderValue,
    /// Which of the provider's keys is used.
    pub key: usize,
    /// Whether it is asked to find out if it has recovered.
    pub probe: bool,
    model_hash: u64,
    place: (usize, usize),
}

impl Picked {
    /// Hash of the model's name.
    #[must_use]
    pub const fn model_hash(&self) -> u64 {
        self.model_hash
    }

    /// Where its route is in the plan.
    #[must_use]
    pub const fn place(&self) -> (usize, usize) {
        self.place
    }
}

/// Why nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// All are to be left alone for this many milliseconds, as they said themselves.
    ToldToWait(u64),
    /// All have failed.
    Exhausted,
}

/// What choices are made with, beside the providers' own states.
#[derive(Debug)]
pub struct Router {
    /// The clock of all decisions.
    pub clock: Clock,
    /// Who is to be passed by.
    pub steering: Arc<Steering>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    balancer: Balancer,
    random: u64,
    same: Budget,
    other: Budget,
    hedges: Budget,
    trickled_ms: u64,
}

impl Router {
    /// A router that has seen nothing; `seed` makes its random choices differ from those of
    /// other gateways.
    #[must_use]
    pub fn new(settings: &RoutingSettings, seed: u64) -> Self {
        let ratio = settings.retries.budget;
        let inner = Inner {
            balancer: Balancer::default(),
            random: seed,
            same: Budget::new(ratio, RESERVE),
            other: Budget::new(ratio, FAILOVER_RESERVE),
            hedges: Budget::new(settings.hedging.budget, RESERVE),
            trickled_ms: 0,
        };
        let clock = Clock::start();
        Self { clock, steering: Steering::new(clock), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Random bits.
    pub fn random(&self) -> u64 {
        self.lock().draw()
    }

    /// Puts the budgets of changed settings in force.
    pub fn reset_budgets(&self, settings: &RoutingSettings) {
        let mut inner = self.lock();
        inner.same = Budget::new(settings.retries.budget, RESERVE);
        inner.other = Budget::new(settings.retries.budget, FAILOVER_RESERVE);
        inner.hedges = Budget::new(settings.hedging.budget, RESERVE);
    }

    /// A request came in: the budgets grow by its share.
    pub fn earn(&self) {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        let elapsed_ms = now_ms.saturating_sub(inner.trickled_ms);
        inner.trickled_ms = now_ms;
        let Inner { same, other, hedges, .. } = &mut *inner;
        for budget in [same, other] {
            budget.earn();
            budget.trickle(TRICKLE_PER_SECOND, elapsed_ms);
        }
        hedges.earn();
    }

    /// Whether there is budget for one more attempt, with the same provider or another.
    pub fn may_retry(&self, same: bool) -> bool {
        let mut inner = self.lock();
        if same { inner.same.spend() } else { inner.other.spend() }
    }

    /// Whether there is budget for one more hedge.
    pub fn may_hedge(&self) -> bool {
        self.lock().hedges.spend()
    }

    /// Chooses who is asked now. Providers that look ill, or that a policy has passed by, are left
    /// out as long as anybody else can be asked; those that told us to wait are left alone, unless there is nobody else at
    /// all: then the provider itself says it best.
    pub fn next(&self, plan: &mut Plan) -> Result<Picked, Blocked> {
        let alone = plan.routes().count() == 1;
        let may_be_asked =
            |route: &Route| !route.tried && (alone || route.provider.state.wait_ms(route.model_hash) == 0);
        if let Some(place) = plan.preferred.take()
            && let Some(route) = plan.tiers.get(place.0).and_then(|tier| tier.get(place.1))
            && may_be_asked(route)
            && course(&plan.stance, route) != Course::Avoid
            && let Some(picked) = pick(plan, route, place, false)
        {
            return Ok(picked);
        }
        let mut ill = Vec::new();
        for (tier_index, tier) in plan.tiers.iter().enumerate() {
            let mut well = Vec::new();
            for (index, route) in tier.iter().enumerate().filter(|(_, route)| may_be_asked(route)) {
                let place = (tier_index, index);
                let (standing, course) = match course(&plan.stance, route) {
                    Course::Avoid => (Standing::PassedBy, Course::Avoid),
                    course => (route.provider.state.standing(route.model_hash), course),
                };
                match (standing, course) {
                    (Standing::PassedBy, _) => ill.push(place),
                    (Standing::Well, Course::Free | Course::Avoid) => well.push(place),
                    (standing, _) => {
                        let probe = standing == Standing::Probe;
                        if let Some(picked) = pick(plan, route, place, probe) {
                            return Ok(picked);
                        }
                    }
                }
            }
            if let Some(picked) = self.choose(plan, &well) {
                return Ok(picked);
            }
        }
        if let Some(first) = ill.first().map(|(tier, _)| *tier) {
            ill.retain(|(tier, _)| *tier == first);
        }
        self.choose(plan, &ill).ok_or_else(|| blocked(plan))
    }

    /// The same provider once more, with whichever key comes next.
    #[must_use]
    pub fn again(&self, plan: &Plan, picked: &Picked) -> Option<Picked> {
        let (tier, index) = picked.place;
        pick(plan, plan.tiers.get(tier)?.get(index)?, picked.place, false)
    }

    fn choose(&self, plan: &Plan, places: &[(usize, usize)]) -> Option<Picked> {
        if let [place] = places {
            return pick(plan, plan.tiers.get(place.0)?.get(place.1)?, *place, false);
        }
        let settings = &plan.table.settings;
        let routes: Vec<(&Route, (usize, usize))> = places
            .iter()
            .filter_map(|place| Some((plan.tiers.get(place.0)?.get(place.1)?, *place)))
            .collect();
        let candidates: Vec<Candidate> =
            routes.iter().map(|(route, _)| candidate(route, plan, settings)).collect();
        let chosen = {
            let mut inner = self.lock();
            let draw =
                Draw { random: inner.draw(), key: plan.session, quality_floor: settings.quality_floor };
            inner.balancer.pick(settings.strategy, &candidates, &draw)?
        };
        let (route, place) = routes.get(chosen)?;
        pick(plan, route, *place, false)
    }
}

impl Inner {
    const fn draw(&mut self) -> u64 {
        self.random = mix(self.random);
        self.random
    }
}

/// What policies say about a route: a provider all of whose keys are to be avoided is one itself.
fn course(stance: &Stance, route: &Route) -> Course {
    let name = &route.provider.name;
    match stance.course(name) {
        Course::Free if stance.key_to_probe(name).is_some() => Course::Probe,
        Course::Free if (0..route.provider.state.keys()).all(stance.avoided_keys(name)) => Course::Avoid,
        course => course,
    }
}

fn pick(plan: &Plan, route: &Route, place: (usize, usize), probe: bool) -> Option<Picked> {
    let (name, state) = (&route.provider.name, &route.provider.state);
    let probed = plan.stance.key_to_probe(name).filter(|key| *key < state.keys());
    let take = || state.take_key(route.model_hash, plan.stance.avoided_keys(name));
    Some(Picked {
        model_header: HeaderValue::from_str(&route.model).ok()?,
        key: probed.unwrap_or_else(take),
        provider: route.provider.clone(),
        model: route.model.clone(),
        model_hash: route.model_hash,
        probe,
        place,
    })
}

fn candidate(route: &Route, plan: &Plan, settings: &RoutingSettings) -> Candidate {
    let view = route.provider.state.view(plan.stream);
    let age_ms = route.provider.state.age_ms(route.model_hash);
    // A key's home must not move because a provider warms up.
    let is_mapped = matches!(settings.strategy, Strategy::StickySession | Strategy::ConsistentHash);
    let slow_start = if is_mapped { Duration::ZERO } else { settings.slow_start };
    let slow_start_ms = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX);
    Candidate {
        id: hash(&[route.provider.name.as_bytes()]),
        weight: slow_start_weight(route.provider.weight(), age_ms, slow_start_ms),
        in_flight: view.in_flight,
        latency_ms: view.latency_ms,
        cost: route.provider.expected_cost(plan.tokens),
        quality: settings.quality.get(&*route.provider.name).copied().unwrap_or(1.0),
    }
}

fn blocked(plan: &Plan) -> Blocked {
    let waits = plan.routes().filter(|r| !r.tried).map(|r| r.provider.state.wait_ms(r.model_hash));
    waits.min().map_or(Blocked::Exhausted, Blocked::ToldToWait)
}
