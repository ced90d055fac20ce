//! What the gateway must know of a request, read without building a tree of it: everything
//! else passes on byte by byte.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::{Endpoint, Protocol};

use super::responses::{Continued, Keep};

/// Longest model name looked at, in bytes; no provider has one near it.
const MODEL_BYTES_MAX: usize = 256;

/// Bytes of a body for each token of its prompt, roughly.
const BYTES_PER_TOKEN: u64 = 4;

/// Most members of LLM-Bridge's `parameters`.
const PARAMETERS_MAX: usize = 64;

/// A request that is worth a provider's time.
#[derive(Debug, Clone)]
pub struct LlmRequest {
    /// The model asked for.
    pub model: String,
    /// Provider named in an LLM-Bridge body.
    pub provider: Option<String>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether tools are offered.
    pub has_tools: bool,
    /// Whether several answers are asked for.
    pub several: bool,
    /// Bytes of the body as it came in.
    pub bytes: usize,
    /// The most tokens that the answer may have, if the caller said.
    pub answer_tokens: Option<u64>,
    /// The body to pass on: the caller's own bytes, unless it came in LLM-Bridge's form.
    pub body: Bytes,
    /// Responses API: where the response goes.
    pub keep: Option<Keep>,
    /// Responses API: whether it goes on from a response that is not here.
    pub lost: bool,
}

/// The fields looked at; `null` counts as absent.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Peek<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    provider: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    functions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_completion_tokens: Option<&'a RawValue>,
}

impl LlmRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// `invalid_json` when it is not JSON in UTF-8; `invalid_request` with the field at fault
    /// when it is not a request for `endpoint`.
    pub fn read(endpoint: Endpoint, body: Bytes) -> Result<Self, Reply> {
        let text = std::str::from_utf8(&body)
            .map_err(|e| not_json(&format!("it is not valid UTF-8 at byte {}", e.valid_up_to())))?;
        let peek = Peek::read(text)?;
        let model = peek.model()?;
        peek.check_content(endpoint)?;
        peek.check_stream()?;
        let (stream, answer_tokens) = (peek.wants_stream(), peek.answer_tokens());
        let (has_tools, several, bytes) = (peek.has_tools(), peek.wants_several(), body.len());
        let is_bridge = endpoint.protocol() != Protocol::Anthropic;
        let provider = peek.provider().filter(|_| is_bridge);
        let lifted = match (&provider, peek.parameters) {
            (None, None) => None,
            (_, parameters) if is_bridge => lift(text, provider.is_some(), parameters)?,
            _ => None,
        };
        let body = lifted.unwrap_or(body);
        Ok(Self {
            model,
            provider,
            stream,
            has_tools,
            several,
            bytes,
            answer_tokens,
            body,
            keep: None,
            lost: false,
        })
    }

    /// Takes over what is known of the response that it goes on from.
    pub fn go_on(&mut self, continued: Continued) {
        let Continued { body, lost, keep } = continued;
        (self.keep, self.lost) = (keep, lost);
        if let Some(body) = body {
            self.body = body;
        }
    }

    /// The same request for another model; its other fields stay as they are.
    ///
    /// # Errors
    /// The body cannot be written anew.
    pub fn for_model(&self, model: &str) -> Result<Cow<'_, Self>, Reply> {
        if model == self.model {
            return Ok(Cow::Borrowed(self));
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| not_json("it is not valid UTF-8"))?;
        let name = serde_json::value::to_raw_value(model)
            .map_err(|_| Reply::new(Code::InternalError, "The request could not be rewritten."))?;
        let mut fields = fields_of(text)?;
        for (key, value) in &mut fields {
            if key == "model" {
                *value = &name;
            }
        }
        let body = write_object(&fields, text.len() + model.len())?;
        Ok(Cow::Owned(Self { model: model.to_owned(), body, ..self.clone() }))
    }

    /// Estimated tokens of the prompt, by its bytes; only to compare prices and limits.
    #[must_use]
    pub const fn prompt_tokens(&self) -> u64 {
        self.body.len() as u64 / BYTES_PER_TOKEN
    }
}

impl<'a> Peek<'a> {
    fn read(text: &'a str) -> Result<Self, Reply> {
        match text.trim_ascii_start().as_bytes().first() {
            None => return Err(not_json("it is empty")),
            Some(b'{') => {}
            Some(_) => {
                // A value that is JSON but no object is the other kind of mistake.
                serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| at(&e))?;
                return Err(Reply::new(Code::InvalidRequest, "The body must be a JSON object."));
            }
        }
        serde_json::from_str(text).map_err(|e| {
            if e.is_data() {
                let place = format!("line {}, column {}", e.line(), e.column());
                Reply::new(Code::InvalidRequest, format!("A field is given twice in the body ({place})."))
            } else {
                at(&e)
            }
        })
    }

    fn model(&self) -> Result<String, Reply> {
        let raw =
            self.model.ok_or_else(|| missing("model", "the name of a model; GET /v1/models lists them"))?;
        match serde_json::from_str::<String>(raw.get()) {
            Ok(model) if !model.is_empty() && model.len() <= MODEL_BYTES_MAX => Ok(model),
            _ => Err(wrong("model", &format!("a string of 1 to {MODEL_BYTES_MAX} bytes"))),
        }
    }

    fn check_content(&self, endpoint: Endpoint) -> Result<(), Reply> {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages => {
                let raw = self.messages.ok_or_else(|| missing("messages", "an array of messages"))?.get();
                let inner = raw.strip_prefix('[').ok_or_else(|| wrong("messages", "an array of messages"))?;
                if inner.trim_ascii_start().starts_with(']') {
                    return Err(wrong("messages", "an array with at least one message"));
                }
                Ok(())
            }
            Endpoint::Completions => {
                self.prompt.map(|_| ()).ok_or_else(|| missing("prompt", "the text to complete"))
            }
            _ => self.input.map(|_| ()).ok_or_else(|| missing("input", "the text to embed")),
        }
    }

    fn check_stream(&self) -> Result<(), Reply> {
        match self.stream.map(RawValue::get) {
            None | Some("true" | "false") => Ok(()),
            Some(_) => Err(wrong("stream", "true or false")),
        }
    }

    fn wants_stream(&self) -> bool {
        self.stream.map(RawValue::get) == Some("true")
    }

    fn wants_several(&self) -> bool {
        self.n.is_some_and(|n| !matches!(n.get(), "null" | "1"))
    }

    /// As the filter has it in `RequestView`.
    fn has_tools(&self) -> bool {
        let is_filled = |raw: Option<&RawValue>| raw.is_some_and(|raw| !matches!(raw.get(), "null" | "[]"));
        is_filled(self.tools) || is_filled(self.functions)
    }

    fn answer_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)?.get().parse().ok()
    }

    /// A provider's name, as LLM-Bridge gives it. Other gateways put an object here; that is
    /// the provider's business and passes on.
    fn provider(&self) -> Option<String> {
        serde_json::from_str(self.provider?.get()).ok()
    }
}

fn not_json(why: &str) -> Reply {
    Reply::new(Code::InvalidJson, format!("The body is not valid JSON: {why}."))
}

/// Where the JSON broke; never what stood there, which may be part of a prompt.
fn at(error: &serde_json::Error) -> Reply {
    let what = if error.is_eof() { "it ends too early, at" } else { "syntax error at" };
    not_json(&format!("{what} line {}, column {}", error.line(), error.column()))
}

fn missing(field: &str, what: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` is missing: give {what}.")).with_param(field)
}

fn wrong(field: &str, what: &str) -> Reply {
    Reply::new(Code::InvalidRequest, format!("Field `{field}` must be {what}.")).with_param(field)
}

/// Fields of an object in their order, values untouched.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

/// Writes an LLM-Bridge body as OpenAI's: `provider` goes, the members of `parameters` move to
/// the top level, where a field already there wins. `None` when there is nothing to change.
fn lift(text: &str, drop_provider: bool, parameters: Option<&RawValue>) -> Result<Option<Bytes>, Reply> {
    let inner = match parameters {
        None => Vec::new(),
        Some(raw) if raw.get().starts_with('{') => fields_of(raw.get())?,
        Some(_) => return Err(wrong("parameters", "an object")),
    };
    if inner.len() > PARAMETERS_MAX {
        return Err(wrong("parameters", &format!("an object of at most {PARAMETERS_MAX} members")));
    }
    let drop = |key: &str| key == "parameters" || (drop_provider && key == "provider");
    let mut fields = fields_of(text)?;
    fields.retain(|(key, _)| !drop(key));
    for (key, value) in inner {
        if !drop(&key) && fields.iter().all(|(present, _)| *present != key) {
            fields.push((key, value));
        }
    }
    write_object(&fields, text.len()).map(Some)
}

fn write_object(fields: &[(String, &RawValue)], bytes: usize) -> Result<Bytes, Reply> {
    let mut out = Vec::with_capacity(bytes);
    for (key, value) in fields {
        out.push(if out.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut out, key)
            .map_err(|_| Reply::new(Code::InternalError, "The request could not be rewritten."))?;
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    Ok(out.into())
}

fn fields_of(text: &str) -> Result<Vec<(String, &RawValue)>, Reply> {
    serde_json::from_str::<Fields<'_>>(text).map(|f| f.0).map_err(|e| at(&e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chat(body: &str) -> Result<LlmRequest, Reply> {
        LlmRequest::read(Endpoint::ChatCompletions, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_body_in_openais_form_passes_on_untouched() {
        let body = Bytes::from_static(
            br#" {"x-unknown": 1e999, "messages" : [ {"role":"user","content":"\u4f60"} ],"model":"m\u0031", "stream":true} "#,
        );
        let request = LlmRequest::read(Endpoint::ChatCompletions, body.clone()).expect("valid");
        assert_eq!(request.body.as_ptr(), body.as_ptr());
        assert_eq!(request.model, "m1");
        assert_eq!(request.provider, None);
    }

    #[test]
    fn an_llm_bridge_body_is_lifted_and_explicit_fields_win() {
        let request = chat(
            r#"{"provider":"openai","model":"m","messages":[{"content":"a \" b"}],"max_tokens":5,
               "parameters":{"temperature":0.70,"max_tokens":100,"provider":"x"}}"#,
        )
        .expect("valid");
        assert_eq!(request.provider.as_deref(), Some("openai"));
        assert_eq!(
            request.body,
            r#"{"model":"m","messages":[{"content":"a \" b"}],"max_tokens":5,"temperature":0.70}"#
        );
    }

    #[test]
    fn another_model_changes_nothing_else() {
        let request =
            chat(r#"{"a":1e999, "model":"m","stream":true,"max_tokens":7,"messages":[{"model":"m"}]}"#);
        let request = request.expect("valid");
        assert!(request.stream && request.answer_tokens == Some(7));
        assert_eq!(request.for_model("m").expect("same").body.as_ptr(), request.body.as_ptr());
        let other = request.for_model("n\"n").expect("rewritten");
        assert_eq!(other.model, "n\"n");
        assert_eq!(
            other.body,
            r#"{"a":1e999,"model":"n\"n","stream":true,"max_tokens":7,"messages":[{"model":"m"}]}"#
        );
    }

    #[test]
    fn a_provider_object_is_none_of_our_business() {
        let body = r#"{"provider":{"order":["a"]},"model":"m","messages":[{}]}"#;
        let request = chat(body).expect("valid");
        assert_eq!((request.provider, &request.body[..]), (None, body.as_bytes()));
    }

    #[test]
    fn each_mistake_has_its_code_and_names_its_field() {
        for (body, code, param) in [
            ("", Code::InvalidJson, None),
            ("  ", Code::InvalidJson, None),
            ("{", Code::InvalidJson, None),
            ("{} x", Code::InvalidJson, None),
            ("[1", Code::InvalidJson, None),
            ("[]", Code::InvalidRequest, None),
            ("\"model\"", Code::InvalidRequest, None),
            (r#"{"model":"a","model":"b","messages":[{}]}"#, Code::InvalidRequest, None),
            (r#"{"messages":[{}]}"#, Code::InvalidRequest, Some("model")),
            (r#"{"model":null,"messages":[{}]}"#, Code::InvalidRequest, Some("model")),
            (r#"{"model":7,"messages":[{}]}"#, Code::InvalidRequest, Some("model")),
            (r#"{"model":"","messages":[{}]}"#, Code::InvalidRequest, Some("model")),
            (r#"{"model":"m"}"#, Code::InvalidRequest, Some("messages")),
            (r#"{"model":"m","messages":"hi"}"#, Code::InvalidRequest, Some("messages")),
            (r#"{"model":"m","messages":[ ]}"#, Code::InvalidRequest, Some("messages")),
            (r#"{"model":"m","messages":[{}],"stream":1}"#, Code::InvalidRequest, Some("stream")),
            (r#"{"model":"m","messages":[{}],"parameters":1}"#, Code::InvalidRequest, Some("parameters")),
        ] {
            let reply = chat(body).expect_err(body);
            assert_eq!((reply.code, reply.param.as_deref()), (code, param), "{body}: {}", reply.message);
        }
    }

    #[test]
    fn an_anthropic_body_is_not_llm_bridges() {
        let body =
            Bytes::from_static(br#"{"provider":"p","model":"m","messages":[{}],"parameters":{"a":1}}"#);
        let request = LlmRequest::read(Endpoint::Messages, body.clone()).expect("valid");
        assert_eq!((request.provider, request.body), (None, body));
    }

    #[test]
    fn errors_say_where_but_never_quote_the_body() {
        let reply = chat("{\"model\":\"m\",\n\"messages\": secret}").expect_err("broken");
        assert!(reply.message.contains("line 2") && !reply.message.contains("secret"), "{}", reply.message);
        let reply = LlmRequest::read(Endpoint::Embeddings, Bytes::from_static(b"{\"a\":\"\xff\"}"));
        assert_eq!(reply.expect_err("not UTF-8").code, Code::InvalidJson);
    }

    #[test]
    fn each_endpoint_asks_for_its_own_content() {
        let body = Bytes::from_static(br#"{"model":"m"}"#);
        for (endpoint, field) in [(Endpoint::Completions, "prompt"), (Endpoint::Embeddings, "input")] {
            let reply = LlmRequest::read(endpoint, body.clone()).expect_err(field);
            assert_eq!(reply.param.as_deref(), Some(field));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = LlmRequest::read(Endpoint::ChatCompletions, Bytes::from(bytes));
        }

        #[test]
        fn lifting_loses_and_adds_nothing(
            top in proptest::collection::btree_map("[a-z\"\\\\]{1,4}", any::<i64>(), 0..6),
            inner in proptest::collection::btree_map("[a-z\"\\\\]{1,4}", any::<i64>(), 0..6),
        ) {
            let mut sent = serde_json::json!({"model": "m", "messages": [{}], "provider": "p"});
            let mut expected = serde_json::json!({"model": "m", "messages": [{}]});
            for (key, value) in &top {
                sent[key] = (*value).into();
                expected[key] = (*value).into();
            }
            for (key, value) in &inner {
                sent["parameters"][key] = (*value).into();
                if expected.get(key).is_none() {
                    expected[key] = (*value).into();
                }
            }
            let request = LlmRequest::read(Endpoint::ChatCompletions, sent.to_string().into()).expect("valid");
            let got: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
            prop_assert_eq!(got, expected);
        }
    }
}
