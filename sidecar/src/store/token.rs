//! The secret that Envoy, the filter and the sidecar share. It is a file beside the store,
//! because `tidegate envoy` must render the same one that `tidegate run` asks for, whichever
//! is started first.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::keys::random;
use crate::secret::Secret;

const FILE: &str = "internal_token";
/// The key that provider's secrets in the store are sealed with.
const SECRET_KEY_FILE: &str = "secret_key";

/// Why there is no token.
#[derive(Debug)]
pub struct TokenError {
    path: PathBuf,
    cause: String,
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot read or make {}: {}; remove the file to have a new one made",
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for TokenError {}

/// Reads the token in `folder`, and makes it (readable to this user alone) if it is absent.
///
/// # Errors
/// The file cannot be read or made, or is not a token.
pub fn internal_token(folder: &Path) -> Result<Secret, TokenError> {
    kept(folder, FILE)
}

/// Reads the sealing key in `folder`, and makes it (readable to this user alone) if it is absent.
///
/// # Errors
/// The file cannot be read or made, or is not a key.
pub fn secret_key(folder: &Path) -> Result<Secret, TokenError> {
    kept(folder, SECRET_KEY_FILE)
}

fn kept(folder: &Path, file: &str) -> Result<Secret, TokenError> {
    let path = folder.join(file);
    let failed = |cause: String| TokenError { path: path.clone(), cause };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| failed("is not 64 hex digits".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random::token().map_err(|e| failed(e.to_string()))?;
            make(folder, file, &token).map_err(|e| failed(e.to_string()))?;
            let text = std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
            parse(&text).ok_or_else(|| failed("is not 64 hex digits".to_owned()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn parse(text: &str) -> Option<Secret> {
    let token = text.trim_end();
    (token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Secret::new(token))
}

/// Writes the token under another name and links it into place: two processes that start
/// together then agree on the first one's, and nobody reads half of it.
fn make(folder: &Path, file: &str, token: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!("{file}.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(token.as_bytes())?;
            file.sync_all()
        });
    let linked = written.and_then(|()| match std::fs::hard_link(&draft, folder.join(file)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    std::fs::remove_file(&draft)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_makes_it_private_and_the_second_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state");
        let first = internal_token(&state).expect("made");
        assert_eq!(internal_token(&state).expect("read"), first);
        let mode = std::fs::metadata(state.join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&state).expect("folder").count(), 1);
    }

    #[test]
    fn a_file_that_is_no_token_is_refused_and_not_overwritten() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(FILE), "short").expect("writes");
        let error = internal_token(folder.path()).expect_err("refused").to_string();
        assert!(error.contains(FILE) && !error.contains("short"), "{error}");
    }
}
