//! How often served answers were wrong, from a share of them that is asked for again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_core::cache::semantic::{Audit, AuditTable, Interval};

/// Audits of this process and of those it remembers, by tenant.
#[derive(Debug, Default)]
pub struct Audits(Mutex<AuditTable<Box<str>>>);

/// One tenant's audits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TenantAudit {
    /// The tenant.
    pub tenant: Box<str>,
    /// What was found.
    pub audit: Audit,
    /// The share of wrong answers and where the true one lies.
    pub error: Option<Interval>,
}

impl Audits {
    fn lock(&self) -> MutexGuard<'_, AuditTable<Box<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub(super) fn add(&self, tenant: &str, right: bool) {
        self.lock().add(tenant.into(), right);
    }

    /// Adds what was counted before a restart.
    pub(super) fn restore(&self, tenant: &str, audit: Audit) {
        self.lock().merge(tenant.into(), audit);
    }

    /// One tenant's.
    #[must_use]
    pub fn of(&self, tenant: &str) -> Audit {
        self.lock().get(tenant)
    }

    /// All tenants' together.
    #[must_use]
    pub fn total(&self) -> Audit {
        self.lock().total()
    }

    /// Each tenant's.
    #[must_use]
    pub fn by_tenant(&self) -> Vec<TenantAudit> {
        let table = self.lock();
        let audits = table.iter().map(|(tenant, audit)| TenantAudit {
            tenant: tenant.clone(),
            audit,
            error: audit.error(),
        });
        audits.collect()
    }
}
