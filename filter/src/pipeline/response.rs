//! The answer's way back: observe (for the breaker and the counters), store, settle.
//!
//! Nothing is changed in a body that passes, except when Envoy could not reach the sidecar: its
//! plain-text 503 becomes one in the caller's protocol that says when to come back.

use tidegate_core::cache::Kind;
use tidegate_core::cache::control::response_may_be_stored;
use tidegate_core::cache::slots::SET_BYTES;
use tidegate_core::event::Counter;
use tidegate_core::reply::{Code, Reply};
use tidegate_core::route::RouteClass;
use tidegate_core::sse::{Scanner, Usage};
use tidegate_core::wire::header;

use super::limit::Used;
use super::observe::AnswerHead;
use super::{Exchange, Phase, l1, l2};
use crate::headers::HeaderMap;
use crate::ports::StreamHost;
use crate::vm::Vm;

/// When to try again if the sidecar is away, in milliseconds.
const SIDECAR_RETRY_MS: u64 = 1_000;
/// Envoy's response flags for an upstream that failed in mid-answer: upstream request timeout,
/// upstream remote reset, upstream connection termination (`CoreResponseFlag` in
/// envoy/stream_info/stream_info.h).
const UPSTREAM_FAILED_FLAGS: u64 = 1 << 2 | 1 << 4 | 1 << 6;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Whole, and no error.
    Good,
    /// With a status of 400 or more.
    Refused,
    /// A stream that began well and had an error inside, or no end.
    StreamFailed,
    /// The upstream broke off.
    Cut,
    /// Nothing is known: the client left, the sidecar was not reached, or this filter answered.
    Untold,
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub struct Observation {
    pub(super) status: u16,
    ended: bool,
    /// When it was complete, if the clock was read then.
    ended_ns: Option<u64>,
    failed: bool,
    stream: Option<Scanner>,
    store: Option<Pending>,
    /// An answer that is read for its usage alone.
    unstored: Option<Vec<u8>>,
    replacement: Option<Vec<u8>>,
}

/// An answer that is being collected to be stored.
#[derive(Debug)]
struct Pending {
    /// Where in L1.
    place: Option<l1::Place>,
    /// Under which name for the semantic cache.
    ticket: Option<String>,
    kind: Kind,
    provider: Vec<u8>,
    model: Vec<u8>,
    body: Vec<u8>,
}

impl Pending {
    /// It is too large, or no good answer.
    fn give_up(&self, vm: &mut Vm) {
        if self.place.is_some() {
            vm.counts.add(Counter::L1Unstorable);
        }
        if self.ticket.is_some() {
            vm.counts.add(Counter::L2Dropped);
        }
    }

    /// Most answers come in one chunk, which is then not copied.
    fn append(&mut self, chunk: Vec<u8>) {
        if self.body.is_empty() {
            self.body = chunk;
        } else {
            self.body.extend_from_slice(&chunk);
        }
    }
}

/// The response headers that matter.
#[derive(Default)]
struct ResponseHead<'a> {
    status: u16,
    content_type: &'a [u8],
    request_id: &'a [u8],
    answered: bool,
    storable: bool,
    provider: &'a [u8],
    model: &'a [u8],
    is_hit: bool,
    /// Something has written headers of the names this filter writes.
    is_marked: bool,
    usage: Option<Usage>,
    watch: AnswerHead<'a>,
}

impl<'a> ResponseHead<'a> {
    fn read(headers: HeaderMap<'a>) -> Self {
        let mut head = Self { storable: true, ..Self::default() };
        for (name, value) in headers.iter() {
            match name {
                b":status" => {
                    head.status = std::str::from_utf8(value).ok().and_then(|s| s.parse().ok()).unwrap_or(0)
                }
                b"content-type" => head.content_type = value,
                b"cache-control" => head.storable &= response_may_be_stored(value),
                b"content-encoding" => {
                    head.watch.is_encoded = !value.eq_ignore_ascii_case(b"identity");
                    head.storable &= !head.watch.is_encoded;
                }
                b"x-request-id" => head.request_id = value,
                b"x-gateway-provider" => (head.provider, head.watch.provider) = (value, value),
                b"x-gateway-model" => head.model = value,
                b"x-gateway-cache" => (head.is_hit, head.is_marked) = (value == b"hit", true),
                _ if name == header::USAGE.as_bytes() => head.usage = usage_of_header(value),
                b"x-gateway-policy" => head.watch.is_by_policy = true,
                _ if name == header::PROVIDER_KEY.as_bytes() => head.watch.provider_key = value,
                _ if name == header::ANSWERED.as_bytes() => head.answered = true,
                _ => head.is_marked |= name.starts_with(b"x-ratelimit-"),
            }
        }
        head
    }

    /// Writes a header of this filter's own.
    fn put(&self, host: &impl StreamHost, name: &str, value: &str) {
        if self.is_marked {
            host.set_response_header(name, value);
        } else {
            host.add_response_header(name, value);
        }
    }

    fn kind(&self) -> Option<Kind> {
        let is = |t: &[u8]| self.content_type.get(..t.len()).is_some_and(|c| c.eq_ignore_ascii_case(t));
        if is(b"text/event-stream") { Some(Kind::Sse) } else { is(b"application/json").then_some(Kind::Json) }
    }
}

impl Exchange {
    /// The answer's headers.
    pub fn on_response_headers(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        headers: HeaderMap<'_>,
        ended: bool,
    ) {
        let head = ResponseHead::read(headers);
        self.response.status = head.status;
        self.response.ended = ended;
        if !matches!(self.phase, Phase::Forwarded) {
            return;
        }
        if head.answered {
            host.remove_response_header(header::ANSWERED);
        }
        if !head.watch.provider_key.is_empty() {
            host.remove_response_header(header::PROVIDER_KEY);
        }
        if !vm.config.request_id_echoed && head.request_id != self.head.request_id.as_bytes() {
            host.set_response_header(header::REQUEST_ID, &self.head.request_id);
        }
        if head.usage.is_some() {
            host.remove_response_header(header::USAGE);
        }
        self.settle_head(vm, host, &head);
        self.limit.each_header(|name, value| head.put(host, name, value));
        if head.status >= 500 && !head.answered && self.is_for_sidecar(vm, host) {
            self.replace_unreachable(host, ended);
            return;
        }
        self.response.failed = head.status >= 500;
        if self.probes.advises && head.status >= 400 {
            host.set_response_header("x-should-retry", "false");
        }
        self.watch_headers(vm, head.watch);
        self.observe(host, &head);
        if ended {
            self.limit.leave(vm, host, self.started_ns);
        }
    }

    /// More of the answer's body: `bytes` are in the host's buffer.
    pub fn on_response_body(&mut self, vm: &mut Vm, host: &impl StreamHost, bytes: usize, ended: bool) {
        self.response.ended = ended;
        if let Some(replacement) = &self.response.replacement {
            host.replace_response_body(bytes, if ended { replacement } else { &[] });
            return;
        }
        self.watch.take_chunk(host, bytes);
        let is_read = self.response.stream.is_some()
            || self.response.store.is_some()
            || self.response.unstored.is_some();
        if bytes > 0 && is_read {
            let chunk = host.response_body(bytes);
            if let Some(scanner) = &mut self.response.stream {
                scanner.push(&chunk);
            }
            self.collect(vm, chunk);
        }
        if ended {
            self.complete(vm, host);
        }
    }

    /// Trailers end a body that did not say it was the end.
    pub fn on_response_trailers(&mut self, vm: &mut Vm, host: &impl StreamHost) {
        self.on_response_body(vm, host, 0, true);
    }

    /// The stream is over, whichever way.
    pub fn on_end(&mut self, vm: &mut Vm, host: &impl StreamHost) {
        if matches!(self.phase, Phase::Fresh) {
            return;
        }
        let now_ns = self.response.ended_ns.unwrap_or_else(|| host.now_ns());
        vm.counts.observe_duration(now_ns.saturating_sub(self.started_ns) / 1_000_000);
        vm.counts.add(match self.response.status {
            _ if matches!(self.phase, Phase::Forwarded) && !self.response.ended => Counter::StreamAborted,
            500.. => Counter::StatusServerError,
            400..=499 => Counter::StatusClientError,
            _ => Counter::StatusOk,
        });
        if self.limit.is_reserved() {
            let used = self.used_at_end(host);
            self.limit.settle(vm, host, used, now_ns);
        }
        self.limit.leave(vm, host, now_ns);
        let ending = self.ending(host);
        self.settle(vm, host, ending, now_ns);
        self.settle_probes(vm, host, ending, now_ns);
        self.watch_end(vm, host, ending, now_ns);
    }

    /// How the answer ended. The host is asked only when it ended early.
    fn ending(&self, host: &impl StreamHost) -> Ending {
        let response = &self.response;
        if !matches!(self.phase, Phase::Forwarded) || response.replacement.is_some() {
            return Ending::Untold;
        }
        match (response.ended, response.status) {
            (true, 400..) => Ending::Refused,
            (true, _) if response.failed => Ending::StreamFailed,
            (true, _) => Ending::Good,
            (false, _) if host.response_flags() & UPSTREAM_FAILED_FLAGS != 0 => Ending::Cut,
            // Whoever leaves after an error has still seen it.
            (false, 400..) => Ending::Refused,
            (false, _) => Ending::Untold,
        }
    }

    /// Sets up what the body has to tell: a stream's outcome, or an answer to store.
    fn observe(&mut self, host: &impl StreamHost, head: &ResponseHead<'_>) {
        if !matches!(self.head.class, RouteClass::Llm(_)) {
            return;
        }
        if let Some(label) = self.l1.label.filter(|_| !head.is_hit) {
            head.put(host, header::CACHE, label);
        }
        let kind = head.kind();
        if kind == Some(Kind::Sse) {
            self.response.stream = Some(Scanner::new());
        }
        // What the sidecar answered by meaning is not kept here as the answer to these very words:
        // who takes it back there must not find it here.
        let (place, ticket) = match (head.status, head.storable && !head.is_hit) {
            (200, true) => (self.l1.take_place(), self.l2.take_ticket()),
            _ => (None, None),
        };
        if let Some(kind) = kind.filter(|_| place.is_some() || ticket.is_some()) {
            let (provider, model) = (head.provider.to_vec(), head.model.to_vec());
            self.response.store = Some(Pending { place, ticket, kind, provider, model, body: Vec::new() });
        } else if self.limit.is_reserved() && kind == Some(Kind::Json) {
            self.response.unstored = Some(Vec::new());
        }
    }

    fn collect(&mut self, vm: &mut Vm, chunk: Vec<u8>) {
        if let Some(body) = &mut self.response.unstored {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > SET_BYTES {
                self.response.unstored = None;
            }
        }
        let Some(pending) = &mut self.response.store else {
            return;
        };
        if (pending.body.len() + chunk.len()) as u64 > SET_BYTES {
            pending.give_up(vm);
            self.response.store = None;
        } else {
            pending.append(chunk);
        }
    }

    /// The answer is complete: is it a good one, and may it be stored?
    fn complete(&mut self, vm: &mut Vm, host: &impl StreamHost) {
        let stream_is_good = self.response.stream.as_ref().map(|s| s.end().is_success());
        self.response.failed |= stream_is_good == Some(false);
        let json = self.read_json(vm);
        self.settle_body(vm, host, json.usage);
        let (Some(pending), Some(policy)) = (self.response.store.take(), self.policy.clone()) else {
            return;
        };
        if !stream_is_good.unwrap_or(json.is_good) {
            pending.give_up(vm);
            return;
        }
        let Pending { place, ticket, kind, provider, model, body } = pending;
        let answer = l1::Answer { kind, provider: &provider, model: &model, body: &body };
        let now_ns = host.now_ns();
        self.response.ended_ns = Some(now_ns);
        if let Some(ticket) = ticket {
            l2::offer(vm, ticket, answer);
        }
        if let Some(place) = place {
            l1::store(vm, host, &policy, place, answer, now_ns);
        }
    }

    /// Settles what the head of the answer decides, so that its headers show it.
    fn settle_head(&mut self, vm: &mut Vm, host: &impl StreamHost, head: &ResponseHead<'_>) {
        let used = match head.usage {
            _ if head.status >= 400 || head.is_hit => Used::Nothing,
            Some(usage) => reported(usage),
            None => return,
        };
        self.limit.settle(vm, host, used, self.started_ns);
    }

    /// What the body says, if it was kept and is JSON.
    fn read_json(&self, vm: &mut Vm) -> JsonAnswer {
        let stored = self.response.store.as_ref().filter(|p| p.kind == Kind::Json).map(|p| &p.body);
        let body = stored.or(self.response.unstored.as_ref());
        body.map_or_else(JsonAnswer::default, |body| JsonAnswer::read(vm, body, self.limit.is_reserved()))
    }

    /// The body is complete: settles what it says, before the client can ask for more.
    fn settle_body(&mut self, vm: &mut Vm, host: &impl StreamHost, usage: Option<Usage>) {
        if self.limit.is_reserved() {
            let used = usage.map_or_else(|| self.used_at_end(host), reported);
            self.limit.settle(vm, host, used, self.started_ns);
        }
        self.limit.leave(vm, host, self.started_ns);
    }

    /// What was used, as far as it came by. A caller that left before there was an answer has had
    /// its prompt read all the same.
    fn used_at_end(&self, host: &impl StreamHost) -> Used {
        if !matches!(self.phase, Phase::Forwarded) || self.response.status >= 400 {
            return Used::Nothing;
        }
        if self.response.status == 0 {
            let upstream_failed = host.response_flags() & UPSTREAM_FAILED_FLAGS != 0;
            return if upstream_failed { Used::Nothing } else { Used::Seen { completion: 0 } };
        }
        let Some(scanner) = &self.response.stream else { return Used::AsReserved };
        let outcome = scanner.end();
        match outcome.usage {
            Some(usage) if outcome.done => reported(usage),
            usage => Used::Seen {
                completion: outcome.events.max(usage.map_or(0, |usage| usage.completion_tokens)),
            },
        }
    }

    /// Tells the breaker how it went. A client that left says nothing about the upstream.
    fn settle(&self, vm: &mut Vm, host: &impl StreamHost, ending: Ending, now_ns: u64) {
        let (Some(guard), Some(policy)) = (&self.breaker, &self.policy) else {
            return;
        };
        match ending {
            _ if self.response.failed => guard.failed(vm, host, &policy.snapshot.breaker, now_ns),
            Ending::Cut => guard.failed(vm, host, &policy.snapshot.breaker, now_ns),
            Ending::Good | Ending::Refused => guard.succeeded(vm, host, &policy.snapshot.breaker, now_ns),
            Ending::StreamFailed | Ending::Untold => {}
        }
    }

    /// The beginning of the error that was sent inside the stream, if one was.
    pub(super) fn stream_failure(&self) -> &[u8] {
        self.response.stream.as_ref().map(Scanner::failure).unwrap_or_default()
    }

    /// Whether this request went to the sidecar; asked only when something is wrong.
    fn is_for_sidecar(&self, vm: &Vm, host: &impl StreamHost) -> bool {
        self.head.class != RouteClass::Other && host.cluster_name() == vm.config.cluster
    }

    /// Envoy could not reach the sidecar: no model's fault, so no breaker hears of it.
    fn replace_unreachable(&mut self, host: &impl StreamHost, ended: bool) {
        let reply = Reply::new(
            Code::SidecarUnavailable,
            "the gateway's sidecar cannot be reached; limits and cached answers go on",
        )
        .retry_after_ms(SIDECAR_RETRY_MS);
        let body = reply.body(self.head.class.protocol(), &self.head.request_id);
        host.set_response_header(":status", &reply.code.status().to_string());
        for (name, value) in reply.retry_headers() {
            host.set_response_header(name, &value);
        }
        self.response.status = reply.code.status();
        if ended {
            return;
        }
        host.set_response_header("content-type", "application/json");
        host.set_response_header("content-length", &body.len().to_string());
        self.response.replacement = Some(body);
    }
}

const fn reported(usage: Usage) -> Used {
    Used::Reported { prompt: usage.prompt_tokens, completion: usage.completion_tokens }
}

/// What a whole JSON answer says of itself.
#[derive(Debug, Default)]
struct JsonAnswer {
    /// It parses, and is no error in disguise.
    is_good: bool,
    usage: Option<Usage>,
}

impl JsonAnswer {
    fn read(vm: &mut Vm, body: &[u8], wants_usage: bool) -> Self {
        if vm.tape.read(body).is_err() || !vm.tape.is_object() {
            return Self::default();
        }
        let usage = if wants_usage { vm.tape.member(body, "usage") } else { None };
        Self {
            is_good: vm.tape.member(body, "error").is_none_or(|error| error == b"null"),
            usage: usage.and_then(|usage| serde_json::from_slice(usage).ok()),
        }
    }
}

/// What the sidecar says that an answer used.
fn usage_of_header(value: &[u8]) -> Option<Usage> {
    let (prompt, completion) = std::str::from_utf8(value).ok()?.split_once(',')?;
    let (prompt_tokens, completion_tokens) = (prompt.parse().ok()?, completion.parse().ok()?);
    Some(Usage { prompt_tokens, completion_tokens, ..Usage::default() })
}
