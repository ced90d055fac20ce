//! Policies on a provider, or on one of its keys, carried out where such a choice is made: for
//! requests of a slice the provider is passed by as long as anybody else can be asked. Nothing is
//! refused. Probes and recovery are those of every policy that breaks ([`Gate`]): a few requests of
//! the slice find out whether it is well again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::event::{Attribute, Attributes, PolicyNote};
use tidegate_core::incident::enforcement::Measure;
use tidegate_core::incident::gate::{Gate, Passage};

use super::clock::Clock;

/// One policy for the router.
#[derive(Debug, Clone, PartialEq)]
pub struct Steer {
    /// The policy.
    pub id: String,
    /// Which requests, with the provider or the key of a provider that they are to pass by.
    pub scope: Attributes,
    /// Its times; a break.
    pub measure: Measure,
    /// Statuses by which the failure shows.
    pub statuses: Vec<u16>,
    /// Whether its end is told from here, because no filter carries it out.
    pub decides: bool,
}

#[derive(Debug)]
struct Steered {
    steer: Steer,
    gate: Gate,
    note: Option<PolicyNote>,
}

/// The policies that the router carries out.
#[derive(Debug)]
pub struct Steering {
    clock: Clock,
    steered: Mutex<Vec<Steered>>,
}

/// Whether a provider is to be asked for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// No policy has a say.
    Free,
    /// To find out whether it has recovered.
    Probe,
    /// Only if nobody else can be.
    Avoid,
}

#[derive(Debug)]
struct Verdict {
    id: String,
    provider: Box<str>,
    key: Option<usize>,
    /// Lets the request through as a probe whose outcome is still to be told.
    probes: bool,
    avoids: bool,
}

/// What policies say about one request.
#[derive(Debug, Default)]
pub struct Stance {
    verdicts: Vec<Verdict>,
    weighed_ns: u64,
    steering: Option<Arc<Steering>>,
}

/// `openai#2` for the second of the keys of `openai`.
#[must_use]
pub fn key_name(provider: &str, key: usize) -> String {
    format!("{provider}#{}", key + 1)
}

fn key_of_name(name: &str) -> Option<(&str, usize)> {
    let (provider, place) = name.rsplit_once('#')?;
    Some((provider, place.parse::<usize>().ok()?.checked_sub(1)?))
}

impl Steering {
    /// No policies.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, steered: Mutex::default() })
    }

    /// Puts these policies in force; those that stay keep what they know.
    pub fn apply(&self, steers: Vec<Steer>) {
        let now_ns = self.now_ns();
        let mut steered = self.lock();
        let mut before = std::mem::take(&mut *steered);
        *steered = steers
            .into_iter()
            .map(|steer| match before.iter().position(|old| old.steer == steer) {
                Some(at) => before.swap_remove(at),
                None => Steered { gate: Gate::new(&steer.measure, now_ns), steer, note: None },
            })
            .collect();
    }

    /// What policies did since the last time, where it is for the router to tell.
    pub fn take_notes(&self) -> Vec<PolicyNote> {
        let mut steered = self.lock();
        let telling = steered.iter_mut().filter(|one| one.steer.decides);
        telling.filter_map(|one| one.note.take()).collect()
    }

    /// What policies say about a request with these attributes, which those could answer whom
    /// `may_answer` knows.
    pub fn weigh<'r>(
        self: &Arc<Self>,
        attributes: impl FnOnce() -> &'r Attributes,
        may_answer: impl Fn(&str) -> bool,
    ) -> Stance {
        let mut steered = self.lock();
        if steered.is_empty() {
            return Stance::default();
        }
        let (attributes, now_ns) = (attributes(), self.now_ns());
        let verdicts = steered.iter_mut().filter_map(|one| one.weigh(attributes, &may_answer, now_ns));
        Stance { verdicts: verdicts.collect(), weighed_ns: now_ns, steering: Some(Arc::clone(self)) }
    }

    fn change(&self, id: &str, succeeded: Option<bool>, sent_ns: u64) {
        let now_ns = self.now_ns();
        let mut steered = self.lock();
        let Some(one) = steered.iter_mut().find(|one| one.steer.id == id) else { return };
        match succeeded {
            Some(succeeded) => one.gate.probed(succeeded, sent_ns, &one.steer.measure, now_ns),
            None => one.gate.withdraw_probe(),
        }
        one.tell(|note| {
            note.probes_ok += u64::from(succeeded == Some(true));
            note.probes_failed += u64::from(succeeded == Some(false));
        });
    }

    fn statuses_have(&self, id: &str, status: u16) -> bool {
        self.lock().iter().any(|one| one.steer.id == id && one.steer.statuses.contains(&status))
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ms().saturating_mul(1_000_000)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Steered>> {
        self.steered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steered {
    /// The verdict on a request; `None` if it is not in the slice, or free to go.
    fn weigh(
        &mut self,
        attributes: &Attributes,
        may_answer: impl Fn(&str) -> bool,
        now_ns: u64,
    ) -> Option<Verdict> {
        let scope = &self.steer.scope;
        let named = scope.get(&Attribute::ProviderKey).map(|name| key_of_name(name));
        let (provider, key) = match named {
            Some(named) => named.map(|(provider, key)| (provider, Some(key)))?,
            None => (scope.get(&Attribute::Provider)?.as_str(), None),
        };
        let mut at_entry = scope.iter().filter(|(attribute, _)| attribute.is_known_at_entry());
        if !at_entry.all(|(attribute, wanted)| attributes.get(attribute) == Some(wanted))
            || !may_answer(provider)
        {
            return None;
        }
        let verdict = |probes, avoids| Verdict {
            id: self.steer.id.clone(),
            provider: provider.into(),
            key,
            probes,
            avoids,
        };
        let verdict = match self.gate.admit(&self.steer.measure, now_ns) {
            Passage::Pass => None,
            Passage::Canary | Passage::Probe => Some(verdict(true, false)),
            Passage::Refuse { .. } => Some(verdict(false, true)),
        };
        self.tell(|note| note.refused += u64::from(verdict.as_ref().is_some_and(|v| v.avoids)));
        verdict
    }

    /// Notes something, and where the gate is.
    fn tell(&mut self, change: impl FnOnce(&mut PolicyNote)) {
        let id = &self.steer.id;
        let phase = self.gate.phase();
        let fresh = || PolicyNote { id: id.clone(), refused: 0, probes_ok: 0, probes_failed: 0, phase: 0 };
        let note = self.note.get_or_insert_with(fresh);
        change(note);
        note.phase = phase.code();
    }
}

impl Stance {
    /// Whether the provider called `name` is to be asked.
    #[must_use]
    pub fn course(&self, name: &str) -> Course {
        let mut whole = self.verdicts.iter().filter(|v| v.key.is_none() && &*v.provider == name);
        match (whole.clone().any(|v| v.avoids), whole.any(|v| v.probes)) {
            (true, _) => Course::Avoid,
            (false, true) => Course::Probe,
            (false, false) => Course::Free,
        }
    }

    /// Which of a provider's keys are to be passed by.
    pub fn avoided_keys(&self, name: &str) -> impl Fn(usize) -> bool {
        let keys: Vec<usize> =
            self.verdicts.iter().filter(|v| v.avoids && &*v.provider == name).filter_map(|v| v.key).collect();
        move |key| keys.contains(&key)
    }

    /// The key of a provider that is to be tried to find out whether it has recovered.
    #[must_use]
    pub fn key_to_probe(&self, name: &str) -> Option<usize> {
        self.verdicts.iter().filter(|v| v.probes && &*v.provider == name).find_map(|v| v.key)
    }

    /// Tells policies that let the request through as a probe how the provider did: `None` for
    /// well, else the status of its failure. Another mistake of the caller's than the incident's
    /// says that the provider is well.
    pub fn settle(&mut self, provider: &str, key: usize, failed: Option<u16>) {
        let Some(steering) = &self.steering else { return };
        for verdict in &mut self.verdicts {
            let was_asked = &*verdict.provider == provider && verdict.key.is_none_or(|k| k == key);
            if verdict.probes && was_asked {
                verdict.probes = false;
                let is_well = failed.is_none_or(|status| {
                    (400..500).contains(&status) && !steering.statuses_have(&verdict.id, status)
                });
                steering.change(&verdict.id, Some(is_well), self.weighed_ns);
            }
        }
    }
}

impl Drop for Stance {
    /// Probes that were never sent, or whose caller left, say nothing.
    fn drop(&mut self) {
        let Some(steering) = &self.steering else { return };
        for verdict in self.verdicts.iter().filter(|verdict| verdict.probes) {
            steering.change(&verdict.id, None, self.weighed_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::incident::enforcement::slice;

    use super::*;

    const MEASURE: Measure =
        Measure::Break { recovery_timeout_ms: 1_000, recovery_increment: 0.5, successes_per_step: 1 };

    fn steering(scope: Attributes) -> Arc<Steering> {
        let steering = Steering::new(Clock::start());
        steering.apply(vec![steer(scope)]);
        steering
    }

    fn steer(scope: Attributes) -> Steer {
        Steer { id: "p".into(), scope, measure: MEASURE, statuses: vec![401], decides: true }
    }

    fn of(steering: &Arc<Steering>, tenant: &str) -> Stance {
        let attributes = slice(Attribute::Tenant, tenant);
        steering.weigh(|| &attributes, |name| name == "a" || name == "b")
    }

    async fn pass(ms: u64) {
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_operator_closed_is_passed_by_for_as_long_as_the_policy_is_there() {
        let steering = Steering::new(Clock::start());
        let measure = Measure::Close;
        steering.apply(vec![Steer { measure, ..steer(slice(Attribute::Provider, "a")) }]);
        for _ in 0..200 {
            let mut stance = of(&steering, "acme");
            assert_eq!(stance.course("a"), Course::Avoid);
            stance.settle("b", 0, None);
            pass(100).await;
        }
        steering.apply(Vec::new());
        assert_eq!(of(&steering, "acme").course("a"), Course::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_is_passed_by_for_the_slice_alone_until_it_is_well() {
        let mut scope = slice(Attribute::Provider, "a");
        scope.insert(Attribute::Tenant, "acme".into());
        let steering = steering(scope.clone());
        assert_eq!(of(&steering, "acme").course("a"), Course::Avoid);
        assert_eq!(
            (of(&steering, "beta").course("a"), of(&steering, "acme").course("b")),
            (Course::Free, Course::Free)
        );
        pass(1_000).await;
        for failed in [Some(503), Some(401)] {
            let mut stance = of(&steering, "acme");
            assert_eq!(stance.course("a"), Course::Probe);
            stance.settle("b", 0, None);
            stance.settle("a", 0, failed);
            assert_eq!(of(&steering, "acme").course("a"), Course::Avoid, "it still fails");
            pass(1_000).await;
        }
        while of(&steering, "acme").course("a") != Course::Free {
            for _ in 0..4 {
                of(&steering, "acme").settle("a", 0, Some(400));
            }
            pass(1_000).await;
            steering.apply(vec![steer(scope.clone())]);
        }
        let notes = steering.take_notes();
        assert_eq!(notes.len(), 1);
        assert_eq!((notes[0].phase, notes[0].probes_failed), (0, 2), "{notes:?}");
        steering.apply(vec![]);
        assert_eq!(of(&steering, "acme").course("a"), Course::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_pool_one_key_is_passed_by() {
        let steering = steering(slice(Attribute::ProviderKey, &key_name("a", 1)));
        let stance = of(&steering, "acme");
        assert_eq!(stance.course("a"), Course::Free);
        assert_eq!([0, 1, 2].map(stance.avoided_keys("a")), [false, true, false]);
        assert!(!stance.avoided_keys("b")(1));
        pass(1_000).await;
        let (first, second) = (of(&steering, "acme"), of(&steering, "acme"));
        assert_eq!(first.key_to_probe("a"), Some(1));
        drop((first, second));
        let probes = (0..9).map(|_| of(&steering, "acme")).collect::<Vec<_>>();
        let probes = probes.iter().filter(|stance| stance.key_to_probe("a") == Some(1)).count();
        assert_eq!(probes, 3, "probes that were never sent are sent again");
    }

    #[test]
    fn names_of_keys_are_read_as_they_are_written() {
        assert_eq!(key_of_name(&key_name("a#b", 4)), Some(("a#b", 4)));
        for name in ["a", "a#", "a#0", "a#x"] {
            assert_eq!(key_of_name(name), None, "{name}");
        }
    }
}
