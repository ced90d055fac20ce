//! `tracing`: where spans go, and of how many requests.

use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

use super::Check;
use super::upstream::{UpstreamTls, system_authorities};
use crate::trace::Settings;

/// Below the collector's address (OTLP/HTTP's default path for traces).
const PATH: &str = "v1/traces";
/// Longest name of a service, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    enabled: Option<bool>,
    #[serde(alias = "collector")]
    otlp_endpoint: Option<String>,
    sampling: Option<f64>,
    service_name: Option<String>,
}

/// The validated section, where it is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// For the sidecar's spans.
    pub settings: Settings,
    /// The collector's host, for Envoy.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS towards it.
    pub tls: Option<UpstreamTls>,
    /// Share of the requests that bring no decision of their own, 0 to 1.
    pub sampling: f64,
}

/// Checks the section.
pub fn validate(document: Document, check: &mut Check<'_>) -> Option<Tracing> {
    const FIELD: &str = "tracing.otlp_endpoint";
    let Document { enabled, otlp_endpoint, sampling, service_name } = document;
    let sampling = check.problems.within("tracing.sampling", sampling.unwrap_or(0.05), 0.0..=1.0, "");
    let service_name = service_name.unwrap_or_else(|| "tidegate".to_owned());
    if !(1..=NAME_BYTES_MAX).contains(&service_name.len())
        || !service_name.bytes().all(|b| b.is_ascii_graphic())
    {
        let what = format!("must be 1 to {NAME_BYTES_MAX} visible ASCII characters without spaces");
        check.problems.add("tracing.service_name", what);
    }
    let Some(text) = otlp_endpoint else {
        if enabled == Some(true) {
            let example = "`otlp_endpoint: http://127.0.0.1:4318`";
            check.problems.add(FIELD, format!("is missing; add it, for example {example}"));
        }
        return None;
    };
    let text = check.expanded(FIELD, &text);
    let Some((endpoint, host, port)) = parse(&text) else {
        let what = "must be the collector's address by OTLP/HTTP, such as http://127.0.0.1:4318";
        check.problems.add(FIELD, what);
        return None;
    };
    let tls = (endpoint.scheme_str() == Some("https")).then(|| {
        let ca_path = system_authorities(check).unwrap_or_else(|| {
            let what = "is https, but this machine's own certificates were not found; install \
                ca-certificates, or set SSL_CERT_FILE";
            check.problems.add(FIELD, what);
            PathBuf::new()
        });
        UpstreamTls { name: host.clone(), ca_path: Some(ca_path) }
    });
    let settings = Settings { endpoint, service_name };
    (enabled != Some(false)).then_some(Tracing { settings, host, port, tls, sampling })
}

/// The path for spans at a collector, and its host and port.
fn parse(text: &str) -> Option<(Uri, String, u16)> {
    let base: Uri = text.parse().ok()?;
    let scheme = base.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = base.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || base.query().is_some() {
        return None;
    }
    let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let path = base.path().trim_end_matches('/');
    let path = if path.ends_with(PATH) { path.to_owned() } else { format!("{path}/{PATH}") };
    let built = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query(path).build();
    Some((built.ok()?, host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};

    #[test]
    fn it_is_off_without_a_collector_and_takes_its_address_in_both_forms() {
        for off in ["", "tracing: {}", "tracing: {enabled: false, otlp_endpoint: 'http://h:1'}"] {
            assert_eq!(parse(off, &Env::new()).expect(off).tracing, None);
        }
        for (endpoint, path, port) in [
            ("http://h:4318", "http://h:4318/v1/traces", 4318),
            ("http://h:4318/v1/traces", "http://h:4318/v1/traces", 4318),
            ("http://h/otlp/", "http://h/otlp/v1/traces", 80),
        ] {
            let yaml = format!("tracing: {{collector: '{endpoint}', sampling: 1, service_name: gw}}");
            let tracing = parse(&yaml, &Env::new()).expect("valid").tracing.expect("on");
            assert_eq!((tracing.settings.endpoint.to_string().as_str(), tracing.port), (path, port));
            assert_eq!((tracing.host.as_str(), tracing.settings.service_name.as_str()), ("h", "gw"));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (section, words) in [
            ("{enabled: true}", "tracing.otlp_endpoint: is missing"),
            ("{otlp_endpoint: 'localhost:4318'}", "tracing.otlp_endpoint: must be the collector's address"),
            ("{otlp_endpoint: 'ftp://h'}", "tracing.otlp_endpoint: must be"),
            ("{otlp_endpoint: 'http://u:p@h'}", "tracing.otlp_endpoint: must be"),
            ("{sampling: 2}", "tracing.sampling: is 2; must be 0 to 1"),
            ("{service_name: 'a b'}", "tracing.service_name: must be"),
            ("{endpoint: x}", "tracing.endpoint: unknown field"),
        ] {
            let problems = parse(&format!("tracing: {section}"), &Env::new()).expect_err(section).to_string();
            assert!(problems.contains(words), "{section}: {problems}");
        }
    }
}
