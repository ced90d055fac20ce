//! The threads that compute embeddings. It is pure computation, milliseconds of it, so it must
//! not run where requests are served.

use std::sync::{Arc, OnceLock};

use super::error::EmbedError;
use super::model::{Files, Model};
use super::queue::{Job, Outcome, Queue};
use super::settings::Settings;
use super::{ModelInfo, runtime};

/// What became of loading the model.
pub type Loaded = OnceLock<Result<ModelInfo, String>>;

/// Loads the model on a thread of its own, which then computes, and starts the other threads.
///
/// # Errors
/// The system gives no thread.
pub fn start(settings: Settings, queue: Arc<Queue>, loaded: Arc<Loaded>) -> std::io::Result<()> {
    spawn(move || match load(&settings) {
        Ok((files, model)) => {
            let info = ModelInfo {
                name: settings.model.clone(),
                dimension: settings.dimension,
                tokens_max: settings.tokens_max,
                digest: files.digest,
            };
            tracing::info!(model = info.name, dimension = info.dimension, "embedding model loaded");
            // Only this thread sets it, and only once.
            let _ = loaded.set(Ok(info));
            help(&settings, files, &queue);
            serve(model, &queue);
        }
        Err(cause) => {
            tracing::warn!(cause, "no embedding model; semantic cache and local embeddings are off");
            let _ = loaded.set(Err(cause));
        }
    })
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("embedding".to_owned()).spawn(work).map(drop)
}

fn load(settings: &Settings) -> Result<(Files, Model), String> {
    let environment = runtime::environment(&settings.library_path)?;
    let files = Files::read(settings)?;
    let model = Model::new(environment, &files, settings)?;
    Ok((files, model))
}

/// Starts the second thread and those after it; one that does not start is only missed.
fn help(settings: &Settings, files: Files, queue: &Arc<Queue>) {
    let files = Arc::new(files);
    for _ in 1..settings.threads {
        let (settings, files, queue) = (settings.clone(), Arc::clone(&files), Arc::clone(queue));
        let started = spawn(move || {
            let made = runtime::environment(&settings.library_path)
                .and_then(|environment| Model::new(environment, &files, &settings));
            match made {
                Ok(model) => serve(model, &queue),
                Err(cause) => tracing::warn!(cause, "an embedding thread did not start"),
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "an embedding thread did not start");
        }
    }
}

fn serve(mut model: Model, queue: &Queue) {
    while let Some(jobs) = queue.take() {
        let texts: Vec<&str> = jobs.iter().flat_map(|job| job.texts.iter().map(|text| &**text)).collect();
        let mut found = model.embed(&texts).into_iter();
        for Job { texts, done, deadline: _ } in jobs {
            let outcome: Outcome = found
                .by_ref()
                .take(texts.len())
                .enumerate()
                .map(|(i, result)| result.map_err(|e| at(e, i)))
                .collect();
            // Whoever asked may be gone.
            let _ = done.send(outcome);
        }
    }
}

/// The error of a job's text, by its place in the job.
fn at(error: EmbedError, index: usize) -> EmbedError {
    match error {
        EmbedError::TooLong { tokens_max, index: _ } => EmbedError::TooLong { index, tokens_max },
        other => other,
    }
}
