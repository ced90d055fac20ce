//! OpenAI's older completions for providers that only chat: the prompt is what the user says.

use serde::{Deserialize, Serialize};

use super::answer::reason;
use super::read::alternatives;
use super::stream_write::{End, Envelope, end, fail, push};
use crate::chat::{ChatAnswer, ChatRequest, Finish, Part, Role, StreamEvent, TokenUsage, Turn};
use crate::provider::document::{self, Others, TextOr, wrong};
use crate::provider::{Exchange, Fit};
use crate::reply::Reply;

/// Fields that may be left out without changing the answer.
const HINTS: [&str; 2] = ["store", "metadata"];

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Document {
    model: String,
    prompt: TextOr<String>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<TextOr<String>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    seed: Option<i64>,
    n: Option<u64>,
    best_of: Option<u64>,
    echo: Option<bool>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    user: Option<String>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Reads a request.
pub fn read_completions_request(body: &[u8], fit: &mut Fit) -> Result<ChatRequest, Reply> {
    let document: Document = document::read(body)?;
    let alternatives = alternatives(document.n, fit)?;
    let chosen = document.best_of.is_some_and(|best_of| best_of != alternatives + 1);
    fit.cannot_if(chosen, || wrong("best_of", "the same as n"))?;
    fit.cannot_if(document.echo == Some(true), || wrong("echo", "false"))?;
    document::refuse_others(&document.others, &HINTS, fit)?;
    let prompt = match document.prompt {
        TextOr::Text(text) => text,
        TextOr::Parts(texts) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => text,
            Err(_) => return Err(wrong("prompt", "one text")),
        },
    };
    Ok(ChatRequest {
        model: document.model,
        turns: vec![Turn { role: Role::User, parts: vec![Part::Text(prompt)] }],
        tokens_max: document.max_tokens,
        temperature: document.temperature,
        top_p: document.top_p,
        stops: match document.stop {
            None => Vec::new(),
            Some(TextOr::Text(text)) => vec![text],
            Some(TextOr::Parts(texts)) => texts,
        },
        stream: document.stream.unwrap_or(false),
        include_usage: document.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        seed: document.seed,
        frequency_penalty: document.frequency_penalty.filter(|p| *p != 0.0),
        presence_penalty: document.presence_penalty.filter(|p| *p != 0.0),
        user: document.user,
        alternatives,
        ..ChatRequest::default()
    })
}

#[derive(Serialize)]
struct Choice<'a> {
    text: &'a str,
    index: u32,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

impl<'a> Choice<'a> {
    const fn new(index: u32, text: &'a str, finish_reason: Option<&'static str>) -> Self {
        Self { text, index, logprobs: None, finish_reason }
    }
}

/// `finish_reason`: a completion calls no tools.
const fn ending(finish: &Finish) -> &'static str {
    match finish {
        Finish::ToolUse => "stop",
        finish => reason(finish),
    }
}

/// Writes answers as the choices of one.
pub fn write_completions_answers(answers: &[ChatAnswer], exchange: &Exchange) -> Vec<u8> {
    let (id, model) = answers.first().map_or(("", ""), |first| (&first.id, &first.model));
    let numbered = (0..).zip(answers);
    let choices: Vec<_> =
        numbered.map(|(index, a)| Choice::new(index, &a.text, Some(ending(&a.finish)))).collect();
    let usage = answers.iter().map(|answer| answer.usage).sum::<TokenUsage>();
    document::write(&Envelope {
        id,
        object: "text_completion",
        created: exchange.created,
        model,
        choices: &choices,
        usage: Some(usage.into()),
    })
}

/// Writes an event stream.
#[derive(Debug)]
pub struct CompletionsWriter {
    created: u64,
    /// One of several choices: its number. Who writes all of them writes the end.
    choice: Option<u32>,
    include_usage: bool,
    id: String,
    model: String,
    usage: TokenUsage,
}

impl CompletionsWriter {
    /// A writer at the start of a stream.
    pub fn new(exchange: &Exchange) -> Self {
        Self {
            created: exchange.created,
            choice: None,
            include_usage: exchange.include_usage,
            id: String::new(),
            model: String::new(),
            usage: TokenUsage::default(),
        }
    }

    /// The writer of one of several choices of the answer `id`.
    pub fn of_choice(self, index: u32, id: &str) -> Self {
        Self { choice: Some(index), id: id.to_owned(), ..self }
    }

    /// The model, and what was used.
    pub fn told(&self) -> (&str, TokenUsage) {
        (&self.model, self.usage)
    }

    /// Appends what `event` is; thoughts and tools have no place in a completion.
    pub fn write(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model } => {
                self.model = model;
                if self.choice.is_none() {
                    self.id = id;
                }
            }
            StreamEvent::Text(text) => self.chunk(&text, None, out),
            StreamEvent::Finish(finish) => {
                self.chunk("", Some(ending(&finish)), out);
            }
            StreamEvent::Usage(usage) => self.usage = usage,
            StreamEvent::Ping => out.extend_from_slice(b": ping\n\n"),
            StreamEvent::End if self.choice.is_some() => {}
            StreamEvent::End => {
                let Self { id, model, usage, created, .. } = self;
                end("text_completion", *created, &End { id, model, usage: *usage }, self.include_usage, out);
            }
            StreamEvent::Error(error) => fail(&error, out),
            StreamEvent::Thought(_)
            | StreamEvent::ThoughtSignature(_)
            | StreamEvent::RedactedThought(_)
            | StreamEvent::Logprobs(_)
            | StreamEvent::ToolStart { .. }
            | StreamEvent::ToolInput { .. } => {}
        }
    }

    fn chunk(&self, text: &str, finish_reason: Option<&'static str>, out: &mut Vec<u8>) {
        let Self { id, model, created, .. } = self;
        let choices = &[Choice::new(self.choice.unwrap_or(0), text, finish_reason)];
        push(
            out,
            &Envelope { id, object: "text_completion", created: *created, model, choices, usage: None },
        );
    }
}
