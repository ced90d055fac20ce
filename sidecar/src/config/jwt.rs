//! `auth.jwt` and `auth.users`: whose tokens are believed, and who may log in.

use std::path::PathBuf;
use std::sync::Arc;

use argon2::password_hash::PasswordHash;
use http::Uri;
use serde::Deserialize;
use tidegate_core::wire::{Identity, Role};

use super::Check;
use super::value::Span;
use crate::keys::{Digest, random};
use crate::secret::Secret;
use crate::tokens::{Algorithm, SigningKey};

/// Most users of the file.
const USERS_MAX: usize = 1024;
/// Most issuers beside the gateway itself.
const ISSUERS_MAX: usize = 16;
/// Shortest HS256 secret, in bytes: as long as the hash (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Longest secret, issuer, audience, claim name or password hash, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Largest private key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Longest name of a user: `user.` before it must still be a name.
const USER_BYTES_MAX: usize = 59;
/// Memory that a password hash may cost, in KiB: at least what OWASP gives for argon2id, at most
/// what a login may take from everybody else.
const HASH_KIB: std::ops::RangeInclusive<u32> = 7168..=262_144;
/// Passes that a password hash may cost.
const HASH_PASSES_MAX: u32 = 16;
/// Bytes of the digest that stands for a password hash in a session.
const STAMP_BYTES: usize = 8;

/// `auth.jwt` as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    secret: Option<Secret>,
    private_key_path: Option<String>,
    algorithm: Option<Algorithm>,
    issuer: Option<String>,
    audience: Option<String>,
    access_ttl: Option<Span>,
    refresh_ttl: Option<Span>,
    leeway: Option<Span>,
    issuers: Option<Vec<Option<IssuerDocument>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IssuerDocument {
    issuer: Option<String>,
    audience: Option<String>,
    jwks_url: Option<String>,
    jwks_path: Option<String>,
    tenant: Option<String>,
    tenant_claim: Option<String>,
    role_claim: Option<String>,
}

/// A user as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserDocument {
    name: Option<String>,
    password_hash: Option<Secret>,
    tenant: Option<String>,
    role: Option<Role>,
}

/// Whose tokens are believed.
#[derive(Debug, Clone, Default)]
pub struct Jwt {
    /// The gateway's own; none without a key to sign with.
    pub own: Option<OwnTokens>,
    /// Everybody else's.
    pub issuers: Vec<IssuerSettings>,
}

/// How the gateway's own tokens are made and checked.
#[derive(Debug, Clone)]
pub struct OwnTokens {
    /// What they are signed with.
    pub key: Arc<SigningKey>,
    /// Changes with the key.
    pub key_digest: Digest,
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// Life of an access token, in milliseconds.
    pub access_ttl_ms: u64,
    /// Life of a session from its login, in milliseconds.
    pub refresh_ttl_ms: u64,
    /// How far clocks may differ, in milliseconds.
    pub leeway_ms: u64,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Fetched.
    Url(Uri),
    /// Read.
    Path(PathBuf),
}

/// Where a caller's tenant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantFrom {
    /// A claim of the token.
    Claim(String),
    /// The configuration.
    Fixed(String),
}

/// An issuer beside the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `iss`, exactly.
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// Its keys.
    pub keys: KeySource,
    /// Its callers' tenant.
    pub tenant: TenantFrom,
    /// The claim that may say `operator` or `admin`; without it, everybody is a user.
    pub role_claim: Option<String>,
    /// How far clocks may differ, in milliseconds.
    pub leeway_ms: u64,
}

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What they log in with.
    pub name: String,
    /// Argon2id in PHC form.
    pub password_hash: Secret,
    /// Whose requests theirs are.
    pub tenant: String,
    /// What they may do.
    pub role: Role,
}

impl User {
    /// The caller that presents a token of this user.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let key = Some(format!("user.{}", self.name));
        Identity { tenant: self.tenant.clone(), key, role: self.role, scope: None }
    }

    /// Changes with the password, so that sessions of the old one end.
    #[must_use]
    pub fn stamp(&self) -> String {
        let digest = Digest::of(self.password_hash.expose());
        random::hex(digest.bytes().get(..STAMP_BYTES).unwrap_or_default())
    }
}

impl Jwt {
    /// Changes if and only if a token may have gained or lost its validity.
    #[must_use]
    pub fn fingerprint(&self, users: &[User]) -> String {
        let own = self.own.as_ref().map(|own| {
            let OwnTokens { key: _, key_digest, issuer, audience, .. } = own;
            format!("{key_digest} {issuer:?} {audience:?}")
        });
        let users = users.iter().map(|u| format!("{} {}", u.stamp(), u.identity().to_header()));
        format!("{own:?} {:?} {:?}", self.issuers, users.collect::<Vec<_>>())
    }
}

/// Checks `auth.jwt`.
pub fn validate(document: Document, check: &mut Check<'_>) -> Jwt {
    let Document {
        secret,
        private_key_path,
        algorithm,
        issuer,
        audience,
        access_ttl,
        refresh_ttl,
        leeway,
        issuers,
    } = document;
    let leeway_ms = span("auth.jwt.leeway", leeway, "30s", 30_000, 0..=300_000, check);
    let issuer = text("auth.jwt.issuer", issuer.unwrap_or_else(|| "tidegate".to_owned()), check);
    let audience = text("auth.jwt.audience", audience.unwrap_or_else(|| "tidegate".to_owned()), check);
    let access_ttl_ms = span("auth.jwt.access_ttl", access_ttl, "15m", 900_000, 60_000..=86_400_000, check);
    let month_ms = 30 * 86_400_000;
    let refresh_range = access_ttl_ms..=12 * month_ms;
    let refresh_ttl_ms = span("auth.jwt.refresh_ttl", refresh_ttl, "720h", month_ms, refresh_range, check);
    let key = signing_key(secret, private_key_path, algorithm, check);
    let own = key.map(|(key, key_digest)| OwnTokens {
        key: Arc::new(key),
        key_digest,
        issuer: issuer.clone(),
        audience,
        access_ttl_ms,
        refresh_ttl_ms,
        leeway_ms,
    });
    let mut all: Vec<IssuerSettings> = Vec::new();
    for (path, document) in check.items("auth.jwt.issuers", issuers, ISSUERS_MAX) {
        let Some(settings) = external(&path, document, leeway_ms, check) else { continue };
        if settings.issuer == issuer || all.iter().any(|other| other.issuer == settings.issuer) {
            let what = "is used twice (auth.jwt.issuer counts too); each issuer needs its own";
            check.problems.add(format!("{path}.issuer"), what);
        }
        all.push(settings);
    }
    Jwt { own, issuers: all }
}

/// Checks `auth.users`.
pub fn users(list: Option<Vec<Option<UserDocument>>>, jwt: &Jwt, check: &mut Check<'_>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for (path, document) in check.items("auth.users", list, USERS_MAX) {
        let Some(user) = user(&path, document, check) else { continue };
        if users.iter().any(|other| other.name == user.name) {
            let what = format!("`{}` is used twice; names must differ", user.name);
            check.problems.add(format!("{path}.name"), what);
        }
        users.push(user);
    }
    if !users.is_empty() && jwt.own.is_none() {
        let what = "is missing, and auth.users needs it to sign their tokens; add `secret: ${JWT_SECRET}` \
                    (at least 32 bytes) or `private_key_path` with `algorithm`";
        check.problems.add("auth.jwt.secret", what);
    }
    users
}

fn user(path: &str, document: UserDocument, check: &mut Check<'_>) -> Option<User> {
    let UserDocument { name, password_hash, tenant, role } = document;
    let name = check.problems.required(&format!("{path}.name"), name, "`name: alice`");
    let tenant = check.problems.required(&format!("{path}.tenant"), tenant, "`tenant: acme`");
    let hash_path = format!("{path}.password_hash");
    let hash = check.problems.required(&hash_path, password_hash, "what `tidegate hash-password` prints");
    let name = name.map(|name| check.name(&format!("{path}.name"), name));
    if name.as_ref().is_some_and(|name| name.len() > USER_BYTES_MAX) {
        check.problems.add(format!("{path}.name"), format!("must have at most {USER_BYTES_MAX} characters"));
    }
    let tenant = tenant.map(|tenant| check.name(&format!("{path}.tenant"), tenant));
    // No variables here: `$` is part of every hash.
    if let Err(what) = hash.as_ref().map_or(Ok(()), |hash| usable_hash(hash.expose())) {
        check.problems.add(hash_path, what);
    }
    Some(User { name: name?, password_hash: hash?, tenant: tenant?, role: role.unwrap_or(Role::User) })
}

fn usable_hash(text: &str) -> Result<(), String> {
    let hint = "`tidegate hash-password` prints one, starting with $argon2id$";
    let parsed = (text.len() <= TEXT_BYTES_MAX).then(|| PasswordHash::new(text).ok()).flatten();
    let parsed = parsed.ok_or_else(|| format!("is no password hash in PHC form; {hint}"))?;
    if parsed.algorithm != argon2::ARGON2ID_IDENT || parsed.hash.is_none() {
        return Err(format!("is not of argon2id; {hint}"));
    }
    let params =
        argon2::Params::try_from(&parsed).map_err(|_| format!("has parameters out of range; {hint}"))?;
    if !HASH_KIB.contains(&params.m_cost()) || params.t_cost() > HASH_PASSES_MAX {
        return Err(format!(
            "must use m={} to m={} (KiB) and at most t={HASH_PASSES_MAX}; {hint}",
            HASH_KIB.start(),
            HASH_KIB.end()
        ));
    }
    Ok(())
}

fn signing_key(
    secret: Option<Secret>,
    path: Option<String>,
    algorithm: Option<Algorithm>,
    check: &mut Check<'_>,
) -> Option<(SigningKey, Digest)> {
    match (secret, path, algorithm) {
        (None, None, None) => None,
        (None, None, Some(_)) => {
            check.problems.add("auth.jwt.algorithm", "stands without a key; add secret or private_key_path");
            None
        }
        (Some(_), Some(_), _) => {
            check.problems.add("auth.jwt.secret", "stands beside private_key_path; write one of the two");
            None
        }
        (Some(secret), None, None | Some(Algorithm::Hs256)) => {
            let secret = check.expanded("auth.jwt.secret", secret.expose());
            if !(SECRET_BYTES_MIN..=TEXT_BYTES_MAX).contains(&secret.len()) {
                let what = format!(
                    "must have {SECRET_BYTES_MIN} to {TEXT_BYTES_MAX} bytes; `openssl rand -hex 32` makes a good one"
                );
                check.problems.add("auth.jwt.secret", what);
            }
            Some((SigningKey::of_secret(secret.as_bytes()), Digest::of(&secret)))
        }
        (Some(_), None, Some(_)) => {
            check
                .problems
                .add("auth.jwt.algorithm", "must be HS256 with a secret; others need private_key_path");
            None
        }
        (None, Some(path), Some(algorithm @ (Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa))) => {
            let path = check.expanded("auth.jwt.private_key_path", &path);
            let key = read_key(&path, algorithm);
            key.map_err(|what| check.problems.add("auth.jwt.private_key_path", what)).ok()
        }
        (None, Some(_), _) => {
            check.problems.add("auth.jwt.algorithm", "must be RS256, ES256 or EdDSA with private_key_path");
            None
        }
    }
}

fn read_key(path: &str, algorithm: Algorithm) -> Result<(SigningKey, Digest), String> {
    let cannot = |error: std::io::Error| format!("cannot read {path}: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > KEY_FILE_BYTES_MAX {
        return Err(format!("{path} is larger than {KEY_FILE_BYTES_MAX} bytes"));
    }
    let pem = std::fs::read_to_string(path).map_err(cannot)?;
    let key = SigningKey::of_pem(algorithm, pem.as_bytes()).map_err(|what| format!("{path} {what}"))?;
    Ok((key, Digest::of(&pem)))
}

fn external(
    path: &str,
    document: IssuerDocument,
    leeway_ms: u64,
    check: &mut Check<'_>,
) -> Option<IssuerSettings> {
    let IssuerDocument { issuer, audience, jwks_url, jwks_path, tenant, tenant_claim, role_claim } = document;
    let at = |field: &str| format!("{path}.{field}");
    let issuer = check.problems.required(&at("issuer"), issuer, "`issuer: https://login.example.com/`");
    let audience = check.problems.required(&at("audience"), audience, "`audience: tidegate`");
    let issuer = issuer.map(|issuer| text(&at("issuer"), issuer, check));
    let audience = audience.map(|audience| text(&at("audience"), audience, check));
    let keys = match (jwks_url, jwks_path) {
        (Some(url), None) => url_of(&at("jwks_url"), &url, check),
        (None, Some(file)) => Some(KeySource::Path(check.expanded(&at("jwks_path"), &file).into())),
        _ => {
            check.problems.add(at("jwks_url"), "or jwks_path is needed, and only one of them");
            None
        }
    };
    let tenant = match (tenant, tenant_claim) {
        (Some(tenant), None) => TenantFrom::Fixed(check.name(&at("tenant"), tenant)),
        (None, claim) => {
            let claim = claim.unwrap_or_else(|| "tenant".to_owned());
            TenantFrom::Claim(text(&at("tenant_claim"), claim, check))
        }
        (Some(_), Some(_)) => {
            check.problems.add(at("tenant"), "stands beside tenant_claim; write one of the two");
            return None;
        }
    };
    let role_claim = role_claim.map(|claim| text(&at("role_claim"), claim, check));
    Some(IssuerSettings { issuer: issuer?, audience: audience?, keys: keys?, tenant, role_claim, leeway_ms })
}

/// Whoever can change the keys on their way can be anybody, so they come encrypted.
fn url_of(path: &str, url: &str, check: &mut Check<'_>) -> Option<KeySource> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.authority().is_some());
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let is_loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("https") => uri.map(KeySource::Url),
        Some("http") if is_loopback => uri.map(KeySource::Url),
        _ => {
            check.problems.add(path, "must be an https URL (http only to this machine)");
            None
        }
    }
}

fn text(path: &str, text: String, check: &mut Check<'_>) -> String {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        check.problems.add(path, format!("must have 1 to {TEXT_BYTES_MAX} bytes"));
    }
    text
}

fn span(
    path: &str,
    span: Option<Span>,
    example: &str,
    default_ms: u64,
    range_ms: std::ops::RangeInclusive<u64>,
    check: &mut Check<'_>,
) -> u64 {
    let ms = span.map_or(default_ms, |Span(span)| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    if !range_ms.contains(&ms) {
        let (least, most) = (range_ms.start() / 1000, range_ms.end() / 1000);
        check.problems.add(path, format!("must be {least}s to {most}s, for example {example}"));
        return default_ms;
    }
    ms
}
