//! Certificates of an authority of its own, for servers and clients on 127.0.0.1.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::error::HarnessError;
use super::paths;

/// An authority's certificate, and one that it has signed for servers and clients.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`.
    ///
    /// # Errors
    /// openssl is not installed, or fails.
    pub async fn make(dir: &Path) -> Result<Self, HarnessError> {
        let path = |name: &str| dir.join(name);
        let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
        sign(&ca, &ca_key, &["-subj", "/CN=authority"]).await?;
        let (cert, key) = (path("cert.pem"), path("cert.key"));
        let by = ["-CA", &ca.display().to_string(), "-CAkey", &ca_key.display().to_string()];
        let leaf = [
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ];
        sign(&cert, &key, &[by.as_slice(), &leaf].concat()).await?;
        Ok(Self { ca, cert, key })
    }
}

async fn sign(cert: &Path, key: &Path, more: &[&str]) -> Result<(), HarnessError> {
    let output = Command::new(paths::on_path("openssl", "openssl")?)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .arg("-out")
        .arg(cert)
        .arg("-keyout")
        .arg(key)
        .args(more)
        .output()
        .await
        .map_err(HarnessError::io("running openssl"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::Program(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))))
}
