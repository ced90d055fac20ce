//! Passwords: hashed with argon2id, a few at a time.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::secret::Secret;

/// Shortest password (NIST SP 800-63B, 5.1.1), in bytes.
const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Memory, passes and lanes of new hashes (OWASP's first choice for argon2id); memory in KiB.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// Hashes computed at once: each takes its memory and a processor.
const AT_ONCE_MAX: usize = 2;
/// Logins that wait for their turn; further ones are sent away.
const WAITING_MAX: usize = 32;
const SALT_BYTES: usize = 16;

/// Hashes a password for `auth.users[].password_hash`, in PHC form.
///
/// # Errors
/// A sentence: the password is too short or too long, or there are no random bytes.
pub fn hash(password: &str) -> Result<String, String> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(format!("the password must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"));
    }
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|e| format!("the system gives no random bytes: {e}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|e| format!("no salt: {e}"))?;
    let (memory_kib, passes, lanes) = COST;
    let params = Params::new(memory_kib, passes, lanes, None).map_err(|e| e.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes(), &salt).map(|hash| hash.to_string()).map_err(|e| e.to_string())
}

/// Checks passwords off the async threads.
#[derive(Debug)]
pub struct Passwords {
    admitted: Semaphore,
    computing: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { admitted: Semaphore::new(AT_ONCE_MAX + WAITING_MAX), computing: Semaphore::new(AT_ONCE_MAX) }
    }
}

impl Passwords {
    /// Whether `password` is the one of `hash`; `None` if too many are being checked already.
    pub async fn check(&self, password: Secret, hash: Secret) -> Option<bool> {
        let _admitted = self.admitted.try_acquire().ok()?;
        // Neither semaphore is ever closed.
        let _turn = self.computing.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || is_of(&password, &hash)).await.ok()
    }
}

fn is_of(password: &Secret, hash: &Secret) -> bool {
    let Ok(hash) = PasswordHash::new(hash.expose()) else { return false };
    // The parameters are those of the hash; its algorithm was checked with the configuration.
    Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_knows_its_password_and_no_other() {
        let text = hash("correct horse").expect("hashed");
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert_ne!(hash("correct horse").expect("hashed"), text, "salted");
        let passwords = Passwords::default();
        let check = |word: &str| passwords.check(Secret::new(word), Secret::new(text.as_str()));
        assert_eq!(check("correct horse").await, Some(true));
        assert_eq!(check("correct horsf").await, Some(false));
        assert_eq!(passwords.check(Secret::new("x"), Secret::new("no hash")).await, Some(false));
    }

    #[test]
    fn passwords_have_a_least_and_a_greatest_length() {
        assert!(hash("seven77").is_err() && hash(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_sent_away() {
        let passwords = Passwords::default();
        let _all = passwords.admitted.try_acquire_many((AT_ONCE_MAX + WAITING_MAX) as u32).expect("free");
        assert_eq!(passwords.check(Secret::new("x"), Secret::new("y")).await, None);
    }
}
