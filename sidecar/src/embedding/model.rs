//! One ONNX sentence encoder with its tokenizer: texts in, unit vectors out.

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use sha2::{Digest, Sha256};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::Embedding;
use super::error::EmbedError;
use super::settings::{Pooling, Settings};

/// Texts of a run differ in length by at most this factor, and this many tokens more: what is
/// filled up is computed for nothing.
const SPREAD: usize = 2;
const SPREAD_TOKENS: usize = 8;
/// Most tokens of one run, filling included: bounds memory, and how long others wait.
const RUN_TOKENS_MAX: usize = 4096;
/// Shortest vector that has a direction.
const NORM_MIN: f32 = 1e-12;

/// The bytes of a model, read once and shared by the threads that make sessions of it.
pub struct Files {
    model: Vec<u8>,
    tokenizer: Tokenizer,
    /// SHA-256 of everything that shapes its vectors.
    pub digest: [u8; 32],
}

impl Files {
    /// Reads the model's files.
    ///
    /// # Errors
    /// The file that is missing or wrong, and what to do.
    pub fn read(settings: &Settings) -> Result<Self, String> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|e| {
                format!(
                    "{}: {e}; run scripts/setup (for multilingual-e5-small: scripts/setup multilingual), or set embedding.model_path and embedding.tokenizer_path",
                    path.display()
                )
            })
        };
        let model = read(&settings.model_path)?;
        let words = read(&settings.tokenizer_path)?;
        let wrong =
            |e: &dyn std::fmt::Display| format!("{} is no tokenizer: {e}", settings.tokenizer_path.display());
        let mut tokenizer = Tokenizer::from_bytes(&words).map_err(|e| wrong(&e))?;
        tokenizer.with_padding(None);
        let cut = TruncationParams { max_length: settings.tokens_max, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(cut)).map_err(|e| wrong(&e))?;
        let mut digest = Sha256::new();
        for part in [&model[..], &words, settings.prefix.as_bytes(), settings.pooling.label().as_bytes()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Self { model, tokenizer, digest: digest.finalize().into() })
    }
}

/// A session, and what is needed to use it. Not for several threads at once.
pub struct Model {
    session: Session,
    tokenizer: Tokenizer,
    settings: Settings,
    has_types: bool,
}

impl Model {
    /// Makes a session and tries it.
    ///
    /// # Errors
    /// The file is no ONNX model, no sentence encoder, or not the one that was configured.
    pub fn new(environment: &Environment, files: &Files, settings: &Settings) -> Result<Self, String> {
        let session = session(environment, &files.model)
            .map_err(|e| format!("{} cannot be loaded: {e}", settings.model_path.display()))?;
        let has = |name| session.inputs().iter().any(|input| input.name() == name);
        let has_types = has("token_type_ids");
        if !(has("input_ids") && has("attention_mask")) {
            let path = settings.model_path.display();
            return Err(format!(
                "{path} has no inputs input_ids and attention_mask; export a sentence encoder"
            ));
        }
        let mut model =
            Self { session, tokenizer: files.tokenizer.clone(), settings: settings.clone(), has_types };
        let encoded = model.encode("a").map_err(|e| e.to_string())?;
        model.run(&[&encoded]).map_err(|what| format!("{} {what}", settings.model_path.display()))?;
        Ok(model)
    }

    /// Splits a text into tokens, the model's prefix before it; a longer one than the model
    /// takes is refused, because two texts must not meet in what was left of them.
    fn encode(&self, text: &str) -> Result<Encoding, EmbedError> {
        let refused = |_| EmbedError::Failed;
        let encoding = if self.settings.prefix.is_empty() {
            self.tokenizer.encode(text, true).map_err(refused)?
        } else {
            self.tokenizer.encode(format!("{}{text}", self.settings.prefix), true).map_err(refused)?
        };
        if encoding.get_overflowing().is_empty() {
            return Ok(encoding);
        }
        Err(EmbedError::TooLong { index: 0, tokens_max: self.settings.tokens_max })
    }

    /// The embeddings of `texts`, each on its own good or bad.
    pub fn embed(&mut self, texts: &[&str]) -> Vec<Result<Embedding, EmbedError>> {
        let encodings: Vec<_> = texts.iter().map(|text| self.encode(text)).collect();
        let mut good: Vec<(usize, &Encoding)> =
            encodings.iter().enumerate().filter_map(|(i, e)| Some((i, e.as_ref().ok()?))).collect();
        good.sort_by_key(|(_, encoding)| encoding.len());
        let mut vectors: Vec<Option<Embedding>> = vec![None; texts.len()];
        let mut rest = &good[..];
        while let Some((_, first)) = rest.first() {
            let longest = first.len() * SPREAD + SPREAD_TOKENS;
            let fits = |n: usize, len: usize| n == 0 || (len <= longest && (n + 1) * len <= RUN_TOKENS_MAX);
            let n = rest.iter().enumerate().take_while(|(n, (_, e))| fits(*n, e.len())).count();
            let (run, later) = rest.split_at(n);
            rest = later;
            let batch: Vec<&Encoding> = run.iter().map(|(_, encoding)| *encoding).collect();
            match self.run(&batch) {
                Ok(found) => {
                    for ((index, encoding), vector) in run.iter().zip(found) {
                        let embedding = Embedding { vector: vector.into(), tokens: encoding.len() };
                        vectors.get_mut(*index).map(|slot| slot.replace(embedding));
                    }
                }
                Err(cause) => tracing::warn!(cause, "embedding failed"),
            }
        }
        let outcome = |(vector, encoding): (Option<Embedding>, Result<Encoding, EmbedError>)| {
            encoding.and_then(|_| vector.ok_or(EmbedError::Failed))
        };
        vectors.into_iter().zip(encodings).map(outcome).collect()
    }

    /// Runs the graph on one batch.
    fn run(&mut self, batch: &[&Encoding]) -> Result<Vec<Vec<f32>>, String> {
        let length = batch.iter().map(|encoding| encoding.len()).max().unwrap_or(0);
        let shape = [batch.len(), length];
        let mut ids = vec![i64::from(self.settings.pad_id); batch.len() * length];
        let mut mask = vec![0_i64; batch.len() * length];
        for ((encoding, ids), mask) in
            batch.iter().zip(ids.chunks_exact_mut(length)).zip(mask.chunks_exact_mut(length))
        {
            for ((token, id), one) in encoding.get_ids().iter().zip(ids).zip(mask) {
                (*id, *one) = (i64::from(*token), 1);
            }
        }
        let types = vec![0_i64; batch.len() * length];
        let failed = |e: ort::Error| format!("cannot be run: {e}");
        let tensor = |data| TensorRef::from_array_view((shape, data)).map_err(failed);
        let mut inputs =
            ort::inputs!["input_ids" => tensor(&ids[..])?, "attention_mask" => tensor(&mask[..])?];
        if self.has_types {
            inputs.extend(ort::inputs!["token_type_ids" => tensor(&types[..])?]);
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let (shape, data) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        let dimension = self.settings.dimension;
        let want = i64::try_from(dimension).unwrap_or(i64::MAX);
        if shape.last() != Some(&want) || data.len() != batch.len() * length * dimension {
            return Err(format!(
                "gives a tensor of shape {shape:?}; embedding.dimension is {dimension}, and the first output \
                 must have one vector for each token"
            ));
        }
        let texts = data.chunks_exact(length * dimension).zip(mask.chunks_exact(length));
        Ok(texts.map(|(tokens, mask)| pool(tokens, mask, dimension, self.settings.pooling)).collect())
    }
}

fn session(environment: &Environment, model: &[u8]) -> ort::Result<Session> {
    // One thread: two were slower on a busy machine, and requests already run side by side.
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(1)?
        .commit_from_memory(model)
}

/// One unit vector of a text's token vectors.
fn pool(tokens: &[f32], mask: &[i64], dimension: usize, pooling: Pooling) -> Vec<f32> {
    let mut tokens = tokens.chunks_exact(dimension).zip(mask).filter(|(_, mask)| **mask == 1);
    let mut sum = tokens.next().map_or_else(|| vec![0.0; dimension], |(first, _)| first.to_vec());
    if pooling == Pooling::Mean {
        for (token, _) in tokens {
            sum.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(NORM_MIN);
    sum.iter_mut().for_each(|x| *x /= norm);
    sum
}
