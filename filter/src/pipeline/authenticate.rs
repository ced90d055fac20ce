//! Second stage: who is calling. The sidecar decides, once per credential; its verdict is
//! remembered until it expires or the policy's auth generation rises.

use std::rc::Rc;

use tidegate_core::event::Counter;
use tidegate_core::policy::AuthPolicy;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::RouteClass;
use tidegate_core::wire::{AuthenticateRequest, Identity, Verdict, path, several_credentials};

use super::sanitise::{Credential, Head};
use super::signed::Signed;
use crate::ports::{Call, SharedCells};
use crate::verdicts::{Caller, CredentialDigest, Found, NotRemembered, Remembered, digest};
use crate::vm::Vm;

/// How long the sidecar has for a verdict, in milliseconds.
const TIMEOUT_MS: u64 = 2_000;
/// When to try again if it could not be asked, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Tenant of callers on operator's routes that are not protected.
const UNPROTECTED_TENANT: &str = "unauthenticated";

/// What is known of the caller.
#[derive(Debug)]
pub enum Decision {
    /// Nobody asks at this path.
    Nobody,
    /// This is the caller.
    Known(Rc<Caller>),
    /// The sidecar has to be asked. Its verdict is remembered under the digest, if there is one.
    Ask(Option<CredentialDigest>, Call),
}

/// Decides from the headers and what is remembered.
///
/// # Errors
/// 401 for a missing or refused credential, 400 for several.
pub fn decide(
    vm: &mut Vm,
    cells: &impl SharedCells,
    head: &Head,
    policy: &AuthPolicy,
    now_ns: u64,
) -> Result<Decision, Reply> {
    match head.class {
        RouteClass::Public | RouteClass::Internal => return Ok(Decision::Nobody),
        RouteClass::Other if !policy.protect_other_routes => {
            return Ok(Decision::Known(Caller::new(Identity::anonymous(UNPROTECTED_TENANT))));
        }
        _ => {}
    }
    let credential = match &head.credential {
        Credential::Present(credential) => credential,
        Credential::Signed(signed) => {
            return ask_about_signature(vm, signed, head.source.map(|source| source.to_string()));
        }
        Credential::Absent => return without_credential(vm, head.class, policy),
        Credential::Malformed => return Err(refused(vm)),
        Credential::Several => return Err(several_credentials()),
    };
    let digest = digest(credential);
    match vm.verdicts.look_up(cells, &digest, now_ns / 1_000_000, policy.generation) {
        Some((found, caller)) => {
            vm.counts.add(match found {
                Found::Local => Counter::AuthLocal,
                Found::Shared => Counter::AuthShared,
            });
            caller.map(Decision::Known).ok_or_else(|| refused(vm))
        }
        None => ask(vm, digest, credential, head.source.map(|source| source.to_string())),
    }
}

/// Admin paths are for operators and admins only.
///
/// # Errors
/// 403 for other roles.
pub fn check_role(identity: &Identity) -> Result<(), Reply> {
    if identity.role.may_administer() {
        return Ok(());
    }
    Err(Reply::new(Code::PermissionDenied, "this path needs a key with role admin or operator"))
}

/// Remembers the sidecar's answer. No answer refuses this request and is not remembered.
///
/// # Errors
/// 401 for a refused credential, 429 when too many bad ones came from this source, 503 when
/// there was no usable answer.
pub fn learn(
    vm: &mut Vm,
    cells: &impl SharedCells,
    digest: Option<CredentialDigest>,
    answer: Option<&[u8]>,
    now_ns: u64,
    generation: u64,
) -> Result<Rc<Caller>, Reply> {
    let Some(verdict) = answer.and_then(|json| serde_json::from_slice::<Verdict>(json).ok()) else {
        return Err(unavailable(vm));
    };
    let remembered = match Remembered::new(digest.unwrap_or_default(), verdict, now_ns / 1_000_000) {
        Ok(remembered) => remembered,
        Err(NotRemembered::Limited { retry_after_ms }) => return Err(limited(vm, retry_after_ms)),
        Err(NotRemembered::Unsigned(fault)) => {
            vm.counts.add(Counter::AuthDenied);
            return Err(fault.reply());
        }
    };
    let caller = remembered.caller.clone();
    // A verdict from before a revocation that this VM already knows of is no verdict.
    if remembered.is_outdated(generation) {
        return Err(unavailable(vm));
    }
    if digest.is_some() {
        vm.verdicts.remember(cells, remembered);
    }
    caller.ok_or_else(|| refused(vm))
}

fn without_credential(vm: &mut Vm, class: RouteClass, policy: &AuthPolicy) -> Result<Decision, Reply> {
    if let (Some(tenant), false) = (&policy.anonymous_tenant, class == RouteClass::Admin) {
        return Ok(Decision::Known(Caller::new(Identity::anonymous(tenant))));
    }
    vm.counts.add(Counter::AuthDenied);
    Err(Reply::new(Code::MissingApiKey, "no API key was sent; send `authorization: Bearer <key>`"))
}

fn ask(
    vm: &mut Vm,
    digest: CredentialDigest,
    credential: &[u8],
    source: Option<String>,
) -> Result<Decision, Reply> {
    let Ok(credential) = std::str::from_utf8(credential) else {
        return Err(refused(vm));
    };
    let question = AuthenticateRequest { credential: credential.to_owned(), source, signed: None };
    Ok(Decision::Ask(Some(digest), call(vm, &question)?))
}

fn ask_about_signature(vm: &mut Vm, signed: &Signed, source: Option<String>) -> Result<Decision, Reply> {
    let (credential, signed) = (signed.authorization.clone(), Some(signed.request.clone()));
    let question = AuthenticateRequest { credential, source, signed };
    Ok(Decision::Ask(None, call(vm, &question)?))
}

fn call(vm: &mut Vm, question: &AuthenticateRequest) -> Result<Call, Reply> {
    let Ok(body) = serde_json::to_vec(question) else {
        return Err(unavailable(vm));
    };
    vm.counts.add(Counter::AuthCallout);
    Ok(Call { method: "POST", path: path::AUTHENTICATE.to_owned(), body, timeout_ms: TIMEOUT_MS })
}

fn refused(vm: &mut Vm) -> Reply {
    vm.counts.add(Counter::AuthDenied);
    Reply::new(Code::InvalidApiKey, "the API key or token is unknown, revoked or expired")
}

fn limited(vm: &mut Vm, retry_after_ms: u64) -> Reply {
    vm.counts.add(Counter::AuthDenied);
    let message = "too many bad credentials came from this address; wait as `retry-after` says";
    Reply::new(Code::TooManyAttempts, message).retry_after_ms(retry_after_ms)
}

fn unavailable(vm: &mut Vm) -> Reply {
    vm.counts.add(Counter::AuthUnavailable);
    Reply::new(Code::AuthUnavailable, "the API key could not be checked; nothing was let through")
        .retry_after_ms(RETRY_MS)
}
