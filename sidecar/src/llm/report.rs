//! Providers and routing as operators see them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidegate_core::breaker::Phase;
use tidegate_core::hash::hash;
use tidegate_core::reply::Reply;
use tidegate_core::route::Endpoint;
use tidegate_core::routing::{Allowance, FaultKind};

use super::front::{ANSWER_TOKENS, LlmRequest};
use super::providers::{Engine, Provider, Table};
use super::routing::{Checked, RoutingSettings, Target, check};
use super::settings::{ProviderKind, ProviderSettings};
use super::upstream::Upstream;

/// Nanodollars of a dollar.
const NANO: f64 = 1e9;

/// How a provider does: `healthy`, `recovering`, `unhealthy`, `disabled`, or `unknown` before
/// anything was asked of it.
fn status(provider: &Provider) -> &'static str {
    let view = provider.state.view(false);
    let checked = provider.state.last_check();
    match &*provider.engine {
        Engine::Disabled => "disabled",
        Engine::Local(model) if model.not_ready().is_some() => "unhealthy",
        Engine::Local(_) => "healthy",
        Engine::Remote(_) if checked.as_ref().is_some_and(Checked::is_down) => "unhealthy",
        Engine::Remote(_) if phase(provider) == Phase::Open => "unhealthy",
        Engine::Remote(_) if phase(provider) == Phase::HalfOpen => "recovering",
        Engine::Remote(_) if view.counts.requests == 0 && checked.is_none() => "unknown",
        Engine::Remote(_) => "healthy",
    }
}

/// What is believed of a provider: without any of its models it is no better than the best of them.
fn phase(provider: &Provider) -> Phase {
    let models = provider.catalog.list();
    let of_models = models.iter().map(|model| provider.state.phase_of(hash(&[model.as_bytes()])));
    let best = of_models.min_by_key(|phase| phase.gauge()).unwrap_or(Phase::Closed);
    std::cmp::max_by_key(provider.state.view(false).phase, best, |phase| phase.gauge())
}

/// How each provider does, by name.
#[must_use]
pub fn statuses(table: &Table) -> BTreeMap<String, &'static str> {
    table.list.iter().map(|provider| (provider.name.to_string(), status(provider))).collect()
}

/// Its health as it is known.
#[must_use]
pub fn health(provider: &Provider) -> Value {
    json!({
        "status": status(provider),
        "unhealthy_models": unhealthy_models(provider),
        "last_check": provider.state.last_check(),
    })
}

/// Its models that are passed by although the provider is well.
fn unhealthy_models(provider: &Provider) -> Vec<Box<str>> {
    let mut models = provider.catalog.list();
    models.retain(|model| provider.state.phase_of(hash(&[model.as_bytes()])) != Phase::Closed);
    models
}

/// Its health, after a look at it now.
pub async fn look(provider: &Provider, timeout: Duration) -> Value {
    let checked = check(provider, timeout).await;
    let status = if checked.ok { status(provider) } else { status_of_failed(provider) };
    json!({
        "name": provider.name,
        "status": status,
        "unhealthy_models": unhealthy_models(provider),
        "healthy": checked.ok,
        "latency_ms": checked.latency_ms,
        "last_check": checked,
    })
}

fn status_of_failed(provider: &Provider) -> &'static str {
    if provider.is_disabled() { "disabled" } else { "unhealthy" }
}

/// Whether a provider with these settings would answer.
///
/// # Errors
/// What is wrong, without addresses.
pub async fn test_call(settings: &ProviderSettings, timeout: Duration) -> Result<(), String> {
    let ProviderKind::Remote(remote) = &settings.kind else { return Ok(()) };
    let upstream = Upstream::new(&settings.name, remote, settings.timeout, settings.connect_timeout);
    upstream.map_err(|error| format!("{}: {}", error.field, error.problem))?.ping(timeout).await
}

/// What it last said about its limits, and how many of its keys rest.
#[must_use]
pub fn rate_limit(provider: &Provider) -> Value {
    let view = provider.state.view(false);
    let shown = |allowance: &Allowance| json!({"limit": allowance.limit, "remaining": allowance.remaining, "reset_ms": allowance.reset_ms});
    let (keys, resting) = view.keys;
    json!({
        "requests": shown(&view.signals.requests),
        "tokens": shown(&view.signals.tokens),
        "keys": keys,
        "keys_resting": resting,
    })
}

/// Its models, configured or last listed.
#[must_use]
pub fn models(provider: &Provider) -> Value {
    let model = |id| json!({"id": id, "object": "model", "owned_by": provider.name});
    let data: Vec<Value> = provider.catalog.list().into_iter().map(model).collect();
    json!({"object": "list", "data": data})
}

/// What a chat request would cost there, by its estimated tokens.
///
/// # Errors
/// It is not a chat request.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub fn estimate(provider: &Provider, body: &Bytes) -> Result<Value, Reply> {
    let request = LlmRequest::read(Endpoint::ChatCompletions, body.clone())?;
    let (prompt, answer) = (request.prompt_tokens(), request.answer_tokens.unwrap_or(ANSWER_TOKENS));
    let cost = provider.price().map(|price| price.cost_nano_usd(prompt, 0, answer) as f64 / NANO);
    Ok(json!({
        "provider": provider.name,
        "model": request.model,
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "cost": cost,
        "currency": "USD",
    }))
}

/// Requests, latencies and health of all providers.
#[must_use]
pub fn stats(table: &Table) -> Value {
    let of = |provider: &Provider| {
        let (whole, stream) = (provider.state.view(false), provider.state.view(true));
        let counts = whole.counts;
        json!({
            "status": status(provider),
            "unhealthy_models": unhealthy_models(provider),
            "requests": counts.requests,
            "successes": counts.ok,
            "failures": counts.failed,
            "rate_limited": counts.rate_limited,
            "cancelled": counts.cancelled,
            "in_flight": whole.in_flight,
            "concurrency_limit": whole.limit,
            "latency_ms": whole.latency_ms,
            "time_to_first_token_ms": stream.latency_ms,
            "p95_ms": whole.p95_ms,
            "keys_resting": whole.keys.1,
        })
    };
    let providers: Map<String, Value> = table.list.iter().map(|p| (p.name.to_string(), of(p))).collect();
    let total: u64 = table.list.iter().map(|p| p.state.view(false).counts.requests).sum();
    json!({
        "strategy": table.settings.strategy.as_str(),
        "enabled": table.settings.enabled,
        "total_requests": total,
        "providers": providers,
    })
}

/// The routing in force, as it would be written.
#[must_use]
pub fn routing(settings: &RoutingSettings) -> Value {
    let ms = |ms: u64| format!("{ms}ms");
    let span = |span: Duration| format!("{}ms", span.as_millis());
    let targets = |list: &[Target]| list.iter().map(|target| target.0.clone()).collect::<Vec<_>>();
    let kinds = |kinds: &[FaultKind]| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>();
    let aliases: Map<String, Value> =
        settings.models.iter().map(|(model, list)| (model.clone(), json!(targets(list)))).collect();
    let fallbacks: Vec<Value> = settings
        .fallbacks
        .iter()
        .map(|rule| {
            let model = rule.model.as_deref().unwrap_or("*");
            json!({"model": model, "to": targets(&rule.to), "on": kinds(&rule.on)})
        })
        .collect();
    let (retries, outlier) = (&settings.retries, &settings.outlier);
    let health_check = settings.health_check.map_or_else(
        || json!({"enabled": false}),
        |check| json!({"enabled": true, "interval": span(check.interval), "timeout": span(check.timeout)}),
    );
    json!({
        "strategy": settings.strategy.as_str(),
        "enabled": settings.enabled,
        "aliases": aliases,
        "fallbacks": fallbacks,
        "quality": settings.quality,
        "quality_floor": settings.quality_floor,
        "retries": {
            "attempts": retries.attempts,
            "base": ms(retries.backoff.base_ms),
            "max": ms(retries.backoff.max_ms),
            "budget": retries.budget,
        },
        "hedging": {"enabled": settings.hedging.enabled, "budget": settings.hedging.budget},
        "health_check": health_check,
        "outlier": {
            "failures": outlier.failure_threshold,
            "window": ms(outlier.window_ms),
            "ejection": ms(outlier.recovery_timeout_ms),
        },
        "slow_start": span(settings.slow_start),
        "concurrency_max": settings.concurrency_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, routing as document};

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let mut settings = RoutingSettings::default();
        settings.models.insert("fast".to_owned(), vec![Target("a/b".to_owned())]);
        settings.health_check = None;
        let shown = routing(&settings);
        let read = serde_json::from_value::<document::Document>(shown).expect("a document");
        let mut problems = Problems::default();
        assert_eq!(document::validate("", read, &mut problems), settings, "{problems}");
    }
}
