//! The thread a model lives on. Generation is pure computation, seconds of it, so it must not
//! run where requests are served.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use tidegate_core::reply::{Code, Reply};
use tokio::sync::mpsc;

use super::model::{Failure, Model, ModelFile, Piece};
use super::task::Task;

/// Requests that may wait for the model; the next one is told to come back.
pub const QUEUE_MAX: usize = 8;
/// What a full queue asks a caller to wait, in milliseconds: a short answer's time.
const BUSY_RETRY_MS: u64 = 2000;
/// What a model that could not be loaded asks a caller to wait, in milliseconds.
const BROKEN_RETRY_MS: u64 = 30_000;
/// Most pieces of one answer on their way to its caller. The channel is as long as the longest
/// answer, so that a caller who reads slowly never holds the model up.
const PIECES_MAX: usize = candle_transformers::models::quantized_llama::MAX_SEQ_LEN + 4;

/// What comes back for a task.
pub type Answer = mpsc::Receiver<Result<Piece, Reply>>;

struct Job {
    task: Task,
    pieces: mpsc::Sender<Result<Piece, Reply>>,
}

/// The way to a model's thread; the thread ends when this is dropped and its queue is empty.
#[derive(Debug)]
pub struct Worker {
    queue: SyncSender<Job>,
    loaded: Arc<OnceLock<bool>>,
}

impl Worker {
    /// Checks the file and begins to load it on a thread of its own.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn start(provider: &str, path: &Path) -> Result<Self, String> {
        let file = ModelFile::open(path)?;
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let loaded = Arc::new(OnceLock::new());
        let (name, told) = (provider.to_owned(), Arc::clone(&loaded));
        std::thread::Builder::new()
            .name("local-model".to_owned())
            .spawn(move || serve(&name, file, &told, &jobs))
            .map_err(|e| format!("cannot be loaded, because no thread could be started: {e}"))?;
        Ok(Self { queue, loaded })
    }

    /// Why the model cannot answer yet; `None` when it can.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        match self.loaded.get() {
            Some(true) => None,
            Some(false) => Some("the model could not be loaded; see the log"),
            None => Some("the model is loading"),
        }
    }

    /// Queues a task. Dropping the answer cancels it, between two tokens if it is running.
    ///
    /// # Errors
    /// `local_model_busy` when the queue is full, `no_provider_available` when the model could
    /// not be loaded.
    pub fn submit(&self, task: Task) -> Result<Answer, Reply> {
        let (pieces, answer) = mpsc::channel(PIECES_MAX);
        self.queue.try_send(Job { task, pieces }).map(|()| answer).map_err(|error| match error {
            TrySendError::Full(_) => {
                let message =
                    format!("The local model has {QUEUE_MAX} requests waiting already; try again soon.");
                Reply::new(Code::LocalModelBusy, message).retry_after_ms(BUSY_RETRY_MS)
            }
            TrySendError::Disconnected(_) => {
                Reply::new(Code::NoProviderAvailable, "The local model could not be loaded.")
                    .retry_after_ms(BROKEN_RETRY_MS)
            }
        })
    }
}

fn serve(provider: &str, file: ModelFile, loaded: &OnceLock<bool>, jobs: &Receiver<Job>) {
    let model = match file.load() {
        Ok(model) => model,
        Err(cause) => {
            tracing::error!(provider, cause, "local model could not be loaded");
            // Only this thread sets it, and only once.
            let _ = loaded.set(false);
            return;
        }
    };
    let _ = loaded.set(true);
    tracing::info!(provider, "local model loaded");
    while let Ok(job) = jobs.recv() {
        run(provider, &model, &job);
    }
}

fn run(provider: &str, model: &Model, job: &Job) {
    if job.pieces.is_closed() {
        return;
    }
    let emit = |piece: Option<Piece>| match piece {
        Some(piece) => job.pieces.try_send(Ok(piece)).is_ok(),
        None => !job.pieces.is_closed(),
    };
    let reply = match model.run(&job.task, emit) {
        Ok(()) | Err(Failure::Abandoned) => return,
        Err(Failure::TooLong { context }) => {
            let field = job.task.prompt.field();
            let message =
                format!("The {field} do not fit the model's context of {context} tokens; shorten them.");
            Reply::new(Code::ContextLengthExceeded, message).with_param(field)
        }
        Err(Failure::Broken(cause)) => {
            tracing::error!(provider, cause, "local model failed");
            Reply::new(Code::InternalError, "The local model failed on this request.")
        }
    };
    // Whoever left meanwhile needs no refusal.
    let _ = job.pieces.try_send(Err(reply));
}
