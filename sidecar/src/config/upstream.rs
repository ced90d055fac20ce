//! `server.upstreams`: the operator's own servers behind the same limits.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_core::route::{RouteClass, classify};

use super::value::Switch;
use super::{Check, Problems, pem};
use crate::secret::Secret;

/// Most upstreams of the operator's own.
const UPSTREAMS_MAX: usize = 256;
/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Names the file of trusted certificates, as for OpenSSL.
const CA_VARIABLE: &str = "SSL_CERT_FILE";
/// Where systems keep the certificates that they trust: Debian, Fedora, openSUSE, Alpine.
const CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An item as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    name: Option<String>,
    prefix: Option<String>,
    address: Option<String>,
    rewrite: Option<String>,
    api: Option<Api>,
    api_key: Option<Secret>,
    tls: Option<Switch<TlsDocument>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsDocument {
    sni: Option<String>,
    ca_path: Option<String>,
    verify: Option<bool>,
}

/// The API that an upstream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's, and perhaps Anthropic's messages: vLLM, Ollama, another gateway.
    Openai,
}

/// One of the operator's own upstreams, protected by the same limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name of its Envoy cluster.
    pub name: String,
    /// Paths at and below this go there; without a final slash, empty for all.
    pub prefix: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What stands in the prefix's place when a request is passed on; without a final slash.
    pub rewrite: Option<String>,
    /// The API that the gateway knows below the prefix.
    pub api: Option<Api>,
    /// What it is sent as its key, in the place of whatever the caller sent.
    pub api_key: Option<Secret>,
    /// How it is reached by TLS, if it is.
    pub tls: Option<UpstreamTls>,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that its certificate is for, or its address.
    pub name: String,
    /// Certificates of the authorities that are trusted; `None` to believe any certificate.
    pub ca_path: Option<PathBuf>,
}

impl UpstreamTls {
    /// The name to tell the server (RFC 6066, 3), which is never an address.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        self.name.parse::<IpAddr>().is_err().then_some(&*self.name)
    }
}

/// Checks the list.
pub fn validate(list: Option<Vec<Option<Document>>>, check: &mut Check<'_>) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for (path, document) in check.items("server.upstreams", list, UPSTREAMS_MAX) {
        let Document { name, prefix, address, rewrite, api, api_key, tls } = document;
        let name = check.problems.required(&format!("{path}.name"), name, "`name: shop`");
        let prefix = check.problems.required(&format!("{path}.prefix"), prefix, "`prefix: /shop`");
        let address =
            check.problems.required(&format!("{path}.address"), address, "`address: 127.0.0.1:3000`");
        let (Some(name), Some(prefix), Some(address)) = (name, prefix, address) else { continue };
        let name = check.name(&format!("{path}.name"), name);
        if upstreams.iter().any(|other| other.name == name) {
            check.problems.add(format!("{path}.name"), format!("`{name}` is used twice; names must differ"));
        }
        let prefix = upstream_prefix(&path, &prefix, &mut check.problems);
        if upstreams.iter().any(|other| other.prefix == prefix) {
            check.problems.add(format!("{path}.prefix"), "is another upstream's too; prefixes must differ");
        }
        let (host, port) = host_and_port(&path, &address, &mut check.problems);
        let rewrite = rewrite.map(|to| plain_path(&format!("{path}.rewrite"), &to, &mut check.problems));
        let api_key = api_key.map(|key| check.key(format!("{path}.api_key"), &key));
        let tls = validate_tls(&format!("{path}.tls"), tls, &host, check);
        upstreams.push(Upstream { name, prefix, host, port, rewrite, api, api_key, tls });
    }
    upstreams
}

fn validate_tls(
    path: &str,
    tls: Option<Switch<TlsDocument>>,
    host: &str,
    check: &mut Check<'_>,
) -> Option<UpstreamTls> {
    let TlsDocument { sni, ca_path, verify } = match tls? {
        Switch::Off => return None,
        Switch::On => TlsDocument::default(),
        Switch::With(document) => document,
    };
    let name = sni.unwrap_or_else(|| host.to_owned());
    if !is_host(&name) {
        check.problems.add(format!("{path}.sni"), "must be a host name, such as api.example.com");
    }
    let field = format!("{path}.ca_path");
    if verify == Some(false) {
        if ca_path.is_some() {
            check.problems.add(field, "has no use with `verify: false`; remove one of them");
        }
        return Some(UpstreamTls { name, ca_path: None });
    }
    let ca_path = match ca_path {
        Some(file) => {
            pem::authorities(&field, &file, check);
            pem::absolute(&field, &file, check)
        }
        None => system_authorities(check).unwrap_or_else(|| {
            let what = "is missing, and this machine's own certificates were not found; install \
                ca-certificates, set SSL_CERT_FILE, or name a file";
            check.problems.add(field, what);
            PathBuf::new()
        }),
    };
    Some(UpstreamTls { name, ca_path: Some(ca_path) })
}

/// The file of certificates that this machine trusts.
pub fn system_authorities(check: &Check<'_>) -> Option<PathBuf> {
    let set = check.env.get(CA_VARIABLE).filter(|path| !path.is_empty());
    let files = set.map(Path::new).into_iter().chain(CA_FILES.map(Path::new));
    files.into_iter().find(|path| path.is_file()).map(Path::to_owned)
}

fn upstream_prefix(path: &str, prefix: &str, problems: &mut Problems) -> String {
    let field = format!("{path}.prefix");
    let trimmed = plain_path(&field, prefix, problems);
    if trimmed.starts_with('/') && classify(&trimmed) != RouteClass::Other {
        problems.add(field, format!("`{prefix}` belongs to the gateway; choose another, such as /shop"));
    }
    trimmed
}

/// A path without its final slash.
fn plain_path(field: &str, text: &str, problems: &mut Problems) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_' | b'~');
    if !text.starts_with('/') || !text.bytes().all(plain) {
        let what = format!("is `{text}`; must start with / and hold only A-Z a-z 0-9 / - . _ ~");
        problems.add(field, what);
    }
    text.trim_end_matches('/').to_owned()
}

fn host_and_port(path: &str, address: &str, problems: &mut Problems) -> (String, u16) {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        is_host(host).then(|| (host.to_owned(), port))
    });
    parsed.unwrap_or_else(|| {
        problems.add(
            format!("{path}.address"),
            format!("is `{address}`; must be host:port, as in 127.0.0.1:3000"),
        );
        ("localhost".to_owned(), 1)
    })
}

/// A name or an address.
fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};
    use super::*;

    fn upstream(fields: &str) -> Result<Upstream, String> {
        let yaml = format!("server: {{upstreams: [{{name: u, prefix: /u, {fields}}}]}}");
        let trusted = Env::from([(CA_VARIABLE.to_owned(), "/proc/self/status".to_owned())]);
        let mut config = parse(&yaml, &trusted).map_err(|problems| problems.to_string())?;
        Ok(config.server.upstreams.remove(0))
    }

    #[test]
    fn tls_checks_certificates_unless_told_otherwise() {
        assert_eq!(upstream("address: 'h:1'").expect("plain").tls, None);
        assert_eq!(upstream("address: 'h:1', tls: false").expect("plain").tls, None);
        let usual = upstream("address: 'api.example.com:443', tls: true").expect("usual").tls.expect("TLS");
        assert_eq!(usual.sni(), Some("api.example.com"));
        assert_eq!(
            usual.ca_path.as_deref(),
            Some(Path::new("/proc/self/status")),
            "what SSL_CERT_FILE names"
        );
        let address = upstream("address: '[::1]:443', tls: true").expect("address").tls.expect("TLS");
        assert_eq!((address.sni(), &*address.name), (None, "::1"));
        let any = upstream("address: '10.0.0.1:1', tls: {verify: false, sni: a.example}");
        let any = any.expect("any").tls.expect("TLS");
        assert_eq!((any.sni(), &any.ca_path), (Some("a.example"), &None));
    }

    #[test]
    fn what_is_wrong_with_tls_is_named() {
        for (tls, words) in [
            ("1", "server.upstreams[0].tls: invalid type"),
            ("{ca: x}", "server.upstreams[0].tls.ca: unknown field"),
            ("{sni: 'a/b'}", "server.upstreams[0].tls.sni: must be a host name"),
            ("{ca_path: /nowhere}", "server.upstreams[0].tls.ca_path: cannot read /nowhere"),
            ("{ca_path: /dev/null}", "server.upstreams[0].tls.ca_path: has no certificate"),
            ("{ca_path: /dev/null, verify: false}", "has no use with `verify: false`"),
        ] {
            let problem = upstream(&format!("address: 'h:1', tls: {tls}")).expect_err(tls);
            assert!(problem.contains(words), "{tls}: {problem}");
        }
    }
}
