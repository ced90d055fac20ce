//! A language model from a GGUF file, and how it produces text.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::prompt::Template;
use super::task::{Sampler, Task};
use super::text::{Pushed, TextBuffer};
use super::vocabulary::{self, Vocabulary};
use super::weights;

/// Prompt tokens computed in one step; between two steps a caller that left is noticed.
const PREFILL_TOKENS: usize = 128;

/// A GGUF file whose header is sound; its weights are not read yet.
pub struct ModelFile {
    file: BufReader<File>,
    content: Content,
    context: usize,
}

/// A model ready to generate.
pub struct Model {
    /// Never run itself: each generation runs a clone, which shares the weights and has a
    /// cache of its own, gone when the generation ends.
    weights: ModelWeights,
    vocabulary: Vocabulary,
    template: Template,
    context: usize,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or a stop sequence came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// What generation has to say, in this order: `Started`, any number of `Text`, `Done`.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The prompt was understood.
    Started {
        /// Its length in tokens.
        prompt_tokens: u64,
    },
    /// A piece of the answer; never empty.
    Text(String),
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish: Finish,
        /// Tokens generated, the one that ended it included.
        completion_tokens: u64,
    },
}

/// Why generation failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens any more.
    Abandoned,
    /// The prompt has more tokens than the model can take.
    TooLong {
        /// Most tokens the model can take, the answer included.
        context: usize,
    },
    /// The model could not be run.
    Broken(String),
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl ModelFile {
    /// Opens a file and checks that all it announces is there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| format!("cannot be opened: {e}"))?;
        let length = file.metadata().map_err(|e| format!("cannot be read: {e}"))?.len();
        let mut file = BufReader::new(file);
        let content = Content::read(&mut file).map_err(|e| format!("is not a readable GGUF file: {e}"))?;
        for (name, tensor) in &content.tensor_infos {
            let blocks = tensor.shape.elem_count() / tensor.ggml_dtype.block_size();
            let bytes = blocks.saturating_mul(tensor.ggml_dtype.type_size()) as u64;
            let end = content.tensor_data_offset.saturating_add(tensor.offset).saturating_add(bytes);
            if end > length {
                return Err(format!("is cut short: tensor {name} ends at byte {end} of {length}"));
            }
        }
        let kind = vocabulary::text(&content, "general.architecture").unwrap_or("unknown");
        if kind != "llama" {
            return Err(format!("has a model of architecture {kind}; only llama is supported"));
        }
        let context = content.metadata.get("llama.context_length").and_then(|v| v.to_u32().ok());
        let context = context.map_or(MAX_SEQ_LEN, |c| MAX_SEQ_LEN.min(c as usize));
        Ok(Self { file, content, context })
    }

    /// Reads weights, vocabulary and template.
    ///
    /// # Errors
    /// What is missing in the file or not supported.
    pub fn load(mut self) -> Result<Model, String> {
        let vocabulary = Vocabulary::read(&self.content)?;
        let jinja = vocabulary::text(&self.content, "tokenizer.chat_template").unwrap_or_default();
        let template = Template::new(jinja, &vocabulary)?;
        let weights = weights::read(self.content, &mut self.file).map_err(|e| format!("its weights: {e}"))?;
        Ok(Model { weights, vocabulary, template, context: self.context })
    }
}

impl Model {
    /// Runs a task, telling each piece to `emit`, which answers whether anybody still listens.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(&self, task: &Task, mut emit: impl FnMut(Option<Piece>) -> bool) -> Result<(), Failure> {
        let prompt = self.encode(task)?;
        heard(emit(Some(Piece::Started { prompt_tokens: prompt.len() as u64 })))?;
        let mut run = Run {
            weights: self.weights.clone(),
            sampler: sampler(&task.sampler),
            task,
            seen: Vec::new(),
            position: 0,
        };
        let mut next = run.prefill(&prompt, || emit(None))?;
        let mut text = TextBuffer::new(task.stops.clone());
        let budget = task.tokens_max.min(self.context - prompt.len());
        for generated in 1..=budget {
            if self.vocabulary.is_control(next) {
                return finish(&mut emit, text.finish(), Finish::Stop, generated);
            }
            match text.push(self.vocabulary.bytes_of(next)) {
                Pushed::Stopped(last) => return finish(&mut emit, last, Finish::Stop, generated),
                Pushed::Text(piece) => heard(emit((!piece.is_empty()).then_some(Piece::Text(piece))))?,
            }
            if generated < budget {
                next = run.step(next)?;
            }
        }
        finish(&mut emit, text.finish(), Finish::Length, budget)
    }

    fn encode(&self, task: &Task) -> Result<Vec<u32>, Failure> {
        let too_long = Failure::TooLong { context: self.context };
        if self.vocabulary.tokens_min(task.prompt.bytes()) >= self.context {
            return Err(too_long);
        }
        let ids = self.template.encode(&task.prompt, &self.vocabulary).map_err(Failure::Broken)?;
        if ids.len() >= self.context { Err(too_long) } else { Ok(ids) }
    }
}

fn heard(listening: bool) -> Result<(), Failure> {
    if listening { Ok(()) } else { Err(Failure::Abandoned) }
}

fn finish(
    emit: &mut impl FnMut(Option<Piece>) -> bool,
    last: String,
    finish: Finish,
    tokens: usize,
) -> Result<(), Failure> {
    if !last.is_empty() {
        heard(emit(Some(Piece::Text(last))))?;
    }
    heard(emit(Some(Piece::Done { finish, completion_tokens: tokens as u64 })))
}

fn sampler(wanted: &Sampler) -> LogitsProcessor {
    let Sampler { temperature, top_p, seed, .. } = *wanted;
    let sampling = if temperature <= 0.0 || top_p <= 0.0 {
        Sampling::ArgMax
    } else if top_p >= 1.0 {
        Sampling::All { temperature }
    } else {
        Sampling::TopP { p: top_p, temperature }
    };
    LogitsProcessor::from_sampling(seed, sampling)
}

/// One generation under way.
struct Run<'a> {
    weights: ModelWeights,
    sampler: LogitsProcessor,
    task: &'a Task,
    /// Generated tokens, if the penalties ask for them.
    seen: Vec<u32>,
    position: usize,
}

impl Run<'_> {
    /// Computes the prompt and gives the first token.
    fn prefill(&mut self, prompt: &[u32], mut listening: impl FnMut() -> bool) -> Result<u32, Failure> {
        let mut logits = None;
        for chunk in prompt.chunks(PREFILL_TOKENS) {
            heard(listening())?;
            logits = Some(self.forward(chunk)?);
        }
        let logits = logits.ok_or_else(|| Failure::Broken("the prompt has no tokens".to_owned()))?;
        self.sample(&logits)
    }

    /// Computes one token and gives the next.
    fn step(&mut self, token: u32) -> Result<u32, Failure> {
        if self.task.sampler.has_penalties() {
            self.seen.push(token);
        }
        let logits = self.forward(&[token])?;
        self.sample(&logits)
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<Tensor, Failure> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.position)?.squeeze(0)?;
        self.position += tokens.len();
        Ok(logits)
    }

    fn sample(&mut self, logits: &Tensor) -> Result<u32, Failure> {
        if self.seen.is_empty() {
            return Ok(self.sampler.sample(logits)?);
        }
        let mut values = logits.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        self.task.sampler.penalise(&self.seen, &mut values);
        let length = values.len();
        Ok(self.sampler.sample(&Tensor::from_vec(values, length, &Device::Cpu)?)?)
    }
}
