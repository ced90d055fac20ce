//! What was learned, as it is kept over a restart.

use std::collections::HashSet;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tidegate_core::cache::semantic::{Audit, Verifier};

use super::super::shared::Space;
use super::{Mode, TENANTS_MAX, Trust};

/// What was learned of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The tenant.
    pub tenant: String,
    /// The model under which it was learned, in hexadecimal; of no use under another.
    space: String,
    /// [`Verifier::encode`] in base64, or empty.
    outcomes: String,
    /// Hits that were asked for again.
    checked: u64,
    /// Of these, those that were wrong.
    wrong: u64,
}

impl Trust {
    /// What changed since the last time, by tenant.
    #[must_use]
    pub fn to_keep(&self, space: Space) -> Vec<Kept> {
        let tenants: HashSet<Box<str>> =
            std::mem::take(&mut *self.unkept.lock().unwrap_or_else(PoisonError::into_inner));
        let verifiers = self.verifiers();
        let one = |tenant: Box<str>| {
            let Audit { checked, wrong } = self.audits.of(&tenant);
            let outcomes = verifiers.get(&tenant).map_or_else(Vec::new, Verifier::encode);
            let (space, outcomes) = (space.to_string(), STANDARD.encode(outcomes));
            Kept { tenant: tenant.into(), space, outcomes, checked, wrong }
        };
        tenants.into_iter().map(one).collect()
    }

    /// Goes on from what was kept, as far as it was learned under the same model.
    pub fn restore(&self, kept: Vec<Kept>, space: Space) {
        let space = space.to_string();
        for Kept { tenant, space: of, outcomes, checked, wrong } in kept {
            if of != space {
                continue;
            }
            self.audits.restore(&tenant, Audit { checked, wrong });
            let (Mode::Verified(bound), Ok(bytes)) = (self.mode, STANDARD.decode(outcomes)) else { continue };
            let mut verifiers = self.verifiers();
            if let Some(verifier) = Verifier::decode(&bytes, bound, self.audit_rate)
                && verifiers.len() < TENANTS_MAX
            {
                verifiers.insert(tenant.into(), verifier);
            }
        }
    }
}
