//! What became of a request, for the sidecar to learn from: every one is counted by its attributes,
//! and failures by what they say. Nothing here asks the host for anything on a success.

use std::rc::Rc;

use tidegate_core::chat::RequestView;
use tidegate_core::event::{
    ATTRIBUTES, Attribute, Counter, ERROR_HEAD_BYTES, ErrorEvent, PathTemplate, VALUE_BYTES_MAX,
    prompt_length,
};
use tidegate_core::incident::matcher::Values;
use tidegate_core::incident::{ErrorText, Signature, Source, StatusClass};
use tidegate_core::policy::SamplerPolicy;
use tidegate_core::route::RouteClass;

use super::Exchange;
use super::response::Ending;
use super::sanitise::Head;
use crate::outbox::Offered;
use crate::ports::StreamHost;
use crate::traffic::{Row, Tuple};
use crate::verdicts::Caller;
use crate::vm::Vm;

/// What is observed of one request.
#[derive(Debug, Default)]
pub struct Watch {
    /// Which requests this one is counted with.
    pub tuple: Option<Rc<Tuple>>,
    row: Option<Rc<Row>>,
    /// The beginning of an error's body.
    head: Vec<u8>,
    wants_head: bool,
    /// The answer was the sidecar's own refusal, about which nothing is to be learnt.
    is_own_refusal: bool,
}

/// What the answer's headers say that matters here.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerHead<'a> {
    /// `x-gateway-provider`.
    pub provider: &'a [u8],
    /// [`tidegate_core::wire::header::PROVIDER_KEY`].
    pub provider_key: &'a [u8],
    /// The body is compressed.
    pub is_encoded: bool,
    /// A policy in the sidecar refused.
    pub is_by_policy: bool,
}

impl Watch {
    /// Takes a piece of the answer while the beginning of an error is wanted.
    pub fn take_chunk(&mut self, host: &impl StreamHost, bytes: usize) {
        if self.wants_head {
            let left = ERROR_HEAD_BYTES.saturating_sub(self.head.len());
            self.head.extend(host.response_body(bytes.min(left)));
            self.wants_head = self.head.len() < ERROR_HEAD_BYTES;
        }
    }
}

/// The values of a request's attributes, borrowed from wherever they are. `route` is the operation
/// or the name of the Envoy route.
pub fn describe<'a>(
    head: &'a Head,
    caller: Option<&'a Caller>,
    route: &'a str,
    path: &'a PathTemplate,
    body: Option<(&RequestView<'a>, usize)>,
) -> Values<'a> {
    let mut values: Values<'a> = [&[]; ATTRIBUTES];
    let mut set = |attribute: Attribute, value: &'a [u8]| {
        if let Some(slot) = values.get_mut(attribute as usize) {
            *slot = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
        }
    };
    if let Some(caller) = caller {
        set(Attribute::Tenant, caller.identity.tenant.as_bytes());
        set(Attribute::Key, caller.identity.key.as_deref().unwrap_or_default().as_bytes());
    }
    set(Attribute::Route, route.as_bytes());
    set(Attribute::Path, path.as_str().as_bytes());
    set(Attribute::Method, head.method.as_bytes());
    set(Attribute::Region, &head.region);
    if let Some((body, bytes)) = body {
        let model = body.model_raw;
        set(Attribute::Model, model.get(1..model.len().saturating_sub(1)).unwrap_or_default());
        set(Attribute::Stream, truth(body.stream));
        set(Attribute::Tools, truth(body.has_tools));
        set(Attribute::PromptLength, prompt_length(bytes).as_bytes());
    }
    values
}

const fn truth(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

impl Exchange {
    /// The answer's headers: who answered, and whether there will be an error to read.
    pub(super) fn watch_headers(&mut self, vm: &mut Vm, answer: AnswerHead<'_>) {
        let Some(tuple) = &self.watch.tuple else { return };
        let status = self.response.status;
        // What the sidecar refuses without having asked a provider is the caller's or ours to mend.
        let is_llm = matches!(self.head.class, RouteClass::Llm(_));
        self.watch.is_own_refusal =
            answer.is_by_policy || (is_llm && answer.provider.is_empty() && (400..500).contains(&status));
        self.watch.wants_head = status >= 400 && !answer.is_encoded;
        self.watch.row = Some(vm.traffic.row(tuple, answer.provider, answer.provider_key));
    }

    /// The request is over: counts it, and its failure with what it says.
    pub(super) fn watch_end(&mut self, vm: &mut Vm, host: &impl StreamHost, ending: Ending, now_ns: u64) {
        let (Some(tuple), Some(policy)) = (self.watch.tuple.take(), self.policy.clone()) else {
            return;
        };
        if ending == Ending::Untold || self.watch.is_own_refusal {
            return;
        }
        let row = self.watch.row.take().unwrap_or_else(|| vm.traffic.row(&tuple, b"", b""));
        if ending == Ending::Good {
            row.count(None);
            return;
        }
        let seen = self.seen(host, ending);
        row.count(Some(seen.signature));
        let now_ms = now_ns / 1_000_000;
        record(vm, &policy.snapshot.sampler, seen, &row, now_ms);
    }

    /// What the failure says, masked.
    fn seen(&self, host: &impl StreamHost, ending: Ending) -> Seen {
        let stream_failure = self.stream_failure();
        let flags = host.response_flags();
        let (source, said) = match ending {
            Ending::StreamFailed if !stream_failure.is_empty() => (Source::Stream, text(stream_failure)),
            Ending::StreamFailed => (Source::Stream, "the stream ended before its end".to_owned()),
            Ending::Cut => (Source::Envoy, flag_words(flags).unwrap_or("the answer was cut").to_owned()),
            _ => match flag_words(flags) {
                Some(words) => (Source::Envoy, words.to_owned()),
                None if self.head.class == RouteClass::Other => (Source::Upstream, text(&self.watch.head)),
                None => (Source::Provider, text(&self.watch.head)),
            },
        };
        let status = self.response.status;
        let read = ErrorText::read(&said);
        let template = read.template();
        let class = StatusClass::of(Some(status));
        let signature = Signature::of(class, source, &read.codes, &template);
        Seen { status, source, codes: read.codes, template, signature }
    }
}

/// A failure, without anything of its request.
struct Seen {
    status: u16,
    source: Source,
    codes: Vec<String>,
    template: String,
    signature: Signature,
}

fn record(vm: &mut Vm, sampler: &SamplerPolicy, seen: Seen, row: &Row, now_ms: u64) {
    if !vm.outbox.wants(seen.signature, sampler, now_ms) {
        vm.counts.add(Counter::EventCounted);
        return;
    }
    let Seen { status, source, codes, template, signature } = seen;
    let event = ErrorEvent {
        number: 0,
        at_ms: now_ms,
        status,
        source,
        codes,
        template,
        signature,
        attributes: row.attributes(),
    };
    vm.counts.add(Counter::EventSampled);
    if vm.outbox.push(event, sampler) == Offered::Displaced {
        vm.counts.add(Counter::EventDropped);
    }
}

/// Bytes that are no text say nothing.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Cut within a character.
        Err(e) if e.error_len().is_none() => {
            let whole = bytes.get(..e.valid_up_to()).unwrap_or_default();
            String::from_utf8_lossy(whole).into_owned()
        }
        Err(_) => String::new(),
    }
}

/// Envoy's flags in words, where they say that the upstream failed (`CoreResponseFlag` in
/// envoy/stream_info/stream_info.h, by bit).
fn flag_words(flags: u64) -> Option<&'static str> {
    const WORDS: [(u32, &str); 9] = [
        (1, "no healthy upstream"),
        (2, "upstream request timeout"),
        (4, "upstream connection was reset by the upstream"),
        (5, "upstream connection failed"),
        (6, "upstream connection was closed"),
        (7, "upstream has too many requests pending"),
        (17, "upstream was not reached within the retry limit"),
        (20, "upstream broke its protocol"),
        (24, "no upstream in the cluster"),
    ];
    WORDS.iter().find(|(bit, _)| flags & (1 << bit) != 0).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_cut_counts_and_binary_does_not() {
        assert_eq!(text("限额".as_bytes()), "限额");
        assert_eq!(text(&"限额".as_bytes()[..5]), "限");
        assert_eq!(text(&[0x1f, 0x8b, 0xff, 0x00]), "");
        assert_eq!(flag_words(1 << 2), Some("upstream request timeout"));
        assert_eq!(flag_words(0), None);
    }
}
