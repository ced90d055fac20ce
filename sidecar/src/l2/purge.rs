//! What was taken out, and must not come back from another gateway or from Redis.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Name};

/// Purges that are remembered one by one; beyond it the oldest is taken for one of everything.
const PURGES_MAX: usize = 256;
/// Single answers that are remembered as taken back.
const NAMES_MAX: usize = 4096;

/// Which entries a purge takes; all conditions that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// For this model.
    pub model: Option<String>,
    /// Whose prompt begins so.
    pub prefix: Option<String>,
    /// Stored at least so many milliseconds ago.
    pub age_ms_min: Option<u64>,
    /// With this name, as in `x-gateway-cache-entry`.
    pub name: Option<String>,
}

/// A selection, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// What was taken.
    pub selection: Selection,
    /// When, in milliseconds since 1970. What was stored later stays.
    pub at_ms: u64,
}

impl Purge {
    /// Whether it takes this entry.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        let Selection { tenant, model, prefix, age_ms_min, name } = &self.selection;
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
        entry.stored_at_ms <= self.at_ms
            && is(tenant, &entry.tenant)
            && is(model, &entry.model)
            && prefix.as_deref().is_none_or(|prefix| entry.prompt.starts_with(prefix))
            && age_ms_min.is_none_or(|age| self.at_ms - entry.stored_at_ms >= age)
            && name.as_deref().is_none_or(|name| Name::parse(name) == Some(entry.name))
    }
}

/// Something that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Removal {
    /// Everything of a kind.
    Purge(Purge),
    /// One answer that was served wrongly.
    Entry {
        /// Which one.
        name: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
}

impl Removal {
    /// All that was stored until now.
    #[must_use]
    pub fn everything(at_ms: u64) -> Self {
        Self::Purge(Purge { selection: Selection::default(), at_ms })
    }

    /// When it happened, in milliseconds since 1970.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        match self {
            Self::Purge(Purge { at_ms, .. }) | Self::Entry { at_ms, .. } => *at_ms,
        }
    }

    /// Whether it takes this entry.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        match self {
            Self::Purge(purge) => purge.takes(entry),
            Self::Entry { name, at_ms } => {
                entry.stored_at_ms <= *at_ms && Name::parse(name) == Some(entry.name)
            }
        }
    }
}

/// What was taken out, as far as it is remembered.
#[derive(Debug, Default)]
pub struct Removals {
    purges: VecDeque<Purge>,
    /// What was stored up to here is gone, whatever it is.
    all_until_ms: u64,
    names: HashMap<Name, u64>,
    order: VecDeque<(Name, u64)>,
}

impl Removals {
    /// Remembers one.
    pub fn add(&mut self, removal: &Removal) {
        match removal {
            Removal::Purge(purge) if purge.selection == Selection::default() => {
                self.take_all_until(purge.at_ms);
            }
            Removal::Purge(purge) if self.purges.contains(purge) => {}
            Removal::Purge(purge) => {
                self.purges.push_back(purge.clone());
                if self.purges.len() > PURGES_MAX
                    && let Some(oldest) = self.purges.pop_front()
                {
                    self.take_all_until(oldest.at_ms);
                }
            }
            Removal::Entry { name, at_ms } => {
                let Some(name) = Name::parse(name) else { return };
                self.names.insert(name, *at_ms);
                self.order.push_back((name, *at_ms));
                if self.order.len() > NAMES_MAX
                    && let Some((oldest, at_ms)) = self.order.pop_front()
                    && self.names.get(&oldest) == Some(&at_ms)
                {
                    self.names.remove(&oldest);
                }
            }
        }
    }

    /// Everything that was stored up to then is gone.
    pub fn take_all_until(&mut self, at_ms: u64) {
        self.all_until_ms = self.all_until_ms.max(at_ms);
        let until = self.all_until_ms;
        self.purges.retain(|purge| purge.at_ms > until);
    }

    /// Whether this entry was taken out.
    #[must_use]
    pub fn took(&self, entry: &Entry) -> bool {
        entry.stored_at_ms <= self.all_until_ms
            || self.names.get(&entry.name).is_some_and(|at_ms| entry.stored_at_ms <= *at_ms)
            || self.purges.iter().any(|purge| purge.takes(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::example;
    use super::*;

    fn purge(selection: Selection, at_ms: u64) -> Removal {
        Removal::Purge(Purge { selection, at_ms })
    }

    #[test]
    fn a_purge_takes_what_fits_all_its_conditions_and_was_there() {
        let entry = example("How do I pay?", 1000);
        let some = |text: &str| Some(text.to_owned());
        let took = |selection: Selection, at_ms| {
            let mut removals = Removals::default();
            removals.add(&purge(selection, at_ms));
            removals.took(&entry)
        };
        assert!(took(Selection::default(), 1000) && !took(Selection::default(), 999));
        assert!(took(Selection { tenant: some("t"), prefix: some("How"), ..Selection::default() }, 1000));
        assert!(!took(Selection { tenant: some("t"), prefix: some("Why"), ..Selection::default() }, 1000));
        assert!(!took(Selection { tenant: some("u"), ..Selection::default() }, 2000));
        assert!(took(Selection { age_ms_min: Some(500), ..Selection::default() }, 1500));
        assert!(!took(Selection { age_ms_min: Some(501), ..Selection::default() }, 1500));
        assert!(took(Selection { name: Some(entry.name.to_string()), ..Selection::default() }, 1000));
        assert!(!took(Selection { name: some("no name"), ..Selection::default() }, 1000));
    }

    #[test]
    fn too_many_purges_take_more_and_never_less() {
        let mut removals = Removals::default();
        for at_ms in 0..=PURGES_MAX as u64 {
            removals
                .add(&purge(Selection { tenant: Some(format!("t{at_ms}")), ..Selection::default() }, at_ms));
        }
        assert!(removals.purges.len() <= PURGES_MAX);
        assert!(removals.took(&example("of the oldest purge", 0)));
        assert!(!removals.took(&example("later", 1)));
    }

    #[test]
    fn an_answer_that_was_taken_back_may_be_given_anew() {
        let mut removals = Removals::default();
        let name = example("x", 0).name;
        removals.add(&Removal::Entry { name: name.to_string(), at_ms: 5 });
        assert!(removals.took(&example("x", 5)) && !removals.took(&example("x", 6)));
        for i in 0..NAMES_MAX as u64 {
            let other = example(&format!("other {i}"), 0).name;
            removals.add(&Removal::Entry { name: other.to_string(), at_ms: 7 });
        }
        assert_eq!((removals.names.len(), removals.order.len()), (NAMES_MAX, NAMES_MAX));
        assert!(!removals.took(&example("x", 5)), "the bound");
    }
}
