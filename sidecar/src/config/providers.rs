//! `providers`: who answers LLM requests.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;
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
    r#type: Option<Kind>,
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
}

/// US dollars per million tokens, as they may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PriceDocument {
    input: Option<f64>,
    output: Option<f64>,
    cached_input: Option<f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    OpenAi,
    Anthropic,
    Local,
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

fn provider(path: &str, document: Document, check: &mut Check<'_>) -> Option<ProviderSettings> {
    let Document {
        name,
        r#type,
        base_url,
        api_key,
        api_keys,
        weight,
        enabled,
        models,
        timeout,
        connect_timeout,
        model_path,
        price,
    } = document;
    let name = check.problems.required(&format!("{path}.name"), name, "`name: openai-main`");
    let kind = check.problems.required(
        &format!("{path}.type"),
        r#type,
        "`type: openai`, `type: anthropic` or `type: local`",
    );
    let name = name.map(|name| check.name(&format!("{path}.name"), name));
    let models = models_of(&format!("{path}.models"), models, check);
    let keys = keys_of(path, api_key, api_keys, check);
    let weight = check.problems.within(&format!("{path}.weight"), weight.unwrap_or(1), 1..=WEIGHT_MAX, "");
    let price = price_of(&format!("{path}.price"), price.unwrap_or_default(), check);
    let kind = match kind? {
        Kind::OpenAi => {
            misplaced(path, "model_path", model_path.is_some(), "type: local", check);
            let base_url = base_url_of(path, base_url, "https://api.openai.com/v1", check)?;
            ProviderKind::OpenAi { base_url, api_keys: keys }
        }
        Kind::Anthropic => {
            misplaced(path, "model_path", model_path.is_some(), "type: local", check);
            let base_url = base_url_of(path, base_url, "https://api.anthropic.com/v1", check)?;
            ProviderKind::Anthropic { base_url, api_keys: keys }
        }
        Kind::Local => {
            misplaced(path, "base_url", base_url.is_some(), "type: openai` or `type: anthropic", check);
            misplaced(path, "api_key", !keys.is_empty(), "type: openai` or `type: anthropic", check);
            let field = format!("{path}.model_path");
            let file = check.problems.required(&field, model_path, "`model_path: model.gguf`");
            ProviderKind::Local { model_path: check.expanded(&field, &file?).into() }
        }
    };
    Some(ProviderSettings {
        name: name?,
        kind,
        models,
        weight,
        enabled: enabled.unwrap_or(true),
        timeout: span(&format!("{path}.timeout"), timeout, 60, check),
        connect_timeout: span(&format!("{path}.connect_timeout"), connect_timeout, 5, check),
        price,
    })
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

fn base_url_of(path: &str, text: Option<String>, example: &str, check: &mut Check<'_>) -> Option<Uri> {
    let field = format!("{path}.base_url");
    let text = check.problems.required(&field, text, &format!("`base_url: {example}`"))?;
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
