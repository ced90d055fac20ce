//! `security.tls`: the gateway's own certificate, and those it asks of clients.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::server::Server;
use super::{Check, Env, Problems, pem};

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    cert_path: Option<String>,
    key_path: Option<String>,
    client_ca_path: Option<String>,
    redirect_http_port: Option<u16>,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and its authority's, in PEM form.
    pub cert_path: PathBuf,
    /// Its private key, in PEM form.
    pub key_path: PathBuf,
    /// Certificates of the authorities whose clients may connect; `None` for everybody.
    pub client_ca_path: Option<PathBuf>,
    /// A port that sends whoever comes without TLS to the one that has it.
    pub redirect_http_port: Option<u16>,
}

impl Tls {
    /// Whether the files are good now, as they were at the start.
    ///
    /// # Errors
    /// What is wrong with them, by the paths of the configuration.
    pub fn recheck(&self) -> Result<(), Problems> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let document = Document {
            cert_path: Some(text(&self.cert_path)),
            key_path: Some(text(&self.key_path)),
            client_ca_path: self.client_ca_path.as_deref().map(text),
            redirect_http_port: None,
        };
        let mut check = Check { problems: Problems::default(), env: &Env::new() };
        files(&document, &mut check);
        if check.problems.is_empty() { Ok(()) } else { Err(check.problems) }
    }
}

/// Checks the section, and the files that it names.
pub fn validate(document: Document, server: &Server, check: &mut Check<'_>) -> Option<Tls> {
    let (cert_path, key_path) = files(&document, check)?;
    let Document { client_ca_path, redirect_http_port, .. } = document;
    if let Some(port) = redirect_http_port {
        const FIELD: &str = "security.tls.redirect_http_port";
        check.problems.within(FIELD, port, 1..=u16::MAX, "");
        if [server.port, server.sidecar_port, server.admin_port].contains(&port) {
            check.problems.add(FIELD, "is a port of `server` too; choose another, such as 80");
        }
    }
    let client_ca_path =
        client_ca_path.map(|file| pem::absolute("security.tls.client_ca_path", &file, check));
    Some(Tls { cert_path, key_path, client_ca_path, redirect_http_port })
}

/// Where the certificate and the key are, once all files were found to be good.
fn files(document: &Document, check: &mut Check<'_>) -> Option<(PathBuf, PathBuf)> {
    const CERT: &str = "security.tls.cert_path";
    const KEY: &str = "security.tls.key_path";
    const CLIENTS: &str = "security.tls.client_ca_path";
    if let Some(file) = &document.client_ca_path {
        pem::authorities(CLIENTS, file, check);
    }
    let cert = document.cert_path.clone();
    let cert = check.problems.required(CERT, cert, "`cert_path: /etc/tidegate/tls/fullchain.pem`");
    let key = document.key_path.clone();
    let key = check.problems.required(KEY, key, "`key_path: /etc/tidegate/tls/privkey.pem`");
    let (cert, key) = cert.zip(key)?;
    let chain = pem::certificates(CERT, &cert, check);
    let private = pem::key(KEY, &key, check);
    if let Err((field, what)) = pem::check_pair(&chain?, &private?) {
        check.problems.add(format!("security.tls.{field}"), what);
        return None;
    }
    Some((pem::absolute(CERT, &cert, check), pem::absolute(KEY, &key, check)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tidegate_e2e::harness::Certificates;

    use super::super::{Env, parse};

    async fn made() -> (TempDir, Certificates) {
        let folder = tempfile::tempdir().expect("folder");
        let made = Certificates::make(folder.path()).await.expect("openssl");
        (folder, made)
    }

    #[tokio::test]
    async fn files_that_belong_together_are_taken() {
        let (_folder, made) = made().await;
        let (cert, key, ca) = (made.cert.display(), made.key.display(), made.ca.display());
        let fields =
            format!("cert_path: {cert}, key_path: {key}, client_ca_path: {ca}, redirect_http_port: 80");
        let config = parse(&format!("security: {{headers: true, tls: {{{fields}}}}}"), &Env::new());
        let security = config.unwrap_or_else(|problems| panic!("{problems}")).security;
        let tls = security.tls.expect("TLS");
        assert_eq!((&tls.cert_path, tls.redirect_http_port), (&made.cert, Some(80)));
        assert!(security.headers.contains_key("strict-transport-security"));
        assert_eq!(tls.recheck(), Ok(()));
        std::fs::write(&made.key, "nothing").expect("writes");
        let problems = tls.recheck().expect_err("replaced by rubbish").to_string();
        assert!(problems.contains("security.tls.key_path: has no private key"), "{problems}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_before_anything_starts() {
        let (folder, made) = made().await;
        let (cert, key) = (made.cert.display(), made.key.display());
        let other = folder.path().join("ca.key");
        let pair = format!("cert_path: {cert}, key_path: {key}");
        for (fields, words) in [
            (String::new(), "security.tls.cert_path: is missing"),
            (format!("cert_path: {cert}"), "security.tls.key_path: is missing"),
            ("cert_path: /no, key_path: /no".to_owned(), "security.tls.cert_path: cannot read /no"),
            (format!("cert_path: {key}, key_path: {key}"), "security.tls.cert_path: has no certificate"),
            (
                format!("cert_path: {cert}, key_path: {}", other.display()),
                "security.tls.key_path: is not the key of the first certificate",
            ),
            (format!("{pair}, client_ca_path: /dev/null"), "security.tls.client_ca_path: has no certificate"),
            (format!("{pair}, redirect_http_port: 8080"), "security.tls.redirect_http_port: is a port of"),
        ] {
            let yaml = format!("security: {{tls: {{{fields}}}}}");
            let problems = parse(&yaml, &Env::new()).expect_err(&fields).to_string();
            assert!(problems.contains(words), "{fields}: {problems}");
        }
    }
}
