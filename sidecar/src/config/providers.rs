//! `providers`: who answers LLM requests.

mod remote;

use std::time::Duration;

use serde::Deserialize;
use tidegate_core::provider::Vendor;
use tidegate_core::usage::{PRICE_MAX, Price};

use super::Check;
use super::value::Span;
use crate::llm::{ProviderKind, ProviderSettings};
use crate::secret::Secret;

/// Most providers.
const PROVIDERS_MAX: usize = 64;
/// Most keys of one provider.
const API_KEYS_MAX: usize = 64;
/// Most models of one provider.
const MODELS_MAX: usize = 1024;
/// Longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 256;
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
    region: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
    secret_key: Option<Secret>,
    project: Option<String>,
    location: Option<String>,
    service_account: Option<String>,
    lenient: Option<bool>,
    stream_usage: Option<bool>,
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

/// Checks one provider that did not come with the file; `path` may be empty.
pub fn validate_one(
    path: &str,
    document: serde_json::Value,
    check: &mut Check<'_>,
) -> Option<ProviderSettings> {
    match serde_path_to_error::deserialize::<_, Document>(document) {
        Ok(document) => provider(path, document, check),
        Err(error) => {
            check.problems.add(error.path().to_string(), error.inner().to_string());
            None
        }
    }
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
        Kind::Remote(vendor) => ProviderKind::Remote(remote::remote(path, vendor, document, check)?),
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

fn local(path: &str, document: Document, check: &mut Check<'_>) -> Option<ProviderKind> {
    let has_key = document.api_key.is_some() || document.api_keys.is_some();
    for (field, present) in [
        ("base_url", document.base_url.is_some()),
        ("api_key", has_key),
        ("lenient", document.lenient.is_some()),
        ("stream_usage", document.stream_usage.is_some()),
    ] {
        misplaced(path, field, present, "type: openai` or another that is elsewhere", check);
    }
    remote::refuse_foreign_fields(path, None, &document, check);
    let field = format!("{path}.model_path");
    let file = check.problems.required(&field, document.model_path, "`model_path: model.gguf`");
    Some(ProviderKind::Local { model_path: check.expanded(&field, &file?).into() })
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
    single.into_iter().chain(list).map(|(path, key)| check.key(path, &key)).collect()
}
