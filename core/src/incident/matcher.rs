//! Which policies a request falls under, compiled so that a thousand of them cost little: scopes
//! that ask for the same attributes are one table, looked up by one hash of the request's values.

use super::enforcement::SlicePolicy;
use crate::event::{ATTRIBUTES, Attribute, Attributes};

/// The values of one request, by [`Attribute`]; empty where it has none.
pub type Values<'a> = [&'a [u8]; ATTRIBUTES];

/// Scopes that ask for the same attributes.
#[derive(Debug)]
struct Table {
    attributes: Vec<Attribute>,
    /// Hash of the wanted values, policy, scope in it; sorted by hash.
    rows: Vec<(u64, u32, u32)>,
}

/// The compiled scopes of a document's policies.
#[derive(Debug, Default)]
pub struct Matcher {
    tables: Vec<Table>,
}

impl Matcher {
    /// Compiles the policies in their order.
    #[must_use]
    pub fn new(policies: &[SlicePolicy]) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        for (policy, scope, conditions) in scopes(policies) {
            let attributes: Vec<Attribute> = conditions.keys().copied().collect();
            let hash = hash_of(conditions.values().map(String::as_bytes));
            let row = (hash, policy as u32, scope as u32);
            match tables.iter_mut().find(|table| table.attributes == attributes) {
                Some(table) => table.rows.push(row),
                None => tables.push(Table { attributes, rows: vec![row] }),
            }
        }
        for table in &mut tables {
            table.rows.sort_unstable();
        }
        Self { tables }
    }

    /// Whether there is anything to match.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Calls `found` with the index of each policy that has a scope with the request in it.
    pub fn each_match(&self, policies: &[SlicePolicy], values: &Values<'_>, mut found: impl FnMut(usize)) {
        for table in &self.tables {
            let value_of = |a: &Attribute| values.get(*a as usize).copied().unwrap_or_default();
            let hash = hash_of(table.attributes.iter().map(value_of));
            let start = table.rows.partition_point(|row| row.0 < hash);
            let rows = table.rows.get(start..).unwrap_or_default();
            for (_, policy, scope) in rows.iter().take_while(|row| row.0 == hash) {
                let scope = policies.get(*policy as usize).and_then(|p| p.scopes.get(*scope as usize));
                // The hash is no proof: a caller chooses some of these values.
                let holds = |(a, wanted): (&Attribute, &String)| value_of(a) == wanted.as_bytes();
                if scope.is_some_and(|scope| scope.iter().all(holds)) {
                    found(*policy as usize);
                }
            }
        }
    }
}

fn scopes(policies: &[SlicePolicy]) -> impl Iterator<Item = (usize, usize, &Attributes)> {
    policies.iter().enumerate().flat_map(|(policy, p)| {
        p.scopes.iter().enumerate().map(move |(scope, conditions)| (policy, scope, conditions))
    })
}

/// FNV-1a over the values in the attributes' order, apart from each other.
fn hash_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for value in values {
        for byte in value {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::incident::enforcement::{Measure, contains};

    fn policy(scopes: Vec<Attributes>) -> SlicePolicy {
        SlicePolicy {
            id: "p".into(),
            cluster: "c".into(),
            scopes,
            measure: Measure::Advise,
            enforce: true,
            statuses: vec![],
            sentence: String::new(),
            retry: true,
            ttl_ms: 1,
            renewal: 0,
        }
    }

    fn conditions() -> impl Strategy<Value = Attributes> {
        prop::collection::btree_map(prop::sample::select(Attribute::ALL), "[ab]{1,2}", 0..4)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_policy_finds(
            policies in prop::collection::vec(prop::collection::vec(conditions(), 1..3), 0..12),
            request in prop::collection::btree_map(prop::sample::select(Attribute::ALL), "[ab]{1,2}", 0..12),
        ) {
            let policies: Vec<SlicePolicy> = policies.into_iter().map(policy).collect();
            let mut values: Values<'_> = [&[]; ATTRIBUTES];
            for (attribute, value) in &request {
                values[*attribute as usize] = value.as_bytes();
            }
            let mut found = std::collections::BTreeSet::new();
            Matcher::new(&policies).each_match(&policies, &values, |index| { found.insert(index); });
            let expected: std::collections::BTreeSet<usize> = policies
                .iter()
                .enumerate()
                .filter(|(_, p)| p.scopes.iter().any(|scope| contains(scope, &request)))
                .map(|(index, _)| index)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
