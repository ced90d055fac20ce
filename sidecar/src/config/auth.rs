//! `auth`: who may call.

use serde::Deserialize;
use tidegate_core::wire::Role;

use super::Check;
use super::jwt::{self, Jwt, User, UserDocument};
use super::ram::{self, RamSettings};
use super::server::Server;
use crate::keys::Digest;
use crate::secret::Secret;

/// Most keys in the file; the others belong into the store.
const API_KEYS_MAX: usize = 1024;
/// Most models of one allow-list.
const MODELS_MAX: usize = 256;
/// Longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// Shortest key that an operator may choose, in bytes.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    anonymous: Option<AnonymousDocument>,
    protect_other_routes: Option<bool>,
    api_keys: Option<Vec<Option<KeyDocument>>>,
    jwt: Option<jwt::Document>,
    users: Option<Vec<Option<UserDocument>>>,
    ram: Option<ram::Document>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AnonymousDocument {
    enabled: Option<bool>,
    tenant: Option<String>,
    i_know: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeyDocument {
    name: Option<String>,
    key: Option<Secret>,
    hash: Option<String>,
    tenant: Option<String>,
    role: Option<Role>,
    expires_at: Option<u64>,
    allowed_models: Option<Vec<String>>,
}

/// A key of the file, as its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, too.
    pub name: String,
    /// What is compared; the key itself is not kept.
    pub digest: Digest,
    /// Whose requests these are.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// The models it may use; all, if there is no list.
    pub allowed_models: Option<Vec<String>>,
}

/// The validated section.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Tenant of callers without a credential; none refuses them.
    pub anonymous_tenant: Option<String>,
    /// Whether the operator's own routes ask for a credential.
    pub protect_other_routes: bool,
    /// Keys of the file.
    pub api_keys: Vec<ApiKey>,
    /// Whose tokens are believed.
    pub jwt: Jwt,
    /// Who may log in.
    pub users: Vec<User>,
    /// Whose signatures are believed.
    pub ram: RamSettings,
}

/// Checks the section.
pub fn validate(document: Document, server: &Server, check: &mut Check<'_>) -> Auth {
    let Document { anonymous, protect_other_routes, api_keys, jwt, users, ram } = document;
    let AnonymousDocument { enabled, tenant, i_know } = anonymous.unwrap_or_default();
    let tenant = check.name("auth.anonymous.tenant", tenant.unwrap_or_else(|| "demo".to_owned()));
    let enabled = enabled.unwrap_or(false);
    let reachable = !server.host.is_loopback() || !server.sidecar_host.is_loopback();
    if enabled && reachable && !i_know.unwrap_or(false) {
        check.problems.add(
            "auth.anonymous.enabled",
            "lets anyone on the network use the LLM API, because server.host or server.sidecar_host is \
             not a loopback address; set it to false, or confirm with `i_know: true`",
        );
    }
    let mut keys: Vec<ApiKey> = Vec::new();
    for (path, document) in check.items("auth.api_keys", api_keys, API_KEYS_MAX) {
        let Some(key) = api_key(&path, document, check) else { continue };
        if keys.iter().any(|other| other.name == key.name) {
            check
                .problems
                .add(format!("{path}.name"), format!("`{}` is used twice; names must differ", key.name));
        }
        if keys.iter().any(|other| other.digest == key.digest) {
            check.problems.add(path, "has the same key as an entry above; each key belongs to one entry");
        }
        keys.push(key);
    }
    let jwt = jwt::validate(jwt.unwrap_or_default(), check);
    let users = jwt::users(users, &jwt, check);
    Auth {
        anonymous_tenant: enabled.then_some(tenant),
        protect_other_routes: protect_other_routes.unwrap_or(true),
        api_keys: keys,
        jwt,
        users,
        ram: ram::validate(ram.unwrap_or_default(), check),
    }
}

fn api_key(path: &str, document: KeyDocument, check: &mut Check<'_>) -> Option<ApiKey> {
    let KeyDocument { name, key, hash, tenant, role, expires_at, allowed_models } = document;
    let name = check.problems.required(&format!("{path}.name"), name, "`name: ci`");
    let tenant = check.problems.required(&format!("{path}.tenant"), tenant, "`tenant: acme`");
    let name = name.map(|name| check.name(&format!("{path}.name"), name));
    let tenant = tenant.map(|tenant| check.name(&format!("{path}.tenant"), tenant));
    let digest = match (key, hash) {
        (Some(key), None) => key_digest(&format!("{path}.key"), &key, check),
        (None, Some(hash)) => {
            let digest = Digest::parse(&hash);
            if digest.is_none() {
                let what = "must be sha256: and 64 hex digits; `tidegate hash-key KEY` prints it";
                check.problems.add(format!("{path}.hash"), what);
            }
            digest
        }
        (None, None) => {
            check
                .problems
                .add(format!("{path}.hash"), "is missing; add `hash:` (`tidegate hash-key KEY`) or `key:`");
            None
        }
        (Some(_), Some(_)) => {
            check.problems.add(format!("{path}.hash"), "stands beside key; write one of the two");
            None
        }
    };
    if let Some(Err(what)) = allowed_models.as_deref().map(usable_models) {
        check.problems.add(format!("{path}.allowed_models"), what);
    }
    let role = role.unwrap_or(Role::User);
    Some(ApiKey { name: name?, digest: digest?, tenant: tenant?, role, expires_at, allowed_models })
}

fn key_digest(path: &str, key: &Secret, check: &mut Check<'_>) -> Option<Digest> {
    let key = check.expanded(path, key.expose());
    match usable(&key) {
        Ok(()) => Some(Digest::of(&key)),
        Err(what) => {
            check.problems.add(path, what);
            None
        }
    }
}

/// Whether `models` can be a key's allow-list.
///
/// # Errors
/// A sentence that says what a list must be.
pub fn usable_models(models: &[String]) -> Result<(), String> {
    let fits = |model: &String| (1..=MODEL_BYTES_MAX).contains(&model.len());
    if (1..=MODELS_MAX).contains(&models.len()) && models.iter().all(fits) {
        return Ok(());
    }
    Err(format!(
        "must name 1 to {MODELS_MAX} models of at most {MODEL_BYTES_MAX} bytes; leave it out to allow all"
    ))
}

/// Whether an operator may choose `key`.
///
/// # Errors
/// A sentence that says what a key must be.
pub fn usable(key: &str) -> Result<(), String> {
    let visible = key.bytes().all(|b| b.is_ascii_graphic());
    if visible && (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(format!("must be {KEY_BYTES_MIN} to {KEY_BYTES_MAX} visible ASCII characters, without spaces"))
}
