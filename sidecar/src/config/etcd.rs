//! `etcd`: what gateways of one fleet share when `store.type` is `etcd`.

use std::time::Duration;

use serde::Deserialize;

use super::value::Span;
use super::{Check, pem};
use crate::secret::Secret;
use crate::store::{EtcdSettings, EtcdTls};

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

/// Most members.
const ENDPOINTS_MAX: usize = 16;
/// What keys begin with unless said otherwise.
const PREFIX: &str = "/tidegate";
/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 200;
/// How long a change may take unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    endpoints: Option<Vec<String>>,
    timeout: Option<Span>,
    prefix: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    ca_path: Option<String>,
    cert_path: Option<String>,
    key_path: Option<String>,
}

/// Checks the section.
pub fn validate(document: Document, check: &mut Check<'_>) -> Option<EtcdSettings> {
    let Document { endpoints, timeout, prefix, username, password, ca_path, cert_path, key_path } = document;
    let endpoints = check.problems.required("etcd.endpoints", endpoints, "`endpoints: [127.0.0.1:2379]`")?;
    if !(1..=ENDPOINTS_MAX).contains(&endpoints.len()) {
        check.problems.add("etcd.endpoints", format!("must name 1 to {ENDPOINTS_MAX} members"));
    }
    let endpoints = endpoints.iter().enumerate().map(|(index, text)| {
        endpoint(text).unwrap_or_else(|| {
            let path = format!("etcd.endpoints[{index}]");
            check.problems.add(path, "must be host:port, http://host:port or https://host:port");
            String::new()
        })
    });
    let endpoints: Vec<String> = endpoints.collect();
    let tls = tls(&endpoints, Files { ca_path, cert_path, key_path }, check);
    let ms = u64::try_from(timeout.map_or(TIMEOUT, |span| span.0).as_millis()).unwrap_or(u64::MAX);
    let timeout = check.problems.within("etcd.timeout", ms, 100..=60_000, " milliseconds");
    let prefix = prefix.unwrap_or_else(|| PREFIX.to_owned());
    let is_prefix = prefix.starts_with('/') && !prefix.ends_with('/') && prefix.len() <= PREFIX_BYTES_MAX;
    if !is_prefix {
        check.problems.add("etcd.prefix", "must begin with a slash and not end with one, such as /tidegate");
    }
    let user = match (username, password) {
        (None, None) => None,
        (Some(user), Some(password)) => {
            let password = check.expanded("etcd.password", password.expose());
            Some((user, Secret::new(password)))
        }
        _ => {
            check.problems.add("etcd.username", "and etcd.password go together; set both or neither");
            None
        }
    };
    Some(EtcdSettings { endpoints, user, prefix, timeout: Duration::from_millis(timeout), tls })
}

/// An address as etcd's client takes it.
fn endpoint(text: &str) -> Option<String> {
    let (scheme, address) = match text.strip_prefix(HTTPS) {
        Some(address) => (HTTPS, address),
        None => (HTTP, text.strip_prefix(HTTP).unwrap_or(text)),
    };
    let (host, port) = address.rsplit_once(':')?;
    let is_usable = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_usable.then(|| format!("{scheme}{address}"))
}

/// Where the certificates are.
struct Files {
    ca_path: Option<String>,
    cert_path: Option<String>,
    key_path: Option<String>,
}

/// What connections by TLS need; the files are read here, so that a check of the configuration finds
/// out what is wrong with them.
fn tls(endpoints: &[String], files: Files, check: &mut Check<'_>) -> Option<EtcdTls> {
    let secured = endpoints.iter().filter(|endpoint| endpoint.starts_with(HTTPS)).count();
    if secured == 0 {
        let Files { ca_path, cert_path, key_path } = files;
        for (name, path) in [("ca_path", ca_path), ("cert_path", cert_path), ("key_path", key_path)] {
            if path.is_some() {
                let what = "is for endpoints that begin with https://, and there are none";
                check.problems.add(format!("etcd.{name}"), what);
            }
        }
        return None;
    }
    if secured < endpoints.len() {
        check.problems.add("etcd.endpoints", "must all begin with https://, or none");
    }
    let ca = check.problems.required("etcd.ca_path", files.ca_path, "`ca_path: /etc/tidegate/etcd-ca.pem`");
    let ca = ca.and_then(|path| pem::certificates("etcd.ca_path", &path, check));
    let identity = match (files.cert_path, files.key_path) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let cert = pem::certificates("etcd.cert_path", &cert, check);
            let key = pem::key("etcd.key_path", &key, check);
            cert.zip(key).map(|(cert, key)| (cert, Secret::new(key)))
        }
        _ => {
            check.problems.add("etcd.cert_path", "and etcd.key_path go together; set both or neither");
            None
        }
    };
    ca.map(|ca| EtcdTls { ca, identity })
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};

    fn problem(yaml: &str) -> String {
        parse(yaml, &Env::new()).expect_err(yaml).to_string()
    }

    #[test]
    fn members_are_addresses_and_what_is_wrong_is_named() {
        let yaml = "store: {type: etcd}\netcd: {endpoints: ['a:2379', 'http://b:2379'], timeout: 2s}";
        let store = parse(yaml, &Env::new()).expect("valid").store;
        let etcd = store.etcd.expect("shared");
        assert_eq!(etcd.endpoints, ["http://a:2379", "http://b:2379"]);
        assert_eq!((etcd.prefix.as_str(), etcd.timeout.as_millis()), ("/tidegate", 2000));
        for (section, path) in [
            ("", "etcd: is missing"),
            ("etcd: {}", "etcd.endpoints: is missing"),
            ("etcd: {endpoints: []}", "etcd.endpoints: must name"),
            ("etcd: {endpoints: [a]}", "etcd.endpoints[0]: must be"),
            ("etcd: {endpoints: ['ftp://a:1/']}", "etcd.endpoints[0]: must be"),
            ("etcd: {endpoints: ['https://a:1']}", "etcd.ca_path: is missing"),
            ("etcd: {endpoints: ['https://a:1', 'b:1']}", "etcd.endpoints: must all begin"),
            ("etcd: {endpoints: ['https://a:1'], ca_path: /nowhere}", "etcd.ca_path: cannot read /nowhere"),
            ("etcd: {endpoints: ['https://a:1'], ca_path: /dev/null}", "etcd.ca_path: has no certificate"),
            ("etcd: {endpoints: ['https://a:1'], cert_path: a}", "etcd.cert_path: and etcd.key_path"),
            (
                "etcd: {endpoints: ['a:1'], ca_path: a}",
                "etcd.ca_path: is for endpoints that begin with https://",
            ),
            ("etcd: {endpoints: ['a:1'], prefix: x}", "etcd.prefix: must begin"),
            ("etcd: {endpoints: ['a:1'], username: u}", "etcd.username: and"),
            ("etcd: {endpoints: ['a:1'], timeout: 1ms}", "etcd.timeout: is 1"),
        ] {
            let problem = problem(&format!("store: {{type: etcd}}\n{section}"));
            assert!(problem.contains(path), "{section}: {problem}");
        }
    }
}
