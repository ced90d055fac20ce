//! Files with certificates and keys, read at once, so that a check of the configuration finds out
//! what is wrong with them.

use std::path::PathBuf;

use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Check;

/// Largest file of certificates or of a key, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The certificates of authorities in `file`, as text.
pub fn certificates(path: &str, file: &str, check: &mut Check<'_>) -> Option<String> {
    read(path, file, check).filter(|text| {
        let is_one = matches!(CertificateDer::pem_slice_iter(text.as_bytes()).next(), Some(Ok(_)));
        if !is_one {
            check.problems.add(path, "has no certificate in PEM form");
        }
        is_one
    })
}

/// The private key in `file`, as text.
pub fn key(path: &str, file: &str, check: &mut Check<'_>) -> Option<String> {
    read(path, file, check).filter(|text| {
        let is_key = PrivateKeyDer::from_pem_slice(text.as_bytes()).is_ok();
        if !is_key {
            check.problems.add(path, "has no private key in PEM form");
        }
        is_key
    })
}

fn read(path: &str, file: &str, check: &mut Check<'_>) -> Option<String> {
    let file = check.expanded(path, file);
    let text = match std::fs::metadata(&file) {
        Ok(meta) if meta.len() > PEM_BYTES_MAX => Err(format!("{file} is larger than {PEM_BYTES_MAX} bytes")),
        Ok(_) => std::fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}")),
        Err(error) => Err(format!("cannot read {file}: {error}")),
    };
    text.map_err(|what| check.problems.add(path, what)).ok()
}

/// Where a file is, for another process: variables replaced, and independent of the working folder.
pub fn absolute(path: &str, file: &str, check: &mut Check<'_>) -> PathBuf {
    let file = check.expanded(path, file);
    std::path::absolute(&file).unwrap_or_else(|_| file.into())
}

/// Whether a server can use this chain with this key, both in PEM form: each of a kind that Envoy
/// takes, and the first certificate made for the key. A problem is one of `cert_path` or `key_path`.
///
/// # Errors
/// Which of the two is wrong, and in what way.
pub fn check_pair(chain: &str, key: &str) -> Result<(), (&'static str, &'static str)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|_| ("cert_path", "has a certificate that cannot be read"))?;
    if chain.is_empty() {
        return Err(("cert_path", "has no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| ("key_path", "has no private key in PEM form"))?;
    let provider = default_provider();
    let signing = provider.key_provider.load_private_key(key).map_err(|_| KEY_KIND)?;
    if signing.algorithm() == SignatureAlgorithm::ED25519 {
        return Err(KEY_KIND);
    }
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(("key_path", "is not the key of the first certificate in cert_path; give the pair"))
        }
        Err(_) => Err(("cert_path", "has a certificate that cannot be read")),
    }
}

const KEY_KIND: (&str, &str) =
    ("key_path", "must be an RSA key of 2048 bits or more, or an ECDSA key on P-256 or P-384");

/// Checks that `file` has certificates that can be those of authorities.
pub fn authorities(path: &str, file: &str, check: &mut Check<'_>) {
    if let Some(Err(what)) = certificates(path, file, check).as_deref().map(check_authorities) {
        check.problems.add(path, what);
    }
}

fn check_authorities(text: &str) -> Result<(), &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let added = certificate.ok().is_some_and(|der| roots.add(der).is_ok());
        if !added {
            return Err("has a certificate that cannot be read");
        }
    }
    if roots.is_empty() { Err("has no certificate in PEM form") } else { Ok(()) }
}
