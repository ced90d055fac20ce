//! A request's fields as OpenAI's API writes them. What the API allows and the model cannot do
//! is refused by name rather than ignored; tools that the model may leave unused are ignored.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::Endpoint;

use super::prompt::{Prompt, Turn};
use super::task::{Sampler, Task, any_number};

/// Tokens generated when the caller sets no bound.
pub const DEFAULT_TOKENS_MAX: usize = 256;
/// Sampling temperature when the caller sets none; what the model's authors advise. OpenAI's
/// own default of 1 makes a model this small ramble.
const DEFAULT_TEMPERATURE: f64 = 0.2;
/// Nucleus when the caller sets none; what the model's authors advise.
const DEFAULT_TOP_P: f64 = 0.9;
/// Most stop sequences, as in OpenAI's API.
const STOPS_MAX: usize = 4;
/// Longest stop sequence, in bytes.
const STOP_BYTES_MAX: usize = 256;

/// The fields looked at; everything else is no business of a local model's.
#[derive(Deserialize)]
struct Fields {
    messages: Option<Vec<Message>>,
    prompt: Option<OneOrMany>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    best_of: Option<u64>,
    logprobs: Option<Asked>,
    echo: Option<bool>,
    suffix: Option<String>,
    response_format: Option<Typed>,
    tool_choice: Option<ToolChoice>,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Option<Content>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool | Self::Function => "tool",
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// `logprobs`: a flag in chat, a number in completions, where 0 asks for some too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    Flag(bool),
    Number(IgnoredAny),
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolChoice {
    Mode(String),
    Named(IgnoredAny),
}

impl Task {
    /// Reads a request's body.
    ///
    /// # Errors
    /// `invalid_request` with the path of the field at fault.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, Reply> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let fields: Fields = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let path = e.path().to_string();
            Reply::new(Code::InvalidRequest, format!("Field `{path}` is missing or not of the right kind."))
                .with_param(path)
        })?;
        fields.refuse_the_impossible()?;
        Ok(Self {
            sampler: fields.sampler()?,
            stops: fields.stops()?,
            tokens_max: fields.tokens_max()?,
            stream: fields.stream.unwrap_or(false),
            include_usage: fields.stream_options.as_ref().is_some_and(|o| o.include_usage),
            prompt: match endpoint {
                Endpoint::ChatCompletions => Prompt::Chat(turns(fields.messages.unwrap_or_default())?),
                _ => Prompt::Text(text(fields.prompt)?),
            },
        })
    }
}

impl Fields {
    fn refuse_the_impossible(&self) -> Result<(), Reply> {
        let cannot = |field: &str, asked: bool, can: &str| {
            if asked { Err(wrong(field, &format!("{can} for a local model"))) } else { Ok(()) }
        };
        cannot("n", self.n.is_some_and(|n| n != 1), "1")?;
        cannot("best_of", self.best_of.is_some_and(|n| n != 1), "1")?;
        let logprobs = self.logprobs.as_ref();
        cannot(
            "logprobs",
            logprobs.is_some_and(|l| matches!(l, Asked::Flag(true) | Asked::Number(_))),
            "absent",
        )?;
        cannot("echo", self.echo == Some(true), "false")?;
        cannot("suffix", self.suffix.as_ref().is_some_and(|s| !s.is_empty()), "absent")?;
        let format = self.response_format.as_ref();
        cannot("response_format", format.is_some_and(|f| f.r#type != "text"), "of type text")?;
        let forced = match &self.tool_choice {
            None => false,
            Some(ToolChoice::Mode(mode)) => !matches!(mode.as_str(), "auto" | "none"),
            Some(ToolChoice::Named(IgnoredAny)) => true,
        };
        cannot("tool_choice", forced, "auto or none")
    }

    fn sampler(&self) -> Result<Sampler, Reply> {
        let within = |field: &str, value: Option<f64>, default: f64, least: f64, most: f64| {
            let value = value.unwrap_or(default);
            if (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err(wrong(field, &format!("a number from {least} to {most}")))
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "from -2 to 2, where f32 is exact enough")]
        let penalty = |field, value| within(field, value, 0.0, -2.0, 2.0).map(|v| v as f32);
        Ok(Sampler {
            temperature: within("temperature", self.temperature, DEFAULT_TEMPERATURE, 0.0, 2.0)?,
            top_p: within("top_p", self.top_p, DEFAULT_TOP_P, 0.0, 1.0)?,
            seed: self.seed.map_or_else(any_number, i64::cast_unsigned),
            presence_penalty: penalty("presence_penalty", self.presence_penalty)?,
            frequency_penalty: penalty("frequency_penalty", self.frequency_penalty)?,
        })
    }

    fn stops(&self) -> Result<Vec<String>, Reply> {
        let stops = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop.clone()],
            Some(OneOrMany::Many(stops)) => stops.clone(),
        };
        if stops.len() > STOPS_MAX || stops.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
            let what = format!("at most {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes");
            return Err(wrong("stop", &what));
        }
        Ok(stops)
    }

    fn tokens_max(&self) -> Result<usize, Reply> {
        let (field, value) = match (self.max_completion_tokens, self.max_tokens) {
            (Some(value), _) => ("max_completion_tokens", value),
            (None, Some(value)) => ("max_tokens", value),
            (None, None) => return Ok(DEFAULT_TOKENS_MAX),
        };
        if value == 0 {
            return Err(wrong(field, "at least 1"));
        }
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }
}

fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Reply> {
    let turn = |(index, message): (usize, Message)| {
        let content = match message.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => joined(parts)
                .ok_or_else(|| wrong(&format!("messages[{index}].content"), "text only for a local model"))?,
        };
        Ok(Turn { role: message.role.name(), content })
    };
    messages.into_iter().enumerate().map(turn).collect()
}

fn joined(parts: Vec<Part>) -> Option<String> {
    parts.into_iter().map(|part| part.text.filter(|_| part.r#type == "text")).collect()
}

fn text(prompt: Option<OneOrMany>) -> Result<String, Reply> {
    let one = match prompt {
        Some(OneOrMany::One(text)) => Some(text),
        Some(OneOrMany::Many(texts)) => <[String; 1]>::try_from(texts).ok().map(|[text]| text),
        None => None,
    };
    one.ok_or_else(|| wrong("prompt", "one text for a local model"))
}

fn wrong(field: &str, what: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` must be {what}.")).with_param(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(rest: &str) -> Result<Task, Reply> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#);
        Task::read(Endpoint::ChatCompletions, body.as_bytes())
    }

    #[test]
    fn defaults_are_those_documented() {
        let task = chat("").expect("valid");
        assert_eq!(task.prompt, Prompt::Chat(vec![Turn { role: "user", content: "hi".into() }]));
        assert_eq!((task.tokens_max, task.stream, task.include_usage), (DEFAULT_TOKENS_MAX, false, false));
        assert!((task.sampler.temperature - DEFAULT_TEMPERATURE).abs() < f64::EPSILON);
        assert_ne!(task.sampler.seed, chat("").expect("valid").sampler.seed);
    }

    #[test]
    fn what_is_asked_is_taken() {
        let task = chat(
            r#","max_tokens":7,"max_completion_tokens":9,"temperature":0,"top_p":0.5,"seed":-1,"stop":"x",
               "stream":true,"stream_options":{"include_usage":true},"tools":[{"type":"function"}],"n":1,
               "tool_choice":"auto","response_format":{"type":"text"},"logprobs":false,"unknown":[1]"#,
        )
        .expect("valid");
        assert_eq!((task.tokens_max, task.stream, task.include_usage), (9, true, true));
        assert_eq!((task.sampler.seed, task.stops), (u64::MAX, vec!["x".to_owned()]));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_field() {
        for (rest, field) in [
            (r#","n":2"#, "n"),
            (r#","logprobs":true"#, "logprobs"),
            (r#","logprobs":0"#, "logprobs"),
            (r#","response_format":{"type":"json_object"}"#, "response_format"),
            (r#","tool_choice":"required""#, "tool_choice"),
            (r#","tool_choice":{"type":"function"}"#, "tool_choice"),
            (r#","temperature":2.1"#, "temperature"),
            (r#","temperature":"hot""#, "temperature"),
            (r#","top_p":-0.1"#, "top_p"),
            (r#","frequency_penalty":3"#, "frequency_penalty"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","max_tokens":-1"#, "max_tokens"),
            (r#","stop":["a","b","c","d","e"]"#, "stop"),
            (r#","stop":"""#, "stop"),
        ] {
            let reply = chat(rest).expect_err(rest);
            assert_eq!((reply.code, reply.param.as_deref()), (Code::InvalidRequest, Some(field)), "{rest}");
        }
    }

    #[test]
    fn messages_are_text_by_known_roles() {
        let read = |messages: &str| {
            Task::read(Endpoint::ChatCompletions, format!(r#"{{"messages":[{messages}]}}"#).as_bytes())
        };
        let task = read(
            r#"{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
               {"role":"assistant","content":null,"tool_calls":[]}"#,
        );
        let turns = vec![
            Turn { role: "system", content: "ab".into() },
            Turn { role: "assistant", content: String::new() },
        ];
        assert_eq!(task.expect("valid").prompt, Prompt::Chat(turns));
        for (messages, field) in [
            (r#"{"role":"user","content":[{"type":"image_url","image_url":{}}]}"#, "messages[0].content"),
            (r#"{"role":"user","content":7}"#, "messages[0].content"),
            (r#"{"role":"king","content":"secret"}"#, "messages[0].role"),
            (r#"{"content":"secret"}"#, "messages[0]"),
        ] {
            let reply = read(messages).expect_err(messages);
            assert_eq!(reply.param.as_deref(), Some(field), "{messages}");
            assert!(!reply.message.contains("secret"));
        }
    }

    #[test]
    fn a_completion_has_one_prompt() {
        let read = |prompt: &str| {
            Task::read(Endpoint::Completions, format!(r#"{{"prompt":{prompt}}}"#).as_bytes())
                .map(|t| t.prompt)
        };
        assert_eq!(read(r#""a""#), Ok(Prompt::Text("a".into())));
        assert_eq!(read(r#"["a"]"#), Ok(Prompt::Text("a".into())));
        for bad in [r#"["a","b"]"#, "[1,2]", "[]"] {
            assert_eq!(read(bad).expect_err(bad).param.as_deref(), Some("prompt"), "{bad}");
        }
    }
}
