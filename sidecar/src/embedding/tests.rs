//! The real model. It is part of what a fresh clone sets up, so its absence is a failure and not
//! a reason to skip.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::config::{self, Env};

const DEADLINE: Duration = Duration::from_secs(60);

fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools")
}

/// The default settings, with the files of this checkout.
fn settings(yaml: &str) -> Settings {
    let mut env: Env = ["TIDEGATE_MODELS", "ORT_DYLIB_PATH"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    let mut default = |name: &str, path: PathBuf| {
        env.entry(name.to_owned()).or_insert_with(|| path.display().to_string());
    };
    default("TIDEGATE_MODELS", tools().join("models"));
    default("ORT_DYLIB_PATH", tools().join("onnxruntime/libonnxruntime.so"));
    config::parse(yaml, &env).expect("valid").embedding
}

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

/// Waits until loading has ended, well or not.
async fn loaded(settings: Settings) -> Embedder {
    let embedder = Embedder::start(settings, &mut Registry::default());
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let ended = async {
        while embedder.model() == Err(EmbedError::Loading) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("loads in time");
    embedder
}

async fn ready() -> Embedder {
    let embedder = loaded(settings("")).await;
    embedder.model().expect("run scripts/setup");
    embedder
}

fn cosine(a: &Embedding, b: &Embedding) -> f32 {
    a.vector.iter().zip(b.vector.iter()).map(|(x, y)| x * y).sum()
}

#[tokio::test]
async fn texts_of_one_meaning_lie_close_together() {
    let embedder = ready().await;
    let texts = [
        "How do I reset my password?",
        "I forgot my password, how can I change it?",
        "What is the boiling point of water at sea level?",
    ];
    let found = embedder.embed(&texts, soon()).await.expect("embedded");
    let [a, b, c] = &found[..] else { panic!("three") };
    assert_eq!(a.vector.len(), embedder.model().expect("loaded").dimension);
    for e in [a, b, c] {
        assert!((cosine(e, e) - 1.0).abs() < 1e-4, "of length one");
    }
    assert!(cosine(a, b) > 0.7, "{}", cosine(a, b));
    assert!(cosine(a, c) < 0.2, "{}", cosine(a, c));
}

#[tokio::test]
async fn a_text_has_nearly_the_same_vector_in_every_company() {
    let embedder = loaded(Settings { memo: 0, ..settings("") }).await;
    let alone = embedder.embed(&["short one"], soon()).await.expect("embedded");
    let long = "a much longer neighbour that makes the batch wider ".repeat(4);
    let company = embedder.embed(&["short one", "other", &long], soon()).await.expect("embedded");
    let cosine = cosine(&alone[0], &company[0]);
    assert!(cosine > 0.97, "{cosine}");
    assert_eq!(alone[0].tokens, company[0].tokens);
}

#[tokio::test]
async fn odd_texts_are_texts() {
    let embedder = ready().await;
    let lots = "\u{1F600}".repeat(40);
    for text in ["", " ", "a", "你好", &lots, "mixed 你好 привет \u{0}\u{FFFD}", "\u{202E}x\u{200B}"]
    {
        let found = embedder.embed(&[text], soon()).await.expect(text);
        assert!(found[0].vector.iter().all(|x| x.is_finite()), "{text:?}");
    }
}

#[tokio::test]
async fn texts_that_are_too_long_are_named_and_not_cut() {
    let embedder = ready().await;
    let long = "word ".repeat(600);
    let huge = "x".repeat(TEXT_BYTES_MAX + 1);
    for text in [&long, &huge] {
        let error = embedder.embed(&["short", text], soon()).await.expect_err("too long");
        assert_eq!(error, EmbedError::TooLong { index: 1, tokens_max: 512 });
    }
    // The short one is remembered now, the place of the long one is still told right.
    embedder.embed(&["short"], soon()).await.expect("short");
    let error = embedder.embed(&["short", &long], soon()).await.expect_err("too long");
    assert_eq!(error, EmbedError::TooLong { index: 1, tokens_max: 512 });
}

#[tokio::test]
async fn nobody_waits_beyond_a_deadline_or_in_a_full_queue() {
    let embedder = loaded(Settings { queue: 1, ..settings("") }).await;
    let late = embedder.embed(&["late"], Instant::now()).await;
    assert_eq!(late, Err(EmbedError::Late));
    let many: Vec<String> = (0..=BATCH_TEXTS_MAX).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(embedder.embed(&many, soon()).await, Err(EmbedError::Busy));
    embedder.embed(&["in time"], soon()).await.expect("goes on");
}

#[tokio::test]
async fn many_at_once_each_get_their_own() {
    let embedder = Arc::new(loaded(settings("embedding: {threads: 2}")).await);
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let embedder = embedder.clone();
            tokio::spawn(async move {
                let text = format!("question number {} about {}", i, ["cats", "tax", "war", "tea"][i % 4]);
                let first = embedder.embed(&[&text], soon()).await.expect("embedded");
                let again = embedder.embed(&[&text], soon()).await.expect("remembered");
                assert_eq!(first, again, "a memo gives the very same");
                first.into_iter().next().expect("one")
            })
        })
        .collect();
    let mut found = Vec::new();
    for task in tasks {
        found.push(task.await.expect("ends"));
    }
    assert!(cosine(&found[0], &found[1]) < cosine(&found[0], &found[4]), "cats are closer to cats");
}

#[tokio::test]
async fn a_model_that_cannot_be_used_says_why_and_nothing_falls() {
    let dir = tempfile::tempdir().expect("a directory");
    let corrupt = dir.path().join("model.onnx");
    std::fs::write(&corrupt, b"this is no model").expect("written");
    let good = settings("");
    let wrong = |change: &dyn Fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        settings
    };
    for (settings, words) in [
        (wrong(&|s| s.enabled = false), "embedding.enabled"),
        (wrong(&|s| s.model_path = "/nowhere/model.onnx".into()), "/nowhere/model.onnx"),
        (wrong(&|s| s.model_path.clone_from(&corrupt)), "cannot be loaded"),
        (wrong(&|s| s.tokenizer_path.clone_from(&corrupt)), "no tokenizer"),
        (wrong(&|s| s.dimension = 512), "embedding.dimension is 512"),
    ] {
        let embedder = loaded(settings).await;
        let Err(EmbedError::Unavailable(why)) = embedder.model() else { panic!("{words}: usable") };
        assert!(why.contains(words), "{why}");
        let error = embedder.embed(&["x"], soon()).await.expect_err("no model");
        assert_eq!(error.label(), "unavailable");
    }
}

#[test]
fn a_library_that_is_missing_or_no_library_is_an_error_in_words() {
    // Asked for past the process's one environment, which other tests have made.
    let dir = tempfile::tempdir().expect("a directory");
    let no_library = dir.path().join("libonnxruntime.so");
    std::fs::write(&no_library, b"no library").expect("written");
    for path in [Path::new("/nowhere/libonnxruntime.so"), &no_library] {
        let why = runtime::load(path).expect_err("no library");
        assert!(why.contains("ORT_DYLIB_PATH") && why.contains(&path.display().to_string()), "{why}");
    }
}

#[tokio::test]
async fn what_shapes_the_vectors_changes_the_digest() {
    let digest = |settings: &Settings| model::Files::read(settings).expect("files").digest;
    let plain = settings("");
    let prefixed = settings("embedding: {prefix: 'query: '}");
    assert_eq!(digest(&plain), digest(&plain));
    assert_ne!(digest(&plain), digest(&prefixed));
}
