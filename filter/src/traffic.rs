//! What one VM counts of its traffic: requests and failures by tuple of attributes, so that the
//! sidecar can say in which slice requests fail. A tuple that is known costs a request a hash and a
//! look-up, and allocates nothing.
//!
//! Both tables are bounded. When they are full, new tuples are counted together; on each batch the
//! ones that were not used give way, so the heavy ones stay.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_core::event::{
    ATTRIBUTES, Attribute, Attributes, ROW_SIGNATURES_MAX, ROWS_MAX, TrafficRow, VALUE_BYTES_MAX,
};
use tidegate_core::hash::hash;
use tidegate_core::incident::Signature;
use tidegate_core::incident::matcher::Values;

/// Tuples remembered between requests.
const TUPLES_MAX: usize = 1024;
/// The signature of failures beyond those told apart in a row.
pub const ANY_OTHER: Signature = Signature(0);

/// What is known of a request at its entry.
#[derive(Debug)]
pub struct Tuple {
    hash: u64,
    attributes: Attributes,
    used: Cell<bool>,
}

/// The count of requests of one tuple that one provider answered.
#[derive(Debug)]
pub struct Row {
    tuple: Rc<Tuple>,
    provider: Option<String>,
    provider_key: Option<String>,
    requests: Cell<u64>,
    failures: RefCell<Vec<(Signature, u64)>>,
}

impl Row {
    fn new(tuple: &Rc<Tuple>, provider: &[u8], provider_key: &[u8]) -> Rc<Self> {
        Rc::new(Self {
            tuple: Rc::clone(tuple),
            provider: text(provider),
            provider_key: text(provider_key),
            requests: Cell::new(0),
            failures: RefCell::default(),
        })
    }

    /// The attributes, with those of the answer.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let mut attributes = self.tuple.attributes.clone();
        for (attribute, value) in
            [(Attribute::Provider, &self.provider), (Attribute::ProviderKey, &self.provider_key)]
        {
            if let Some(value) = value {
                attributes.insert(attribute, value.clone());
            }
        }
        attributes
    }

    /// Counts a request that ended, and its failure if it failed.
    pub fn count(&self, failure: Option<Signature>) {
        self.requests.set(self.requests.get() + 1);
        if let (Some(signature), Ok(mut failures)) = (failure, self.failures.try_borrow_mut()) {
            add(&mut failures, signature);
        }
    }

    /// Takes what was counted, if anything was.
    fn take(&self) -> Option<TrafficRow> {
        let (requests, failures) = (self.requests.take(), self.failures.take());
        (requests > 0).then(|| TrafficRow {
            attributes: self.attributes(),
            requests,
            failures,
            hidden: false,
        })
    }
}

/// One VM's counts.
#[derive(Debug)]
pub struct Traffic {
    tuples: BTreeMap<u64, Rc<Tuple>>,
    rows: BTreeMap<u64, Rc<Row>>,
    /// Of all tuples that are not told apart.
    rest: Rc<Row>,
}

impl Default for Traffic {
    fn default() -> Self {
        let untold = Tuple { hash: 0, attributes: Attributes::new(), used: Cell::new(false) };
        Self { tuples: BTreeMap::new(), rows: BTreeMap::new(), rest: Row::new(&Rc::new(untold), b"", b"") }
    }
}

impl Traffic {
    /// The tuple with these values.
    pub fn tuple(&mut self, values: &Values<'_>) -> Rc<Tuple> {
        let hash = hash(values);
        if let Some(known) = self.tuples.get(&hash) {
            known.used.set(true);
            return Rc::clone(known);
        }
        if self.tuples.len() >= TUPLES_MAX {
            return Rc::clone(&self.rest.tuple);
        }
        let tuple = Rc::new(Tuple { hash, attributes: attributes(values), used: Cell::new(true) });
        self.tuples.insert(hash, Rc::clone(&tuple));
        tuple
    }

    /// The row of requests of a tuple that a provider answered with one of its keys; either may be
    /// empty.
    pub fn row(&mut self, tuple: &Rc<Tuple>, provider: &[u8], provider_key: &[u8]) -> Rc<Row> {
        if Rc::ptr_eq(tuple, &self.rest.tuple) {
            return Rc::clone(&self.rest);
        }
        let id = hash(&[&tuple.hash.to_le_bytes(), provider, provider_key]);
        if let Some(known) = self.rows.get(&id) {
            return Rc::clone(known);
        }
        if self.rows.len() >= ROWS_MAX {
            return Rc::clone(&self.rest);
        }
        let row = Row::new(tuple, provider, provider_key);
        self.rows.insert(id, Rc::clone(&row));
        row
    }

    /// Takes what was counted since the last time, and lets go of what was not used and is not in
    /// use.
    pub fn take(&mut self) -> Vec<TrafficRow> {
        let mut taken = Vec::new();
        self.rows.retain(|_, row| {
            let counted = row.take();
            let stays = counted.is_some() || Rc::strong_count(row) > 1;
            taken.extend(counted);
            stays
        });
        taken.extend(self.rest.take());
        self.tuples.retain(|_, tuple| tuple.used.replace(false) || Rc::strong_count(tuple) > 1);
        taken
    }

    /// Whether a failure was counted since the last time.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        let has = |row: &Rc<Row>| row.failures.try_borrow().is_ok_and(|failures| !failures.is_empty());
        has(&self.rest) || self.rows.values().any(has)
    }

    /// Whether anything was counted since the last time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.requests.get() == 0 && self.rows.values().all(|row| row.requests.get() == 0)
    }
}

fn add(failures: &mut Vec<(Signature, u64)>, signature: Signature) {
    let known = failures.iter().position(|(s, _)| *s == signature);
    let signature =
        if known.is_none() && failures.len() >= ROW_SIGNATURES_MAX { ANY_OTHER } else { signature };
    match failures.iter_mut().find(|(s, _)| *s == signature) {
        Some((_, count)) => *count += 1,
        None => failures.push((signature, 1)),
    }
}

fn attributes(values: &Values<'_>) -> Attributes {
    let values: &[&[u8]; ATTRIBUTES] = values;
    Attribute::ALL
        .iter()
        .zip(values)
        .filter_map(|(attribute, value)| Some((*attribute, text(value)?)))
        .collect()
}

/// A value as text, cut to its bound; `None` when there is none.
fn text(value: &[u8]) -> Option<String> {
    let cut = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
    let text = String::from_utf8_lossy(cut).into_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tenant: &str) -> Values<'_> {
        let mut values: Values<'_> = [&[]; ATTRIBUTES];
        if let Some(first) = values.first_mut() {
            *first = tenant.as_bytes();
        }
        values
    }

    #[test]
    fn requests_and_failures_are_counted_by_tuple_and_provider() {
        let mut traffic = Traffic::default();
        let tuple = traffic.tuple(&values("acme"));
        let row = traffic.row(&tuple, b"openai", b"1");
        row.count(None);
        row.count(Some(Signature(7)));
        traffic.row(&tuple, b"", b"").count(None);
        assert!(traffic.has_failures());
        drop(row);
        let mut rows = traffic.take();
        rows.sort_by_key(|row| row.requests);
        assert_eq!(rows.iter().map(|r| r.requests).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[1].failures, [(Signature(7), 1)]);
        assert_eq!(rows[1].attributes[&Attribute::Provider], "openai");
        assert_eq!(rows[1].attributes[&Attribute::Tenant], "acme");
        assert!(traffic.take().is_empty());
    }

    #[test]
    fn a_flood_of_tuples_is_bounded_and_loses_no_count() {
        let mut traffic = Traffic::default();
        let flood = 5_000;
        for i in 0..flood {
            let name = format!("t{i}");
            let tuple = traffic.tuple(&values(&name));
            traffic.row(&tuple, b"", b"").count(Some(Signature(i)));
        }
        assert!(traffic.tuples.len() <= TUPLES_MAX && traffic.rows.len() <= ROWS_MAX);
        let rows = traffic.take();
        assert!(rows.len() <= ROWS_MAX + 1);
        assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), flood);
        let failures = rows.iter().flat_map(|row| &row.failures).map(|(_, n)| n).sum::<u64>();
        assert_eq!(failures, flood);
        assert!(rows.iter().all(|row| row.failures.len() <= ROW_SIGNATURES_MAX + 1));
        assert!(traffic.take().is_empty() && traffic.rows.is_empty());
        assert!(traffic.take().is_empty() && traffic.tuples.is_empty());
    }

    #[test]
    fn a_request_that_is_under_way_keeps_its_row() {
        let mut traffic = Traffic::default();
        let tuple = traffic.tuple(&values("acme"));
        let row = traffic.row(&tuple, b"", b"");
        assert!(traffic.take().is_empty());
        row.count(None);
        assert!(!traffic.has_failures());
        assert_eq!(traffic.take()[0].attributes[&Attribute::Tenant], "acme");
    }
}
