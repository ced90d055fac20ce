//! What providers did, by OpenTelemetry's GenAI names. Labels are the operator's provider
//! names and fixed sets; nothing a caller sends becomes one.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tidegate_core::reply::Code;
use tidegate_core::sse::Usage;

use super::catalog::Catalog;
use super::operations::{Asked, Families, Operations};
use super::routing::Ticket;
use super::settings::ProviderSettings;
use super::upstream::Operation;
use crate::limits::Bill;
use crate::trace::Span;

/// Bucket bounds in seconds, as the GenAI conventions advise.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Bucket bounds in tokens, as the GenAI conventions advise.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// How a request to a provider ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// A complete answer.
    Ok,
    /// The provider answered 4xx other than 429.
    ClientError,
    /// The provider answered 429, or the local queue was full.
    RateLimited,
    /// The provider answered 5xx or something that is no answer, or sent an error in a stream.
    ServerError,
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// The connection broke before the answer's end.
    Interrupted,
    /// The caller went away first.
    Cancelled,
}

impl Outcome {
    /// All there are, each at its own index.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::ClientError,
        Self::RateLimited,
        Self::ServerError,
        Self::Timeout,
        Self::Unreachable,
        Self::Interrupted,
        Self::Cancelled,
    ];

    /// As a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }

    /// What a provider's status says about the request.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            429 => Self::RateLimited,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// What our own refusal says about the provider.
    #[must_use]
    pub const fn of_code(code: Code) -> Self {
        match code {
            Code::UpstreamTimeout => Self::Timeout,
            Code::UpstreamUnreachable => Self::Unreachable,
            Code::UpstreamReset | Code::UpstreamStreamInterrupted => Self::Interrupted,
            Code::LocalModelBusy => Self::RateLimited,
            code if code.status() < 500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProvider {
    provider: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    provider: Box<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTokenType {
    gen_ai_token_type: &'static str,
    provider: Box<str>,
}

/// Histograms by labels.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metric families; one set for all providers.
#[derive(Debug)]
pub struct LlmMetrics {
    tokens: Histograms<ByTokenType>,
    duration: Histograms<ByProvider>,
    first_token: Histograms<ByProvider>,
    requests: Family<ByOutcome, Counter>,
    operations: Families,
}

/// A histogram of seconds, from hundredths to a minute and a half.
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn tokens() -> Histogram {
    Histogram::new(TOKENS)
}

impl LlmMetrics {
    /// Makes the families known to `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            tokens: Family::new_with_constructor(tokens),
            duration: Family::new_with_constructor(seconds),
            first_token: Family::new_with_constructor(seconds),
            requests: Family::default(),
            operations: Families::register(registry),
        };
        registry.register("gen_ai_client_token_usage", "Tokens per request", metrics.tokens.clone());
        registry.register(
            "gen_ai_server_request_duration",
            "Seconds from the request to the end of its answer",
            metrics.duration.clone(),
        );
        registry.register(
            "gen_ai_server_time_to_first_token",
            "Seconds from a streaming request to its first event",
            metrics.first_token.clone(),
        );
        registry.register(
            "gateway_provider_requests",
            "Requests sent to a provider, by how they ended",
            metrics.requests.clone(),
        );
        metrics
    }

    /// One provider's own handles, so that no request looks a label set up.
    #[must_use]
    pub fn of_provider(&self, settings: &ProviderSettings, catalog: Arc<Catalog>) -> Arc<ProviderMetrics> {
        let provider: Box<str> = settings.name.as_str().into();
        let by_provider = ByProvider { provider: provider.clone() };
        let of_type = |gen_ai_token_type| {
            self.tokens.get_or_create_owned(&ByTokenType { gen_ai_token_type, provider: provider.clone() })
        };
        Arc::new(ProviderMetrics {
            input: of_type("input"),
            output: of_type("output"),
            duration: self.duration.get_or_create_owned(&by_provider),
            first_token: self.first_token.get_or_create_owned(&by_provider),
            outcomes: Outcome::ALL.map(|outcome| {
                let labels = ByOutcome { provider: provider.clone(), outcome: outcome.label() };
                self.requests.get_or_create_owned(&labels)
            }),
            operations: Operations::new(&self.operations, settings, catalog),
        })
    }
}

/// One provider's counters.
#[derive(Debug)]
pub struct ProviderMetrics {
    input: Histogram,
    output: Histogram,
    duration: Histogram,
    first_token: Histogram,
    outcomes: [Counter; Outcome::ALL.len()],
    operations: Operations,
}

impl ProviderMetrics {
    /// The conventions' name (`gen_ai.provider.name`) of the provider's type.
    #[must_use]
    pub const fn provider_name(&self) -> &'static str {
        self.operations.provider_name()
    }
}

/// One request in flight; counted when dropped, as cancelled unless somebody said otherwise.
#[derive(Debug)]
pub struct Observation {
    metrics: Arc<ProviderMetrics>,
    asked: Asked,
    ticket: Option<Ticket>,
    started: Instant,
    outcome: Outcome,
    of_model: bool,
    first_token: Option<Instant>,
    tokens: u64,
    bill: Option<Bill>,
    span: Option<Span>,
}

impl Observation {
    /// Starts the clock of an operation on a model; the ticket tells routing what comes of it.
    #[must_use]
    pub fn start(
        metrics: Arc<ProviderMetrics>,
        (operation, model): (Operation, &str),
        ticket: Option<Ticket>,
    ) -> Self {
        let asked = metrics.operations.asked(operation, model);
        let (started, outcome) = (Instant::now(), Outcome::Cancelled);
        let (of_model, first_token, tokens, bill) = (false, None, 0, None);
        Self { metrics, asked, ticket, started, outcome, of_model, first_token, tokens, bill, span: None }
    }

    /// What the request uses is written on this bill.
    #[must_use]
    pub fn billed(mut self, bill: Option<Bill>) -> Self {
        self.bill = bill;
        self
    }

    /// The same is told in this span, which ends with the request.
    #[must_use]
    pub fn traced(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// When the request started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The first token has come; later calls change nothing.
    pub fn first_token(&mut self) {
        if self.first_token.is_none() {
            let now = Instant::now();
            self.first_token = Some(now);
            self.metrics.first_token.observe((now - self.started).as_secs_f64());
            self.ticket.iter().for_each(Ticket::first_token);
            if let Some(span) = &mut self.span {
                span.set("gen_ai.response.time_to_first_chunk", (now - self.started).as_secs_f32());
            }
        }
    }

    /// What the answer used.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
    pub fn usage(&mut self, usage: Usage) {
        if let Some(bill) = &mut self.bill {
            bill.report(usage);
        }
        self.tokens = usage.completion_tokens;
        if let Some(span) = &mut self.span {
            span.set("gen_ai.usage.input_tokens", usage.prompt_tokens);
            span.set("gen_ai.usage.output_tokens", usage.completion_tokens);
        }
        self.metrics.input.observe(usage.prompt_tokens as f64);
        self.metrics.output.observe(usage.completion_tokens as f64);
    }

    /// There was an answer of so many events, which did not say what it used.
    pub const fn seen(&mut self, events: u64) {
        if let Some(bill) = &mut self.bill {
            bill.seen(events);
        }
    }

    /// How the request ended, if nothing worse follows.
    pub const fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The provider says that its failure is the model's alone.
    pub const fn blame_model(&mut self) {
        self.of_model = true;
    }

    /// How long each token of a whole stream took after the first, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
    fn token_seconds(&self, ended: Instant) -> Option<f64> {
        let further = self.tokens.checked_sub(1).filter(|tokens| *tokens > 0)?;
        let first = self.first_token.filter(|_| self.outcome == Outcome::Ok)?;
        Some((ended - first).as_secs_f64() / further as f64)
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.metrics.outcomes[self.outcome as usize].inc();
        let ended = Instant::now();
        let seconds = (ended - self.started).as_secs_f64();
        self.metrics.duration.observe(seconds);
        self.metrics.operations.ended(&self.asked, self.outcome, seconds, self.token_seconds(ended));
        self.ticket.iter().for_each(|ticket| ticket.ended(self.outcome, self.of_model));
        if let Some(span) = &mut self.span
            && self.outcome != Outcome::Ok
        {
            span.fail(self.outcome.label());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_under_its_provider() {
        let mut registry = Registry::default();
        let yaml = "providers: [{name: p, type: openai, api_key: k, models: [m]}]";
        let config = crate::config::parse(yaml, &crate::config::Env::new()).expect("valid");
        let provider = LlmMetrics::register(&mut registry)
            .of_provider(&config.providers[0], Arc::new(Catalog::new(&["m".to_owned()])));
        drop(Observation::start(provider.clone(), (Operation::Chat, "m"), None));
        let mut observation = Observation::start(provider, (Operation::Chat, "m"), None);
        observation.first_token();
        observation.first_token();
        observation.usage(Usage { prompt_tokens: 3, completion_tokens: 5, ..Usage::default() });
        observation.ended(Outcome::Ok);
        drop(observation);

        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("encodes");
        for line in [
            r#"gateway_provider_requests_total{provider="p",outcome="ok"} 1"#,
            r#"gateway_provider_requests_total{provider="p",outcome="cancelled"} 1"#,
            r#"gateway_provider_requests_total{provider="p",outcome="timeout"} 0"#,
            r#"gen_ai_client_token_usage_sum{gen_ai_token_type="output",provider="p"} 5.0"#,
            r#"gen_ai_server_time_to_first_token_count{provider="p"} 1"#,
            r#"gen_ai_server_request_duration_count{provider="p"} 2"#,
            r#"gen_ai_request_model="m",provider="p",error_type="cancelled"} "#,
            r#"gen_ai_server_time_per_output_token_count{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="m",provider="p"} 1"#,
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn outcomes_are_indexed_in_the_order_of_their_list() {
        assert!(Outcome::ALL.iter().enumerate().all(|(i, o)| *o as usize == i));
    }
}
