//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// Most problems reported in one go; a file with more is not a configuration.
pub const PROBLEMS_MAX: usize = 64;

/// One thing that is wrong: where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// YAML path, as in `limiter.rules[2].rate`.
    pub path: String,
    /// What is wrong and how to put it right; never contains a secret.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Collects problems; the first one of each path counts, because later ones only follow from it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem, unless this path or one above it has one already or the list is full.
    pub fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        let path = path.into();
        // Documents that stand for themselves have no path above their fields.
        let path = path.strip_prefix('.').map_or(path.clone(), str::to_owned);
        if self.0.len() < PROBLEMS_MAX && !self.0.iter().any(|p| covers(&p.path, &path)) {
            self.0.push(Problem { path, what: what.into() });
        }
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is wrong, in the order of discovery.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// Checks that `value` lies within `range`; where it does not, the problem is noted and the
    /// lower end returned, so that checking can go on.
    pub fn within<T>(&mut self, path: &str, value: T, range: std::ops::RangeInclusive<T>, unit: &str) -> T
    where
        T: PartialOrd + Copy + fmt::Display,
    {
        if range.contains(&value) {
            return value;
        }
        let (least, most) = (*range.start(), *range.end());
        self.add(path, format!("is {value}; must be {least} to {most}{unit}"));
        least
    }

    /// The value of a field that has no default.
    pub fn required<T>(&mut self, path: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() {
            self.add(path, format!("is missing; add it, for example {example}"));
        }
        value
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `below` is `path` itself or a field or item of it.
fn covers(path: &str, below: &str) -> bool {
    below.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_problem_of_a_path_counts() {
        let mut problems = Problems::default();
        problems.add("a.b", "first");
        problems.add("a.b", "second");
        problems.add("a.b[1].c", "below");
        problems.add("a.bc", "another");
        assert_eq!(problems.to_string(), "a.b: first\na.bc: another\n");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut problems = Problems::default();
        (0..1000).for_each(|i| problems.add(format!("a[{i}]"), "x"));
        assert_eq!(problems.list().len(), PROBLEMS_MAX);
    }
}
