//! Where an entry lies: its table in the embedded database, and its path in etcd where gateways
//! share it.

use super::Table;

/// Values that belong to the fleet; all others are one gateway's own.
const SHARED_VALUES: [&str; 4] = ["limits", "audit_head", "providers", "routing"];

/// The place of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A single value, by name.
    Value(String),
    /// A record of a table, by id.
    Record(Table, String),
    /// An entry of the audit log, by sequence number.
    Audit(u64),
}

impl Place {
    /// Whether all gateways that use the same etcd have it in common.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Value(name) => SHARED_VALUES.contains(&name.as_str()),
            Self::Record(table, _) => table.is_shared(),
            Self::Audit(_) => true,
        }
    }

    /// Whether somebody else's change of it is to be put in force here; what was counted of lanes is
    /// only looked at when it is asked for.
    #[must_use]
    pub const fn is_put_in_force(&self) -> bool {
        !matches!(self, Self::Record(Table::Lanes, _))
    }

    /// Its path below the prefix. Numbers have 20 digits, so that they sort.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Value(name) => format!("value/{name}"),
            Self::Record(table, id) => format!("{}/{id}", table.name()),
            Self::Audit(seq) => format!("{}/{seq:020}", Table::AUDIT_NAME),
        }
    }

    /// Reads a path; `None` for what this version does not share.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let place = match kind {
            "value" => Self::Value(rest.to_owned()),
            Table::AUDIT_NAME => Self::Audit(rest.parse().ok()?),
            _ => Self::Record(Table::ALL.into_iter().find(|table| table.name() == kind)?, rest.to_owned()),
        };
        place.is_shared().then_some(place)
    }
}

/// One entry as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub place: Place,
    /// Its bytes, or `None` if it is removed.
    pub value: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_back_to_its_place_and_foreign_ones_lead_nowhere() {
        for place in [
            Place::Value("limits".into()),
            Place::Record(Table::Keys, "a/b".into()),
            Place::Record(Table::Sessions, "s".into()),
            Place::Audit(7),
        ] {
            assert_eq!(Place::parse(&place.path()), Some(place));
        }
        for path in ["", "head", "value/auth_generation", "audit/x", "unknown/a"] {
            assert_eq!(Place::parse(path), None, "{path}");
        }
    }
}
