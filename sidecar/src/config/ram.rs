//! `auth.ram`: access keys whose signatures are believed.

use std::time::Duration;

use serde::Deserialize;
use tidegate_core::wire::Role;

use super::Check;
use super::value::Span;
use crate::secret::Secret;

/// Most access keys.
const ACCESS_KEYS_MAX: usize = 1024;
/// Shortest secret, in bytes; Alibaba Cloud's have 30.
const SECRET_BYTES_MIN: usize = 16;
/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 512;
/// How far `x-acs-date` may be from our clock, as at Alibaba Cloud.
const CLOCK_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Least and most of it, in milliseconds.
const CLOCK_WINDOW_MS: std::ops::RangeInclusive<u64> = 1000..=3_600_000;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    access_keys: Option<Vec<Option<KeyDocument>>>,
    clock_window: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyDocument {
    id: Option<String>,
    secret: Option<Secret>,
    tenant: Option<String>,
    role: Option<Role>,
}

/// A pair of id and secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, and the key id of its requests.
    pub id: String,
    /// What it signs with.
    pub secret: Secret,
    /// Whose requests these are.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RamSettings {
    /// By id.
    pub access_keys: Vec<AccessKey>,
    /// How far the clock of whoever signs may be from ours, in milliseconds.
    pub clock_window_ms: u64,
}

/// Checks the section.
pub fn validate(document: Document, check: &mut Check<'_>) -> RamSettings {
    let Document { access_keys, clock_window } = document;
    let window = clock_window.map_or(CLOCK_WINDOW, |Span(span)| span);
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let clock_window_ms =
        check.problems.within("auth.ram.clock_window", window_ms, CLOCK_WINDOW_MS, " milliseconds");
    let mut keys: Vec<AccessKey> = Vec::new();
    for (path, document) in check.items("auth.ram.access_keys", access_keys, ACCESS_KEYS_MAX) {
        let Some(key) = access_key(&path, document, check) else { continue };
        if keys.iter().any(|other| other.id == key.id) {
            check.problems.add(format!("{path}.id"), format!("`{}` is used twice; ids must differ", key.id));
        }
        keys.push(key);
    }
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    RamSettings { access_keys: keys, clock_window_ms }
}

fn access_key(path: &str, document: KeyDocument, check: &mut Check<'_>) -> Option<AccessKey> {
    let KeyDocument { id, secret, tenant, role } = document;
    let id = check.problems.required(&format!("{path}.id"), id, "`id: LTAI5t...`");
    let secret = check.problems.required(&format!("{path}.secret"), secret, "`secret: ${RAM_SECRET}`");
    let tenant = check.problems.required(&format!("{path}.tenant"), tenant, "`tenant: acme`");
    let id = id.map(|id| check.name(&format!("{path}.id"), id))?;
    let tenant = tenant.map(|tenant| check.name(&format!("{path}.tenant"), tenant))?;
    let path = format!("{path}.secret");
    let secret = check.expanded(&path, secret?.expose());
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        check.problems.add(path, format!("must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"));
    }
    Some(AccessKey { id, secret: Secret::new(secret), tenant, role: role.unwrap_or(Role::User) })
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};

    #[test]
    fn mistakes_are_named_without_the_secret() {
        let key = |rest: &str| format!("auth: {{ram: {{access_keys: [{{id: LTAI1, tenant: a, {rest}}}]}}}}");
        for (yaml, path) in [
            (key("x: 1"), "auth.ram.access_keys[0].x"),
            (key("role: user"), "auth.ram.access_keys[0].secret: is missing"),
            (key("secret: hunter2"), "auth.ram.access_keys[0].secret: must have 16 to 512 bytes"),
            (key("secret: '${NO_SUCH}'"), "auth.ram.access_keys[0].secret: uses ${NO_SUCH}"),
            (key("secret: hunter2-hunter2-hunter2, role: root"), "auth.ram.access_keys[0].role"),
            ("auth: {ram: {clock_window: 2h}}".to_owned(), "auth.ram.clock_window: is 7200000"),
            ("auth: {ram: {access_keys: [{}]}}".to_owned(), "auth.ram.access_keys[0].id: is missing"),
        ] {
            let problems = parse(&yaml, &Env::new()).expect_err(&yaml).to_string();
            assert!(problems.starts_with(path) && !problems.contains("hunter2"), "{yaml}: {problems}");
        }
    }
}
