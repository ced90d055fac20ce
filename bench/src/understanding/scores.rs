//! How well groups agree with the truth.

use std::collections::BTreeMap;

/// Truth and guess of one item.
pub(crate) type Pair = (String, String);

/// The mean over all true classes of F1, which counts a rare class as much as a frequent one.
pub(crate) fn macro_f1(pairs: &[Pair]) -> f64 {
    let mut classes: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    for (truth, guess) in pairs {
        if truth == guess {
            classes.entry(truth).or_default()[0] += 1.0;
        } else {
            classes.entry(truth).or_default()[1] += 1.0;
            classes.entry(guess).or_default()[2] += 1.0;
        }
    }
    let of_truth: Vec<&[f64; 3]> = classes.values().filter(|[hit, missed, _]| hit + missed > 0.0).collect();
    let f1 = |[hit, missed, wrong]: &[f64; 3]| 2.0 * hit / (2.0 * hit + missed + wrong);
    of_truth.iter().map(|class| f1(class)).sum::<f64>() / (of_truth.len() as f64).max(1.0)
}

/// Items in each class, in each group, and in each class and group at once.
struct Table<'a> {
    classes: BTreeMap<&'a str, f64>,
    groups: BTreeMap<&'a str, f64>,
    both: BTreeMap<(&'a str, &'a str), f64>,
    all: f64,
}

impl<'a> Table<'a> {
    fn of(pairs: &'a [Pair]) -> Self {
        let (mut classes, mut groups, mut both) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (class, group) in pairs {
            *classes.entry(class.as_str()).or_insert(0.0) += 1.0;
            *groups.entry(group.as_str()).or_insert(0.0) += 1.0;
            *both.entry((class.as_str(), group.as_str())).or_insert(0.0) += 1.0;
        }
        Self { classes, groups, both, all: pairs.len() as f64 }
    }
}

/// The V-measure (Rosenberg and Hirschberg, EMNLP 2007): the harmonic mean of homogeneity and
/// completeness.
pub(crate) fn v_measure(pairs: &[Pair]) -> f64 {
    let table = Table::of(pairs);
    let entropy = |counts: &BTreeMap<&str, f64>| {
        -counts.values().map(|n| n / table.all * (n / table.all).ln()).sum::<f64>()
    };
    let given = |whole: &dyn Fn(&(&str, &str)) -> f64| {
        -table.both.iter().map(|(key, n)| n / table.all * (n / whole(key)).ln()).sum::<f64>()
    };
    let share = |rest: f64, of: f64| if of > 0.0 { 1.0 - rest / of } else { 1.0 };
    let homogeneity = share(given(&|(_, group)| table.groups[group]), entropy(&table.classes));
    let completeness = share(given(&|(class, _)| table.classes[class]), entropy(&table.groups));
    2.0 * homogeneity * completeness / (homogeneity + completeness).max(f64::EPSILON)
}

/// The adjusted Rand index (Hubert and Arabie 1985).
pub(crate) fn adjusted_rand(pairs: &[Pair]) -> f64 {
    let table = Table::of(pairs);
    let twos = |n: &f64| n * (n - 1.0) / 2.0;
    let both: f64 = table.both.values().map(twos).sum();
    let (classes, groups) =
        (table.classes.values().map(twos).sum::<f64>(), table.groups.values().map(twos).sum::<f64>());
    let expected = classes * groups / twos(&table.all).max(1.0);
    let most = (classes + groups) / 2.0;
    if (most - expected).abs() < f64::EPSILON { 1.0 } else { (both - expected) / (most - expected) }
}

/// Grouping accuracy (Zhu et al., ICSE-SEIP 2019): the share of items whose group is exactly a class.
pub(crate) fn grouping_accuracy(pairs: &[Pair]) -> f64 {
    let table = Table::of(pairs);
    let exact = |(class, group): &(&str, &str), n: f64| table.classes[class] == n && table.groups[group] == n;
    table.both.iter().filter(|(key, n)| exact(key, **n)).map(|(_, n)| n).sum::<f64>() / table.all.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<Pair> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn agreement_is_one_and_names_of_groups_do_not_matter() {
        let same = pairs(&[("a", "1"), ("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(near(v_measure(&same), 1.0) && near(adjusted_rand(&same), 1.0));
        assert!(near(grouping_accuracy(&same), 1.0) && near(macro_f1(&same), 0.0));
    }

    #[test]
    fn figures_are_those_of_scikit_learn() {
        // v_measure_score and adjusted_rand_score of [0,0,1,1] and [0,0,1,2]; f1_score by hand.
        let split = pairs(&[("a", "1"), ("a", "1"), ("b", "2"), ("b", "3")]);
        assert!(near(v_measure(&split), 0.8) && near(adjusted_rand(&split), 0.5714));
        assert!(near(grouping_accuracy(&split), 0.5));
        let guessed = pairs(&[("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")]);
        assert!(near(macro_f1(&guessed), (2.0 / 3.0 + 0.8) / 2.0));
    }
}
