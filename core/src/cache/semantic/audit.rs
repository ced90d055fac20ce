//! How often served answers were wrong, from hits that were asked again.

/// Keys that are counted apart; the rest share one count.
const KEYS_MAX: usize = 256;
/// The normal quantile of a two-sided confidence of 95 %.
const Z_95: f64 = 1.959_964;

/// Outcomes of audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audit {
    /// Hits whose answer was compared with a fresh one.
    pub checked: u64,
    /// Of these, those that were wrong.
    pub wrong: u64,
}

/// A share and the bounds within which the true one lies with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The observed share.
    pub share: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Audit {
    /// Counts one more.
    pub const fn add(&mut self, right: bool) {
        self.checked += 1;
        self.wrong += if right { 0 } else { 1 };
    }

    /// The share of wrong answers with Wilson's score interval (E. B. Wilson, JASA 22, 1927); `None`
    /// before the first audit.
    #[must_use]
    pub fn error(&self) -> Option<Interval> {
        if self.checked == 0 {
            return None;
        }
        let (n, share) = (self.checked as f64, self.wrong as f64 / self.checked as f64);
        let z2 = Z_95 * Z_95;
        let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let spread = Z_95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
        Some(Interval { share, low: (centre - spread).max(0.0), high: (centre + spread).min(1.0) })
    }
}

/// Audits by key (a tenant and a model, say), bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTable<K> {
    keys: std::collections::BTreeMap<K, Audit>,
    others: Audit,
}

impl<K> Default for AuditTable<K> {
    fn default() -> Self {
        Self { keys: std::collections::BTreeMap::new(), others: Audit::default() }
    }
}

impl<K: Ord> AuditTable<K> {
    /// Counts one outcome; keys over the bound are counted together.
    pub fn add(&mut self, key: K, right: bool) {
        let full = self.keys.len() >= KEYS_MAX;
        match self.keys.get_mut(&key) {
            Some(audit) => audit.add(right),
            None if full => self.others.add(right),
            None => self.keys.entry(key).or_default().add(right),
        }
    }

    /// Adds what was counted before; a key over the bound is counted with the others.
    pub fn merge(&mut self, key: K, audit: Audit) {
        let full = self.keys.len() >= KEYS_MAX;
        let sum = match self.keys.get_mut(&key) {
            Some(sum) => sum,
            None if full => &mut self.others,
            None => self.keys.entry(key).or_default(),
        };
        sum.checked = sum.checked.saturating_add(audit.checked);
        sum.wrong = sum.wrong.saturating_add(audit.wrong.min(audit.checked));
    }

    /// One key's audits.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Audit
    where
        K: std::borrow::Borrow<Q>,
    {
        self.keys.get(key).copied().unwrap_or_default()
    }

    /// Each key with its audits.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Audit)> {
        self.keys.iter().map(|(key, audit)| (key, *audit))
    }

    /// The audits of all keys, those over the bound included.
    #[must_use]
    pub fn total(&self) -> Audit {
        self.keys.values().fold(self.others, |sum, audit| Audit {
            checked: sum.checked + audit.checked,
            wrong: sum.wrong + audit.wrong,
        })
    }
}
