//! Several answers as the choices of one, as OpenAI's `n` and the several prompts of its older
//! completions want them. Providers that give one at a time are asked for each in a request of its
//! own; others send the pieces of all answers to a prompt in one stream.

use super::{Exchange, Format, Front, StreamTranslator, openai};
use crate::chat::{ChatRequest, Part, Role, Turn};

/// Most answers to one prompt: each may cost a request, and its prompt once more.
pub const CHOICES_MAX: u64 = 8;
/// Most answers to all prompts of one request.
pub const ANSWERS_MAX: u64 = 32;

/// Requests instead of one that asks for several answers.
#[derive(Debug)]
pub struct Split {
    /// Prompt by prompt, and answer by answer where the model gives one at a time: in the order in
    /// which OpenAI numbers choices.
    pub requests: Vec<ChatRequest>,
    /// Answers to each of them.
    pub answers: u32,
}

/// Takes a request for several answers apart for a provider. With a seed, each answer to a prompt has
/// one of its own, or all would be the same.
#[must_use]
pub fn split(provider: Format, mut request: ChatRequest) -> Split {
    let wanted = request.alternatives + 1;
    let together = if provider.gives_several(&request.model) { wanted } else { 1 };
    let answers = u32::try_from(together).unwrap_or(u32::MAX);
    if wanted == together && request.other_prompts.is_empty() {
        return Split { requests: vec![request], answers };
    }
    let others = std::mem::take(&mut request.other_prompts).into_iter().map(|prompt| ChatRequest {
        turns: vec![Turn { role: Role::User, parts: vec![Part::Text(prompt)] }],
        ..request.clone()
    });
    let prompts: Vec<_> = others.collect();
    let apart = |request: ChatRequest| {
        (0..wanted / together).map(move |choice| ChatRequest {
            seed: request.seed.map(|seed| seed.wrapping_add(choice.cast_signed())),
            alternatives: together - 1,
            ..request.clone()
        })
    };
    let requests = std::iter::once(request).chain(prompts).flat_map(apart).collect();
    Split { requests, answers }
}

/// Translates the streams of all choices into one. Its events come in the order in which the
/// pieces do; each names its choice. It ends with the usage of all when the last choice has ended,
/// or with the first one's error.
#[derive(Debug)]
pub struct ChoicesTranslator {
    streams: Vec<StreamTranslator>,
    caller: Front,
    exchange: Exchange,
    id: String,
    ended: bool,
}

impl ChoicesTranslator {
    /// A translator at the start of so many streams with so many answers each.
    #[must_use]
    pub fn new(provider: Format, caller: Front, exchange: &Exchange, streams: u32, answers: u32) -> Self {
        let id = format!("chatcmpl-{}", exchange.request_id);
        let stream = |index: u32| {
            let numbers = index * answers..(index + 1) * answers;
            StreamTranslator::of_choices(provider, caller, exchange, numbers, &id)
        };
        let streams = (0..streams).map(stream).collect();
        Self { streams, caller, exchange: exchange.clone(), id, ended: false }
    }

    /// Feeds a chunk of a stream and appends to `out` what can be said of it.
    pub fn push(&mut self, stream: usize, chunk: &[u8], out: &mut Vec<u8>) {
        if let Some(translator) = self.streams.get_mut(stream).filter(|_| !self.ended) {
            translator.push(chunk, out);
            self.settle(stream, out);
        }
    }

    /// A stream is over.
    pub fn close(&mut self, stream: usize, out: &mut Vec<u8>) {
        if let Some(translator) = self.streams.get_mut(stream).filter(|_| !self.ended) {
            translator.close(out);
            self.settle(stream, out);
        }
    }

    /// Whether no more of a stream is needed.
    #[must_use]
    pub fn has_ended(&self, stream: usize) -> bool {
        self.ended || self.streams.get(stream).is_none_or(StreamTranslator::has_ended)
    }

    /// Whether the caller's stream has had its last event, good or bad.
    #[must_use]
    pub const fn all_have_ended(&self) -> bool {
        self.ended
    }

    fn settle(&mut self, stream: usize, out: &mut Vec<u8>) {
        if self.streams.get(stream).is_some_and(StreamTranslator::has_failed) {
            self.ended = true;
        } else if self.streams.iter().all(StreamTranslator::has_ended) {
            self.ended = true;
            let told = self.streams.iter().flat_map(StreamTranslator::told);
            let usage = told.clone().map(|(_, usage)| usage).sum();
            let model = told.map(|(model, _)| model).next().unwrap_or_default();
            let end = openai::End { id: &self.id, model, usage };
            openai::write_end(self.caller, &self.exchange, &end, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXTS: [&str; 3] = ["one", "zwei", "三"];

    fn stream(text: &str) -> String {
        [
            r#"{"type":"message_start","message":{"id":"msg_X","model":"m","usage":{"input_tokens":5,"output_tokens":1}}}"#.to_owned(),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
            format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#),
            r#"{"type":"content_block_stop","index":0}"#.to_owned(),
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#.to_owned(),
            r#"{"type":"message_stop"}"#.to_owned(),
        ]
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect()
    }

    fn exchange() -> Exchange {
        Exchange { created: 1, include_usage: true, request_id: "r".to_owned(), ..Exchange::default() }
    }

    fn events(out: &[u8]) -> Vec<&str> {
        let text = std::str::from_utf8(out).expect("UTF-8");
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("an event")).collect()
    }

    proptest! {
        #[test]
        fn choices_stay_apart_however_their_pieces_come(
            order in proptest::collection::vec((0..3usize, 1..200usize), 0..60),
        ) {
            for front in [Front::Chat, Front::Completions] {
                let streams = TEXTS.map(stream);
                let mut places = [0; 3];
                let mut translator = ChoicesTranslator::new(Format::Anthropic, front, &exchange(), 3, 1);
                let mut out = Vec::new();
                let rest = (0..3).map(|choice| (choice, usize::MAX));
                for (choice, bytes) in order.iter().copied().chain(rest) {
                    let left = &streams[choice].as_bytes()[places[choice]..];
                    let chunk = &left[..bytes.min(left.len())];
                    places[choice] += chunk.len();
                    translator.push(choice, chunk, &mut out);
                }
                prop_assert!(translator.all_have_ended());
                let events = events(&out);
                prop_assert_eq!(events.last(), Some(&"[DONE]"));
                let mut said: [String; 3] = Default::default();
                let mut finished = [0; 3];
                for event in &events[..events.len() - 2] {
                    let chunk: serde_json::Value = serde_json::from_str(event).expect("JSON");
                    prop_assert_eq!(&chunk["id"], "chatcmpl-r");
                    let choice = &chunk["choices"][0];
                    let index = usize::try_from(choice["index"].as_u64().expect("an index")).expect("small");
                    let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
                    said[index].push_str(text.unwrap_or_default());
                    finished[index] += usize::from(choice["finish_reason"] == "stop");
                }
                prop_assert_eq!(said, TEXTS);
                prop_assert_eq!(finished, [1; 3]);
                let last: serde_json::Value = serde_json::from_str(events[events.len() - 2]).expect("JSON");
                prop_assert_eq!(&last["usage"]["prompt_tokens"], 15);
                prop_assert_eq!(&last["usage"]["completion_tokens"], 21);
            }
        }
    }

    fn shared(pieces: &[&str], closed: bool) -> Vec<serde_json::Value> {
        let mut translator = ChoicesTranslator::new(Format::Gemini, Front::Chat, &exchange(), 1, 3);
        let mut out = Vec::new();
        for piece in pieces {
            assert!(!translator.has_ended(0));
            translator.push(0, format!("data: {piece}\r\n\r\n").as_bytes(), &mut out);
        }
        if closed {
            translator.close(0, &mut out);
        }
        assert!(translator.all_have_ended());
        let events = events(&out);
        let json = |event: &&&str| **event != "[DONE]";
        events.iter().filter(json).map(|event| serde_json::from_str(event).expect("JSON")).collect()
    }

    #[test]
    fn candidates_of_one_stream_are_told_apart_by_their_index() {
        let chunks = shared(
            &[
                r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"zw"}]}},{"content":{"parts":[{"text":"one"}]}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2},"modelVersion":"g"}"#,
                r#"{"candidates":[{"index":2,"content":{"parts":[{"text":"三"}]},"finishReason":"STOP"},{"finishReason":"MAX_TOKENS"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":4}}"#,
                r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"ei"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":6}}"#,
            ],
            true,
        );
        let mut said: [String; 3] = Default::default();
        let mut finished = [""; 3];
        for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("choices")) {
            let index = usize::try_from(choice["index"].as_u64().expect("an index")).expect("small");
            said[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            if let Some(reason) = choice["finish_reason"].as_str() {
                finished[index] = reason;
            }
        }
        assert_eq!((said, finished), (TEXTS.map(str::to_owned), ["length", "stop", "stop"]));
        let usage = &chunks.last().expect("an end")["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&5.into(), &6.into()));
    }

    #[test]
    fn a_candidate_that_never_comes_is_none_and_one_left_unfinished_is_an_error() {
        let first = r#"{"candidates":[{"content":{"parts":[{"text":"one"}]},"finishReason":"STOP"}]}"#;
        let chunks = shared(&[first], true);
        assert!(chunks.iter().all(|chunk| chunk["error"].is_null()), "{chunks:?}");
        let half = r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"zw"}]}}]}"#;
        let chunks = shared(&[first, half], true);
        assert_eq!(chunks.last().expect("an end")["error"]["code"], "upstream_error");
        let refused = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
        let chunks = shared(&[refused], true);
        let reasons: Vec<_> =
            chunks.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(reasons, ["content_filter"]);
    }

    /// Two prompts, two answers to each: choices 0 and 1 come in the first stream.
    #[test]
    fn candidates_of_several_prompts_are_numbered_prompt_by_prompt() {
        let mut translator = ChoicesTranslator::new(Format::Gemini, Front::Completions, &exchange(), 2, 2);
        let mut out = Vec::new();
        let end = r#""finishReason":"STOP""#;
        for (stream, index, text) in [(1, 1, "d"), (0, 1, "b"), (1, 0, "c"), (0, 0, "a")] {
            let parts = format!(r#"[{{"text":"{text}"}}]"#);
            let piece = format!(
                r#"{{"candidates":[{{"index":{index},"content":{{"parts":{parts}}},{end}}}],"usageMetadata":{{"promptTokenCount":5,"candidatesTokenCount":2}}}}"#
            );
            translator.push(stream, format!("data: {piece}\n\n").as_bytes(), &mut out);
        }
        translator.close(0, &mut out);
        assert!(!translator.all_have_ended() && translator.has_ended(0));
        translator.close(1, &mut out);
        assert!(translator.all_have_ended());
        let events = events(&out);
        let chunks = events[..events.len() - 1].iter();
        let chunks: Vec<serde_json::Value> =
            chunks.map(|event| serde_json::from_str(event).expect("JSON")).collect();
        let said = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).filter_map(|choice| {
            let text = choice["text"].as_str().filter(|text| !text.is_empty())?;
            Some((choice["index"].as_u64()?, text))
        });
        assert_eq!(said.collect::<Vec<_>>(), [(3, "d"), (1, "b"), (2, "c"), (0, "a")]);
        let usage = &chunks.last().expect("an end")["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&10.into(), &4.into()));
    }

    #[test]
    fn each_prompt_is_asked_as_often_as_the_model_needs() {
        let request = ChatRequest {
            model: "m".to_owned(),
            turns: vec![Turn { role: Role::User, parts: vec![Part::Text("a".to_owned())] }],
            other_prompts: vec!["b".to_owned()],
            alternatives: 2,
            seed: Some(5),
            ..ChatRequest::default()
        };
        let asked = |provider, model: &str| {
            let Split { requests, answers } =
                split(provider, ChatRequest { model: model.to_owned(), ..request.clone() });
            let told = requests.iter().map(|request| match &*request.turns[0].parts {
                [Part::Text(text)] => (text.clone(), request.seed, request.alternatives),
                parts => panic!("{parts:?}"),
            });
            assert!(requests.iter().all(|request| request.other_prompts.is_empty()));
            (told.collect::<Vec<_>>(), answers)
        };
        let one = |text: &str, seed| (text.to_owned(), Some(seed), 0);
        let each = [one("a", 5), one("a", 6), one("a", 7), one("b", 5), one("b", 6), one("b", 7)];
        assert_eq!(asked(Format::Anthropic, "m"), (each.to_vec(), 1));
        let at_once = ["a", "b"].map(|text| (text.to_owned(), Some(5), 2));
        assert_eq!(asked(Format::Gemini, "gemini-2.5-flash"), (at_once.to_vec(), 3));
    }

    #[test]
    fn one_choice_that_fails_ends_them_all() {
        let mut translator = ChoicesTranslator::new(Format::Anthropic, Front::Chat, &exchange(), 2, 1);
        let mut out = Vec::new();
        translator.push(0, stream("one").as_bytes(), &mut out);
        assert!(translator.has_ended(0) && !translator.has_ended(1) && !translator.all_have_ended());
        out.clear();
        let error =
            b"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n";
        translator.push(1, error, &mut out);
        assert!(translator.all_have_ended());
        assert!(events(&out).last().is_some_and(|event| event.contains("\"error\"")), "{out:?}");
        translator.push(1, stream("late").as_bytes(), &mut out);
        assert_eq!(events(&out).len(), 1, "nothing comes after an error");
    }
}
