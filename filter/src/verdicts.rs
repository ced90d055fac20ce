//! Verdicts on credentials, remembered by the credential's digest: first in the VM, then in
//! shared slots. Both are of fixed size, so a flood of invented keys costs no memory.

use std::rc::Rc;

use sha2::{Digest, Sha256};
use tidegate_core::wire::signature::SignatureFault;
use tidegate_core::wire::{Identity, Verdict};

use crate::cells::{self, Table};
use crate::ports::SharedCells;

/// Slots in one VM.
const LOCAL_SLOTS: usize = 512;
const VERSION: u8 = 1;

/// SHA-256 of a credential.
pub type CredentialDigest = [u8; 32];

/// The digest under which a credential is remembered; the credential itself never is.
#[must_use]
pub fn digest(credential: &[u8]) -> CredentialDigest {
    Sha256::digest(credential).into()
}

/// A known caller, and the header that says so to the sidecar; shared by all its requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// [`Identity::to_header`].
    pub header: String,
}

impl Caller {
    /// Prepares an identity.
    #[must_use]
    pub fn new(identity: Identity) -> Rc<Self> {
        let header = identity.to_header();
        Rc::new(Self { identity, header })
    }
}

/// A remembered verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    digest: CredentialDigest,
    expires_at_ms: u64,
    generation: u64,
    /// Who the caller is; `None` for a refused credential.
    pub caller: Option<Rc<Caller>>,
}

/// What the sidecar said of one request only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRemembered {
    /// Too many bad credentials came from this source.
    Limited {
        /// When to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// The request's signature is not good.
    Unsigned(SignatureFault),
}

impl Remembered {
    /// What the sidecar said at `now_ms`.
    ///
    /// # Errors
    /// What it said is about this request alone.
    pub fn new(digest: CredentialDigest, verdict: Verdict, now_ms: u64) -> Result<Self, NotRemembered> {
        let (caller, ttl_ms, generation) = match verdict {
            Verdict::Granted { identity, ttl_ms, generation } => {
                (Some(Caller::new(identity)), ttl_ms, generation)
            }
            Verdict::Denied { ttl_ms, generation } => (None, ttl_ms, generation),
            Verdict::Limited { retry_after_ms } => return Err(NotRemembered::Limited { retry_after_ms }),
            Verdict::Unsigned { fault } => return Err(NotRemembered::Unsigned(fault)),
        };
        Ok(Self { digest, expires_at_ms: now_ms.saturating_add(ttl_ms), generation, caller })
    }

    /// Whether it was given before the generation this VM knows of.
    #[must_use]
    pub const fn is_outdated(&self, generation: u64) -> bool {
        self.generation < generation
    }

    /// A verdict given under a newer generation than this VM knows is not older news.
    fn holds(&self, digest: &CredentialDigest, now_ms: u64, generation: u64) -> bool {
        self.digest == *digest && now_ms < self.expires_at_ms && !self.is_outdated(generation)
    }

    fn encode(&self) -> Vec<u8> {
        let caller = self.caller.as_ref().map_or("", |caller| caller.header.as_str());
        let mut out = Vec::with_capacity(49 + caller.len());
        out.push(VERSION);
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&self.expires_at_ms.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(caller.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let caller = match rest {
            [] => None,
            text => Some(Caller::new(Identity::from_header(std::str::from_utf8(text).ok()?)?)),
        };
        Some(Self {
            digest: *digest,
            expires_at_ms: u64::from_le_bytes(*expires),
            generation: u64::from_le_bytes(*generation),
            caller,
        })
    }
}

/// Where a verdict was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// In this VM.
    Local,
    /// In the shared slots.
    Shared,
}

/// One VM's view of the verdicts.
#[derive(Debug)]
pub struct Verdicts {
    local: Vec<Option<Remembered>>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { local: vec![None; LOCAL_SLOTS] }
    }
}

impl Verdicts {
    /// Looks a digest up; a verdict of an older generation or past its time is none.
    pub fn look_up(
        &mut self,
        cells: &impl SharedCells,
        digest: &CredentialDigest,
        now_ms: u64,
        generation: u64,
    ) -> Option<(Found, Option<Rc<Caller>>)> {
        let place = self.local.get_mut(slot(digest, LOCAL_SLOTS as u32) as usize)?;
        if let Some(found) = place.as_ref().filter(|r| r.holds(digest, now_ms, generation)) {
            return Some((Found::Local, found.caller.clone()));
        }
        let bytes = cells.read(&cells::name(Table::Verdicts, slot(digest, cells::VERDICTS))).bytes;
        let found = Remembered::decode(&bytes).filter(|r| r.holds(digest, now_ms, generation))?;
        let caller = found.caller.clone();
        *place = Some(found);
        Some((Found::Shared, caller))
    }

    /// Remembers a verdict in this VM and for all others; the slot's previous owner is forgotten.
    pub fn remember(&mut self, cells: &impl SharedCells, verdict: Remembered) {
        let key = cells::name(Table::Verdicts, slot(&verdict.digest, cells::VERDICTS));
        cells.write(&key, &verdict.encode(), 0);
        if let Some(place) = self.local.get_mut(slot(&verdict.digest, LOCAL_SLOTS as u32) as usize) {
            *place = Some(verdict);
        }
    }
}

fn slot(digest: &CredentialDigest, slots: u32) -> u32 {
    let [a, b, c, d, ..] = *digest;
    u32::from_le_bytes([a, b, c, d]) % slots.max(1)
}

#[cfg(test)]
mod tests {
    use tidegate_core::wire::Role;

    use super::*;

    #[test]
    fn a_verdict_survives_its_cell() {
        let scope = Some("0123456789abcdef0123456789abcdef".into());
        let identity = Identity { tenant: "a".into(), key: Some("k".into()), role: Role::Operator, scope };
        for verdict in [
            Verdict::Granted { identity, ttl_ms: 5, generation: 3 },
            Verdict::Denied { ttl_ms: 5, generation: 3 },
        ] {
            let remembered = Remembered::new(digest(b"secret"), verdict, 100).expect("a verdict");
            assert_eq!(Remembered::decode(&remembered.encode()), Some(remembered.clone()));
            assert!(remembered.holds(&digest(b"secret"), 104, 3));
            assert!(!remembered.holds(&digest(b"secret"), 105, 3), "expired");
            assert!(!remembered.holds(&digest(b"secret"), 104, 4), "revoked");
            assert!(!remembered.holds(&digest(b"other"), 104, 3), "another's");
        }
        assert_eq!(Remembered::decode(b""), None);
        let limited = Verdict::Limited { retry_after_ms: 7 };
        assert_eq!(
            Remembered::new(digest(b"x"), limited, 1),
            Err(NotRemembered::Limited { retry_after_ms: 7 })
        );
    }
}
