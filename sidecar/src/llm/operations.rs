//! Requests by operation and model, with the names and attributes of OpenTelemetry's semantic conventions for
//! generative AI (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics). A model is named if the operator or the
//! provider lists it; all others are one. What callers send becomes no label.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::catalog::Catalog;
use super::metrics::{Histograms, Outcome, seconds};
use super::settings::ProviderSettings;
use super::upstream::Operation;

/// Most models of one provider with series of their own.
const MODELS_MAX: usize = 256;
/// What stands for models without.
const OTHERS: &str = "others";
/// Bucket bounds of the time between two tokens, in seconds, as the conventions advise.
const TOKEN_SECONDS: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const OPERATIONS: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnd {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: Box<str>,
    provider: Box<str>,
    /// Empty, which is absent to Prometheus, when there was an answer.
    error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModel {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: Box<str>,
    provider: Box<str>,
}

/// The families of all providers.
#[derive(Debug, Clone)]
pub struct Families {
    duration: Histograms<ByEnd>,
    token_time: Histograms<ByModel>,
}

fn token_seconds() -> Histogram {
    Histogram::new(TOKEN_SECONDS)
}

impl Families {
    /// Makes the families known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let families = Self {
            duration: Family::new_with_constructor(seconds),
            token_time: Family::new_with_constructor(token_seconds),
        };
        registry.register(
            "gen_ai_client_operation_duration",
            "Seconds from the request to the end of its answer, by operation and model",
            families.duration.clone(),
        );
        registry.register(
            "gen_ai_server_time_per_output_token",
            "Seconds per token of a streamed answer after its first",
            families.token_time.clone(),
        );
        families
    }
}

/// One model's own handles, each looked up when it is first needed, so that the page has no empty series.
#[derive(Debug)]
struct Model {
    name: Box<str>,
    duration: [[OnceLock<Histogram>; Outcome::ALL.len()]; OPERATIONS],
    token_time: [OnceLock<Histogram>; OPERATIONS],
}

impl Model {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), duration: Default::default(), token_time: Default::default() })
    }
}

/// What one provider's requests are counted with.
#[derive(Debug)]
pub struct Operations {
    families: Families,
    provider: Box<str>,
    provider_name: &'static str,
    catalog: Arc<Catalog>,
    /// Those of the catalog that were asked for.
    models: RwLock<HashMap<Box<str>, Arc<Model>>>,
    others: Arc<Model>,
}

/// An operation on a model of a provider.
#[derive(Debug)]
pub struct Asked {
    operation: Operation,
    model: Arc<Model>,
}

impl Operations {
    /// The handles of a provider with these settings and models.
    #[must_use]
    pub fn new(families: &Families, settings: &ProviderSettings, catalog: Arc<Catalog>) -> Self {
        Self {
            families: families.clone(),
            provider: settings.name.as_str().into(),
            provider_name: well_known(settings.kind.label()),
            catalog,
            models: RwLock::default(),
            others: Model::new(OTHERS),
        }
    }

    /// The conventions' name (`gen_ai.provider.name`) of the provider's type.
    #[must_use]
    pub const fn provider_name(&self) -> &'static str {
        self.provider_name
    }

    /// What is asked of `model`.
    #[must_use]
    pub fn asked(&self, operation: Operation, model: &str) -> Asked {
        Asked { operation, model: self.model(model) }
    }

    fn model(&self, name: &str) -> Arc<Model> {
        if let Some(model) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return model.clone();
        }
        if !self.catalog.lists(name) {
            return self.others.clone();
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        match models.get(name) {
            Some(model) => model.clone(),
            None if models.len() >= MODELS_MAX => self.others.clone(),
            None => models.entry(name.into()).or_insert_with(|| Model::new(name)).clone(),
        }
    }

    /// It ended after `seconds`; a stream's further tokens came every `token_seconds`.
    pub fn ended(&self, asked: &Asked, outcome: Outcome, seconds: f64, token_seconds: Option<f64>) {
        let model = &asked.model;
        let (gen_ai_provider_name, provider) = (self.provider_name, &self.provider);
        let (place, gen_ai_operation_name) = operation(asked.operation);
        let error_type = if outcome == Outcome::Ok { "" } else { outcome.label() };
        let duration = model.duration[place][outcome as usize].get_or_init(|| {
            self.families.duration.get_or_create_owned(&ByEnd {
                gen_ai_operation_name,
                gen_ai_provider_name,
                gen_ai_request_model: model.name.clone(),
                provider: provider.clone(),
                error_type,
            })
        });
        duration.observe(seconds);
        let Some(token_seconds) = token_seconds else { return };
        let token_time = model.token_time[place].get_or_init(|| {
            self.families.token_time.get_or_create_owned(&ByModel {
                gen_ai_operation_name,
                gen_ai_provider_name,
                gen_ai_request_model: model.name.clone(),
                provider: provider.clone(),
            })
        });
        token_time.observe(token_seconds);
    }
}

/// The conventions' name (`gen_ai.operation.name`) of an operation.
#[must_use]
pub const fn conventional_name(asked: Operation) -> &'static str {
    operation(asked).1
}

/// Place and conventional name of an operation.
const fn operation(operation: Operation) -> (usize, &'static str) {
    match operation {
        Operation::Chat => (0, "chat"),
        Operation::Completions => (1, "text_completion"),
        Operation::Embeddings => (2, "embeddings"),
        Operation::Responses => (3, "chat"),
        Operation::CountTokens => (4, "count_tokens"),
    }
}

/// The conventions' name (`gen_ai.provider.name`) of a type of provider, or the type's own.
fn well_known(kind: &'static str) -> &'static str {
    match kind {
        "azure" => "azure.ai.openai",
        "bedrock" => "aws.bedrock",
        "gemini" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    #[test]
    fn what_nobody_lists_is_one_model_however_many_are_asked_for() {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        let yaml = "providers: [{name: east, type: azure, base_url: 'http://x', api_key: k}]";
        let config = parse(yaml, &Env::new()).expect("valid");
        let catalog = Arc::new(Catalog::new(&[]));
        let operations = Operations::new(&families, &config.providers[0], catalog.clone());
        let ask = |model: &str| operations.asked(Operation::Chat, model);
        operations.ended(&ask("before the list was read"), Outcome::Ok, 1.0, None);
        catalog.learn(vec!["gpt-4o".to_owned()]);
        operations.ended(&ask("gpt-4o"), Outcome::Ok, 2.0, Some(0.02));
        operations.ended(&ask("gpt-4o"), Outcome::Timeout, 60.0, None);
        for invented in 0..99 {
            operations.ended(&ask(&format!("secret {invented}")), Outcome::Ok, 1.0, None);
        }
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("encodes");
        let labels = |model: &str| {
            format!(
                r#"gen_ai_operation_name="chat",gen_ai_provider_name="azure.ai.openai",gen_ai_request_model="{model}",provider="east""#
            )
        };
        for line in [
            format!("gen_ai_client_operation_duration_sum{{{},error_type=\"\"}} 2.0", labels("gpt-4o")),
            format!(
                "gen_ai_client_operation_duration_count{{{},error_type=\"timeout\"}} 1",
                labels("gpt-4o")
            ),
            format!("gen_ai_client_operation_duration_count{{{},error_type=\"\"}} 100", labels("others")),
            format!("gen_ai_server_time_per_output_token_count{{{}}} 1", labels("gpt-4o")),
        ] {
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("secret"));
    }

    #[test]
    fn every_operation_has_a_place() {
        let all = [
            Operation::Chat,
            Operation::Completions,
            Operation::Embeddings,
            Operation::Responses,
            Operation::CountTokens,
        ];
        let places = all.map(|asked| operation(asked).0);
        assert_eq!(places, [0, 1, 2, 3, 4]);
        assert_eq!(places.len(), OPERATIONS);
    }
}
