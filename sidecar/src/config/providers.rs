//! `providers`: who answers LLM requests.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use tidegate_core::provider::Vendor;
use tidegate_core::usage::{PRICE_MAX, Price};

use super::Check;
use super::value::Span;
use crate::llm::{ProviderKind, ProviderSettings, Remote};
use crate::secret::Secret;

/// Most providers.
const PROVIDERS_MAX: usize = 64;
/// Most keys of one provider.
const API_KEYS_MAX: usize = 64;
/// Most models of one provider.
const MODELS_MAX: usize = 1024;
/// Longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// Longest version of an API, in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// Highest weight.
const WEIGHT_MAX: u32 = 1000;

/// One provider as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    name: Option<String>,
    r#type: Option<String>,
    base_url: Option<String>,
    api_key: Option<Secret>,
    api_keys: Option<Vec<Option<Secret>>>,
    weight: Option<u32>,
    enabled: Option<bool>,
    models: Option<Vec<Option<String>>>,
    timeout: Option<Span>,
    connect_timeout: Option<Span>,
    model_path: Option<String>,
    price: Option<PriceDocument>,
    api_version: Option<String>,
    lenient: Option<bool>,
}

/// US dollars per million tokens, as they may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PriceDocument {
    input: Option<f64>,
    output: Option<f64>,
    cached_input: Option<f64>,
}

/// A value of `type:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Remote(Vendor),
    Local,
}

impl Kind {
    fn named(text: &str) -> Option<Self> {
        if text == "local" { Some(Self::Local) } else { Vendor::named(text).map(Self::Remote) }
    }

    /// All values, for messages.
    fn known() -> String {
        let labels: Vec<_> = Vendor::ALL.iter().map(|vendor| vendor.label()).collect();
        format!("{} or local", labels.join(", "))
    }
}

/// Checks the section.
pub fn validate(list: Option<Vec<Option<Document>>>, check: &mut Check<'_>) -> Vec<ProviderSettings> {
    let mut providers: Vec<ProviderSettings> = Vec::new();
    for (path, document) in check.items("providers", list, PROVIDERS_MAX) {
        let Some(provider) = provider(&path, document, check) else { continue };
        if providers.iter().any(|other| other.name == provider.name) {
            let what = format!("`{}` is used twice; names must differ", provider.name);
            check.problems.add(format!("{path}.name"), what);
        }
        providers.push(provider);
    }
    providers
}

fn provider(path: &str, mut document: Document, check: &mut Check<'_>) -> Option<ProviderSettings> {
    let name = check.problems.required(&format!("{path}.name"), document.name.take(), "`name: openai-main`");
    let name = name.map(|name| check.name(&format!("{path}.name"), name));
    let models = models_of(&format!("{path}.models"), document.models.take(), check);
    let weight = document.weight.unwrap_or(1);
    let weight = check.problems.within(&format!("{path}.weight"), weight, 1..=WEIGHT_MAX, "");
    let enabled = document.enabled.unwrap_or(true);
    let timeout = span(&format!("{path}.timeout"), document.timeout, 60, check);
    let connect_timeout = span(&format!("{path}.connect_timeout"), document.connect_timeout, 5, check);
    let price = document.price.take().unwrap_or_default();
    let price = price_of(&format!("{path}.price"), price, check);
    let kind = match kind_of(path, document.r#type.take(), check)? {
        Kind::Remote(vendor) => ProviderKind::Remote(remote(path, vendor, document, check)?),
        Kind::Local => local(path, document, check)?,
    };
    Some(ProviderSettings { name: name?, kind, models, weight, enabled, timeout, connect_timeout, price })
}

fn kind_of(path: &str, text: Option<String>, check: &mut Check<'_>) -> Option<Kind> {
    let field = format!("{path}.type");
    let text = check.problems.required(&field, text, "`type: openai`, `type: anthropic` or `type: local`")?;
    let kind = Kind::named(&text);
    if kind.is_none() {
        check.problems.add(field, format!("`{text}` is not a type; there are {}", Kind::known()));
    }
    kind
}

fn remote(path: &str, vendor: Vendor, document: Document, check: &mut Check<'_>) -> Option<Remote> {
    misplaced(path, "model_path", document.model_path.is_some(), "type: local", check);
    let is_azure = vendor == Vendor::Azure;
    misplaced(path, "api_version", document.api_version.is_some() && !is_azure, "type: azure", check);
    Some(Remote {
        vendor,
        api_keys: keys_of(path, document.api_key, document.api_keys, check),
        base_url: base_url_of(path, document.base_url, vendor, check)?,
        api_version: document.api_version.map(|text| version(path, text, check)),
        lenient: document.lenient.unwrap_or(false),
    })
}

fn local(path: &str, document: Document, check: &mut Check<'_>) -> Option<ProviderKind> {
    let has_key = document.api_key.is_some() || document.api_keys.is_some();
    for (field, present) in [
        ("base_url", document.base_url.is_some()),
        ("api_key", has_key),
        ("api_version", document.api_version.is_some()),
        ("lenient", document.lenient.is_some()),
    ] {
        misplaced(path, field, present, "type: openai` or another that is elsewhere", check);
    }
    let field = format!("{path}.model_path");
    let file = check.problems.required(&field, document.model_path, "`model_path: model.gguf`");
    Some(ProviderKind::Local { model_path: check.expanded(&field, &file?).into() })
}

/// A version stands in addresses as it is.
fn version(path: &str, text: String, check: &mut Check<'_>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if text.is_empty() || text.len() > VERSION_BYTES_MAX || !text.bytes().all(plain) {
        check.problems.add(format!("{path}.api_version"), "must be a version such as 2024-10-21");
    }
    text
}

/// Cached tokens cost what others do, unless a price of their own is given.
fn price_of(path: &str, document: PriceDocument, check: &mut Check<'_>) -> Price {
    let PriceDocument { input, output, cached_input } = document;
    let mut one = |field: &str, value: f64| {
        check.problems.within(
            &format!("{path}.{field}"),
            value,
            0.0..=PRICE_MAX,
            " US dollars per million tokens",
        )
    };
    let input = one("input", input.unwrap_or(0.0));
    Price {
        input,
        output: one("output", output.unwrap_or(0.0)),
        cached_input: one("cached_input", cached_input.unwrap_or(input)),
    }
}

fn misplaced(path: &str, field: &str, present: bool, belongs: &str, check: &mut Check<'_>) {
    if present {
        check.problems.add(format!("{path}.{field}"), format!("belongs to `{belongs}`; remove it"));
    }
}

fn span(path: &str, span: Option<Span>, default_s: u64, check: &mut Check<'_>) -> Duration {
    let ms = span.map_or(default_s * 1000, |span| super::breaker::millis(span.0));
    Duration::from_millis(check.problems.within(path, ms, 1..=3_600_000, " milliseconds (1ms to 1h)"))
}

fn models_of(path: &str, models: Option<Vec<Option<String>>>, check: &mut Check<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (path, name) in check.items(path, models, MODELS_MAX) {
        if name.is_empty() || name.len() > MODEL_BYTES_MAX || name.chars().any(char::is_control) {
            check.problems.add(path, format!("must be a model's name, 1 to {MODEL_BYTES_MAX} bytes"));
        } else if names.contains(&name) {
            check.problems.add(path, format!("`{name}` is listed twice; remove one"));
        } else {
            names.push(name);
        }
    }
    names
}

fn keys_of(
    path: &str,
    one: Option<Secret>,
    several: Option<Vec<Option<Secret>>>,
    check: &mut Check<'_>,
) -> Vec<Secret> {
    if one.is_some() && several.is_some() {
        check.problems.add(format!("{path}.api_keys"), "stands beside api_key; write one of the two");
    }
    let list = check.items(&format!("{path}.api_keys"), several, API_KEYS_MAX);
    let single = one.map(|key| (format!("{path}.api_key"), key));
    single
        .into_iter()
        .chain(list)
        .map(|(path, key)| {
            let key = check.expanded(&path, key.expose());
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
                check.problems.add(path, "must be 1 or more visible ASCII characters, without spaces");
            }
            Secret::new(key)
        })
        .collect()
}

fn base_url_of(path: &str, text: Option<String>, vendor: Vendor, check: &mut Check<'_>) -> Option<Uri> {
    let field = format!("{path}.base_url");
    let example = vendor.base_url().unwrap_or("https://NAME.openai.azure.com");
    let text = text.or_else(|| vendor.base_url().map(str::to_owned));
    let text = check.problems.required(&field, text, &format!("`base_url: {example}`"))?;
    let text = check.expanded(&field, &text);
    let uri = text.trim_end_matches('/').parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty())
            && uri.query().is_none()
    });
    if uri.is_none() {
        check.problems.add(field, format!("must be a URL without user and query, such as {example}"));
    }
    uri
}
