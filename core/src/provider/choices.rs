//! Several answers to one question as the choices of one, as OpenAI's `n` wants them. Providers that
//! give one at a time are asked for each in a request of its own; others send the pieces of all in
//! one stream.

use super::{Exchange, Format, Front, StreamTranslator, openai};

/// Most choices that are asked for one by one: each costs a request, and its prompt once more.
pub const CHOICES_MAX: u64 = 8;

/// Translates the streams of all choices into one. Its events come in the order in which the
/// pieces do; each names its choice. It ends with the usage of all when the last choice has ended,
/// or with the first one's error.
#[derive(Debug)]
pub struct ChoicesTranslator {
    choices: Vec<StreamTranslator>,
    caller: Front,
    exchange: Exchange,
    id: String,
    /// All come in one stream.
    shared: bool,
    ended: bool,
}

impl ChoicesTranslator {
    /// A translator at the start of so many streams.
    #[must_use]
    pub fn new(provider: Format, caller: Front, exchange: &Exchange, count: usize) -> Self {
        let id = format!("chatcmpl-{}", exchange.request_id);
        let choice = |index| StreamTranslator::of_choice(provider, caller, exchange, index, &id);
        let choices = (0..u32::try_from(count).unwrap_or(u32::MAX)).map(choice).collect();
        Self { choices, caller, exchange: exchange.clone(), id, shared: false, ended: false }
    }

    /// The same for choices that all come in one stream, which counts as the first one's.
    #[must_use]
    pub fn of_one_stream(provider: Format, caller: Front, exchange: &Exchange, count: usize) -> Self {
        let mut translator = Self::new(provider, caller, exchange, count);
        let numbered = (0..).zip(std::mem::take(&mut translator.choices));
        let choices = numbered.map(|(index, choice)| choice.of_candidate(index)).collect();
        Self { choices, shared: true, ..translator }
    }

    /// Feeds a chunk of a choice's stream and appends to `out` what can be said of it.
    pub fn push(&mut self, choice: usize, chunk: &[u8], out: &mut Vec<u8>) {
        if self.shared {
            self.each(out, |translator, out| translator.push(chunk, out));
        } else if let Some(translator) = self.choices.get_mut(choice).filter(|_| !self.ended) {
            translator.push(chunk, out);
            self.settle(choice, out);
        }
    }

    /// A choice's stream is over.
    pub fn close(&mut self, choice: usize, out: &mut Vec<u8>) {
        if self.shared {
            self.each(out, |translator, out| {
                translator.close(out);
                translator.break_off(out);
            });
        } else if let Some(translator) = self.choices.get_mut(choice).filter(|_| !self.ended) {
            translator.close(out);
            self.settle(choice, out);
        }
    }

    /// Whether a choice needs no more of its stream.
    #[must_use]
    pub fn has_ended(&self, choice: usize) -> bool {
        self.ended || (!self.shared && self.choices.get(choice).is_none_or(StreamTranslator::has_ended))
    }

    /// Whether the caller's stream has had its last event, good or bad.
    #[must_use]
    pub const fn all_have_ended(&self) -> bool {
        self.ended
    }

    /// Does the same with every choice, until one has failed.
    fn each(&mut self, out: &mut Vec<u8>, act: impl Fn(&mut StreamTranslator, &mut Vec<u8>)) {
        for choice in 0..self.choices.len() {
            if let Some(translator) = self.choices.get_mut(choice).filter(|_| !self.ended) {
                act(translator, out);
                self.settle(choice, out);
            }
        }
    }

    fn settle(&mut self, choice: usize, out: &mut Vec<u8>) {
        if self.choices.get(choice).is_some_and(StreamTranslator::has_failed) {
            self.ended = true;
        } else if self.choices.iter().all(StreamTranslator::has_ended) {
            self.ended = true;
            let told = self.choices.iter().filter_map(StreamTranslator::told);
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
                let mut translator = ChoicesTranslator::new(Format::Anthropic, front, &exchange(), 3);
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
        let mut translator =
            ChoicesTranslator::of_one_stream(Format::Gemini, Front::Chat, &exchange(), TEXTS.len());
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

    #[test]
    fn one_choice_that_fails_ends_them_all() {
        let mut translator = ChoicesTranslator::new(Format::Anthropic, Front::Chat, &exchange(), 2);
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
