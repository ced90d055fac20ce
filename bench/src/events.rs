//! `--events`: how many errors a second one core of the sidecar takes, from the bytes of a filter's
//! report to clusters and counts, and what a thousand policies cost a request.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tidegate::bus::Envelope;
use tidegate::clusters::{Engine, Observation, Tally, now_ms};
use tidegate::config::Config;
use tidegate::embedding::{Embedder, Settings as EmbeddingSettings};
use tidegate::learn::Learner;
use tidegate::store::Store;
use tidegate_core::event::{ATTRIBUTES, Attribute, Attributes, Batch, EVENTS_MAX, ErrorEvent, TrafficRow};
use tidegate_core::incident::cluster::Partition;
use tidegate_core::incident::enforcement::{Measure, SlicePolicy};
use tidegate_core::incident::matcher::{Matcher, Values};
use tidegate_core::incident::{ErrorText, Signature, Source, StatusClass};

use crate::error::BenchError;
use crate::machine;
use crate::understanding::{default_config, embedder};

/// Errors of known templates that are sent.
const KNOWN: usize = 200_000;
/// Errors of new templates that are sent.
const NEW: usize = 2_000;
/// Texts of one meaning in the storm.
const STORM_TEXTS: usize = 2_000;
/// Errors of the storm: five seconds at 5,000 a second.
const STORM: usize = 25_000;
/// Policies that stand.
const POLICIES: usize = 1_000;
/// Requests that are matched against them.
const MATCHES: u32 = 200_000;
/// Words that new templates are made of.
const WORDS: [&str; 16] = [
    "request", "limit", "token", "model", "denied", "upstream", "parse", "schema", "region", "billing",
    "stream", "deadline", "socket", "image", "policy", "queue",
];

/// The whole report.
pub(crate) async fn run() -> Result<String, BenchError> {
    let config = default_config()?;
    let mut text =
        "\n### Events\n\n| errors | a second | embedded | memory after, MiB | clusters |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut registry = Registry::default();
    let none = EmbeddingSettings { enabled: false, ..config.embedding.clone() };
    let without = Arc::new(Embedder::start(none, &mut Registry::default()));
    let mut bed = Bed::new(&config, without, &registry).await?;
    bed.take(&batches(EVENTS_MAX, 1, |_| unheard_of(0))).await?;
    bed.line(&mut text, "of known templates", &batches(KNOWN, EVENTS_MAX, |at| unheard_of(at % EVENTS_MAX)))
        .await?;
    bed.line(
        &mut text,
        "all new, no embedding model",
        &batches(NEW, EVENTS_MAX, |at| unheard_of(1_000 + at)),
    )
    .await?;
    let embedder = embedder(&config, &mut registry).await;
    let with = if embedder.is_some() { "with the embedding model" } else { "the embedding model is missing" };
    if let Some(embedder) = embedder {
        let mut bed = Bed::new(&config, embedder.clone(), &registry).await?;
        bed.line(&mut text, "all new", &batches(NEW, EVENTS_MAX, unheard_of)).await?;
        let mut bed = Bed::new(&config, embedder, &registry).await?;
        let storm = batches(STORM, EVENTS_MAX, |at| storm(at % STORM_TEXTS));
        bed.line(&mut text, "a storm of 2,000 texts of one meaning", &storm).await?;
    }
    let _ = writeln!(
        text,
        "\nReports as JSON, one thread for the sidecar's own work; {with}.\n\nA request against {POLICIES} \
         policies: {:.2} us natively (in the filter's VM about twice that).",
        match_us()
    );
    Ok(text)
}

/// A sidecar's part that learns.
struct Bed<'r> {
    engine: Arc<Engine>,
    /// Where the embedding model counts.
    registry: &'r Registry,
    learner: Learner<Arc<Engine>>,
    _folder: tempfile::TempDir,
}

impl<'r> Bed<'r> {
    async fn new(
        config: &Config,
        embedder: Arc<Embedder>,
        registry: &'r Registry,
    ) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::doing("a folder for the store"))?;
        let store = Store::open(&folder.path().join("store.redb")).map_err(BenchError::doing("the store"))?;
        let engine =
            Engine::start(config.clustering.clone(), embedder, Arc::new(store), &mut Registry::default())
                .map_err(|error| BenchError::new(error.to_string()))?;
        engine.prepare().await;
        Ok(Self { learner: Learner::new(engine.clone()), engine, registry, _folder: folder })
    }

    /// What the learning loop does with each batch.
    async fn take(&mut self, batches: &[Vec<u8>]) -> Result<usize, BenchError> {
        let mut errors = 0;
        for bytes in batches {
            let envelope: Envelope = serde_json::from_slice(bytes).map_err(BenchError::doing("a batch"))?;
            errors += envelope.batch.events.len();
            let observations: Vec<Observation> = envelope.batch.events.iter().map(observation).collect();
            self.engine.learn(&observations, now_ms()).await;
            let rows = envelope.batch.traffic.iter();
            let tallies: Vec<Tally<'_>> = rows.map(tally).collect();
            self.engine.tally(&tallies, None, now_ms());
            black_box(self.learner.take(envelope, now_ms()));
        }
        Ok(errors)
    }

    async fn line(&mut self, text: &mut String, what: &str, batches: &[Vec<u8>]) -> Result<(), BenchError> {
        let (started, before) = (Instant::now(), embedded(self.registry));
        let errors = self.take(batches).await?;
        let rate = errors as f64 / started.elapsed().as_secs_f64();
        let computed = embedded(self.registry) - before;
        let (memory, clusters) = (machine::rss_mib(std::process::id())?, self.engine.list(now_ms()).len());
        let _ = writeln!(text, "| {what} | {rate:.0} | {computed} | {memory:.0} | {clusters} |");
        Ok(())
    }
}

/// Texts of which the embedding was computed so far.
fn embedded(registry: &Registry) -> u64 {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut page, registry);
    let line =
        page.lines().find(|line| line.starts_with("gateway_embedding_texts_total{result=\"computed\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn tally(row: &TrafficRow) -> Tally<'_> {
    let TrafficRow { requests, failures, .. } = row;
    Tally { tenant: Some("acme"), provider: Some("openai"), requests: *requests, failures }
}

fn observation(event: &ErrorEvent) -> Observation {
    Observation {
        partition: Partition { class: event.class(), source: event.source },
        status: Some(event.status),
        codes: event.codes.clone(),
        template: event.template.clone(),
        signature: event.signature,
    }
}

/// Batches of `size` errors as filters send them, `total` errors in all.
fn batches(total: usize, size: usize, text: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    let batch = |first: usize| {
        let events: Vec<ErrorEvent> =
            (first..(first + size).min(total)).map(|at| event(at, &text(at))).collect();
        let failures = events.iter().map(|event| (event.signature, 1)).collect();
        let traffic =
            vec![TrafficRow { attributes: attributes(0), requests: size as u64, failures, hidden: false }];
        let batch = Batch { number: first as u64 + 1, events, traffic, policies: Vec::new() };
        serde_json::to_vec(&Envelope { vm: "bench".to_owned(), batch }).unwrap_or_default()
    };
    (0..total).step_by(size).map(batch).collect()
}

fn event(at: usize, message: &str) -> ErrorEvent {
    let template = ErrorText::read(message).template();
    let (class, source, codes) = (StatusClass::Server, Source::Provider, vec!["server_error".to_owned()]);
    ErrorEvent {
        number: at as u64,
        at_ms: 1,
        status: 500,
        source,
        signature: Signature::of(class, source, &codes, &template),
        codes,
        template,
        attributes: attributes(at),
    }
}

fn attributes(at: usize) -> Attributes {
    Attributes::from([
        (Attribute::Tenant, format!("tenant{}", at % 20)),
        (Attribute::Model, "gpt-4o".to_owned()),
        (Attribute::Path, "/v1/chat/completions".to_owned()),
        (Attribute::Provider, "openai".to_owned()),
    ])
}

/// A number written in words: all templates are different.
fn words(number: usize) -> String {
    let word = |place: u32| WORDS[number / WORDS.len().pow(place) % WORDS.len()];
    (0..8).map(word).collect::<Vec<_>>().join(" ")
}

fn unheard_of(at: usize) -> String {
    format!("error while {}", words(at.wrapping_mul(2_654_435_761)))
}

/// One of [`STORM_TEXTS`] ways of saying that there is too much to do.
fn storm(at: usize) -> String {
    let pick =
        |words: &[&'static str], place: usize| words.get(at / place % words.len()).copied().unwrap_or("");
    let who = pick(
        &[
            "engine",
            "model",
            "server",
            "service",
            "backend",
            "cluster",
            "node",
            "deployment",
            "endpoint",
            "pool",
        ],
        1,
    );
    let what = pick(
        &[
            "is overloaded",
            "is over capacity",
            "is at capacity",
            "is too busy",
            "has too much traffic",
            "is under heavy load",
            "is experiencing high demand",
            "has no capacity left",
        ],
        10,
    );
    let when = pick(&["right now", "at the moment", "currently", "for the time being", "at present"], 80);
    let then = pick(
        &[
            "Please try again later.",
            "Retry shortly.",
            "Back off and retry.",
            "Come back soon.",
            "Try later.",
        ],
        400,
    );
    format!("The {who} {what} {when}. {then}")
}

/// Microseconds that matching takes with [`POLICIES`] of three shapes.
fn match_us() -> f64 {
    let scope = |at: usize| {
        let mut scope = Attributes::from([(Attribute::Tenant, format!("tenant{at}"))]);
        if !at.is_multiple_of(3) {
            scope.insert(Attribute::Model, "gpt-4o".to_owned());
        }
        if at % 3 > 1 {
            scope.insert(Attribute::Path, "/v1/chat/completions".to_owned());
        }
        scope
    };
    let policy = |at: usize| SlicePolicy {
        id: format!("p{at}"),
        cluster: "c".to_owned(),
        scopes: vec![scope(at)],
        measure: Measure::Advise,
        enforce: true,
        statuses: Vec::new(),
        sentence: String::new(),
        retry: true,
        ttl_ms: 1,
        renewal: 0,
    };
    let policies: Vec<SlicePolicy> = (0..POLICIES).map(policy).collect();
    let matcher = Matcher::new(&policies);
    let mut values: Values<'_> = [&[]; ATTRIBUTES];
    values[Attribute::Model as usize] = b"gpt-4o";
    values[Attribute::Path as usize] = b"/v1/chat/completions";
    let tenants: Vec<String> = (0..POLICIES).map(|at| format!("tenant{at}")).collect();
    let started = Instant::now();
    for tenant in tenants.iter().cycle().take(MATCHES as usize) {
        values[Attribute::Tenant as usize] = tenant.as_bytes();
        matcher.each_match(&policies, black_box(&values), |index| {
            black_box(index);
        });
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(MATCHES)
}
