//! What answers were served on, and which were said to be wrong.

use std::collections::{HashMap, VecDeque};

use tidegate_core::cache::semantic::Evidence;

use super::super::entry::Name;

/// Answers of which the last use is remembered, and answers that were said to be wrong.
const MARKS_MAX: usize = 4096;

/// A map that forgets what came first.
#[derive(Debug)]
struct Latest<T> {
    values: HashMap<Name, T>,
    order: VecDeque<Name>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Latest<T> {
    fn put(&mut self, name: Name, value: T) {
        if self.values.insert(name, value).is_none() {
            self.order.push_back(name);
        }
        if self.order.len() > MARKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    /// Its place in the order stays, so that the order never grows beyond the bound.
    fn take(&mut self, name: Name) -> Option<T> {
        let value = self.values.remove(&name)?;
        self.order.retain(|other| *other != name);
        Some(value)
    }
}

/// What is remembered of single answers.
#[derive(Debug, Default)]
pub(super) struct Marks {
    served: Latest<(Box<str>, Evidence)>,
    /// Similarities up to which answers are not served.
    wrong: Latest<f32>,
}

impl Marks {
    pub(super) fn served(&mut self, name: Name, tenant: &str, evidence: Evidence) {
        self.served.put(name, (tenant.into(), evidence));
    }

    pub(super) fn said_wrong(&mut self, name: Name) -> Option<(Box<str>, Evidence)> {
        let (tenant, evidence) = self.served.take(name)?;
        self.raise(name, evidence.similarity());
        Some((tenant, evidence))
    }

    pub(super) fn raise(&mut self, name: Name, similarity: f32) {
        let before = self.wrong.values.get(&name).copied().unwrap_or(-1.0);
        self.wrong.put(name, similarity.max(before));
    }

    pub(super) fn allows(&self, name: Name, similarity: f32) -> bool {
        self.wrong.values.get(&name).is_none_or(|up_to| similarity > *up_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_are_remembered() {
        let mut marks = Marks::default();
        let name = |i: usize| Name::of(&std::array::from_fn(|place| (i >> (place % 8 * 8)) as u8));
        (0..=MARKS_MAX).for_each(|i| marks.raise(name(i), 0.9));
        assert!(marks.allows(name(0), 0.5), "forgotten");
        assert!(!marks.allows(name(1), 0.5) && !marks.allows(name(MARKS_MAX), 0.9));
        marks.raise(name(1), 0.7);
        assert!(!marks.allows(name(1), 0.9), "never lowered");
        assert_eq!((marks.wrong.values.len(), marks.wrong.order.len()), (MARKS_MAX, MARKS_MAX));
    }
}
