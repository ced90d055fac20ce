//! Several answers to one question, for providers that give one at a time: each is asked for in a
//! request of its own, and together they are the choices of one answer, as OpenAI's `n` wants them.

use super::{Exchange, Format, Front, StreamTranslator, openai};
use crate::chat::TokenUsage;

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
    ended: bool,
}

impl ChoicesTranslator {
    /// A translator at the start of so many streams.
    #[must_use]
    pub fn new(provider: Format, caller: Front, exchange: &Exchange, count: usize) -> Self {
        let id = format!("chatcmpl-{}", exchange.request_id);
        let choice = |index| StreamTranslator::of_choice(provider, caller, exchange, index, &id);
        let choices = (0..u32::try_from(count).unwrap_or(u32::MAX)).map(choice).collect();
        Self { choices, caller, exchange: exchange.clone(), id, ended: false }
    }

    /// Feeds a chunk of a choice's stream and appends to `out` what can be said of it.
    pub fn push(&mut self, choice: usize, chunk: &[u8], out: &mut Vec<u8>) {
        if let Some(translator) = self.choices.get_mut(choice).filter(|_| !self.ended) {
            translator.push(chunk, out);
            self.settle(choice, out);
        }
    }

    /// A choice's stream is over.
    pub fn close(&mut self, choice: usize, out: &mut Vec<u8>) {
        if let Some(translator) = self.choices.get_mut(choice).filter(|_| !self.ended) {
            translator.close(out);
            self.settle(choice, out);
        }
    }

    /// Whether a choice needs no more of its stream.
    #[must_use]
    pub fn has_ended(&self, choice: usize) -> bool {
        self.ended || self.choices.get(choice).is_none_or(StreamTranslator::has_ended)
    }

    /// Whether the caller's stream has had its last event, good or bad.
    #[must_use]
    pub const fn all_have_ended(&self) -> bool {
        self.ended
    }

    fn settle(&mut self, choice: usize, out: &mut Vec<u8>) {
        if self.choices.get(choice).is_some_and(StreamTranslator::has_failed) {
            self.ended = true;
        } else if self.choices.iter().all(StreamTranslator::has_ended) {
            self.ended = true;
            let told = self.choices.iter().filter_map(StreamTranslator::told);
            let usage = told.clone().fold(TokenUsage::default(), |sum, (_, usage)| sum + usage);
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
