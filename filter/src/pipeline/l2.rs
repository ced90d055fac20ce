//! The semantic cache, for requests that Envoy sends to a server of the operator's own: the sidecar
//! is asked before such a request leaves, and is brought its answer. Where that is not wanted, or the
//! request goes to the sidecar in any case, this costs nothing.

use tidegate_core::cache::Kind;
use tidegate_core::cache::control::response_may_be_stored;
use tidegate_core::chat::RequestView;
use tidegate_core::event::Counter;
use tidegate_core::policy::CalloutPolicy;
use tidegate_core::route::{Endpoint, Protocol, RouteClass};
use tidegate_core::wire::semantic::{CHAT_BYTES_MAX, LookupHead, StoreHead, join};
use tidegate_core::wire::{header, path};

use super::reply::{Headers, LocalReply};
use super::{Exchange, l1};
use crate::ports::{Call, CallAnswer, StreamHost};
use crate::vm::{Policy, Vm};

/// How long look-ups rest after one that was late or failed: a sidecar that hangs makes one request a
/// second wait, not all.
const PAUSE_NS: u64 = 1_000_000_000;
/// Storing is given up after this, in milliseconds; nobody waits for it.
const STORE_TIMEOUT_MS: u64 = 10_000;
/// Headers of a stored answer that the client gets.
const HEADERS: [&str; 9] = [
    "content-type",
    "age",
    header::CACHE,
    header::CACHE_LAYER,
    header::CACHE_SIMILARITY,
    header::CACHE_ENTRY,
    header::PROVIDER,
    header::MODEL,
    header::ATTEMPTS,
];

/// What the semantic cache said of this request.
#[derive(Debug, Default)]
pub struct Plan {
    ticket: Option<String>,
}

impl Plan {
    /// Under which name a good answer is to be stored; `None` when it is not.
    pub const fn take_ticket(&mut self) -> Option<String> {
        self.ticket.take()
    }
}

impl Exchange {
    /// The look-up for a request that L1 has no answer to, if there is to be one.
    pub(super) fn ask_l2(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        request: &RequestView<'_>,
        body: &[u8],
    ) -> Option<Call> {
        let callout = policy.snapshot.direct.callout?;
        let RouteClass::Llm(endpoint @ (Endpoint::ChatCompletions | Endpoint::Messages)) = self.head.class
        else {
            return None;
        };
        let control = self.head.control;
        if !(control.may_serve || control.may_store) {
            return None;
        }
        let cluster = host.cluster_name();
        if cluster == vm.config.cluster {
            return None;
        }
        let label = if control.may_serve { "miss" } else { "bypass" };
        self.l1.label.get_or_insert(label);
        let call = callout.takes(request).then(|| self.look_up_call(vm, cluster, callout, endpoint, body));
        let call = call.flatten();
        if call.is_none() {
            self.unseen(callout);
        }
        call
    }

    fn look_up_call(
        &self,
        vm: &mut Vm,
        cluster: String,
        callout: CalloutPolicy,
        endpoint: Endpoint,
        body: &[u8],
    ) -> Option<Call> {
        let control = self.head.control;
        let head = LookupHead {
            identity: self.caller.as_ref()?.header.clone(),
            path: self.head.path.clone(),
            cluster,
            pin: String::from_utf8_lossy(&self.head.pin).into_owned(),
            anthropic: endpoint.protocol() == Protocol::Anthropic,
            may_serve: control.may_serve,
            may_store: control.may_store,
        };
        let fits = body.len() <= CHAT_BYTES_MAX && !vm.offers.rests(self.started_ns);
        let body = if fits { join(&head, body) } else { None };
        if body.is_none() {
            vm.counts.add(Counter::L2Skipped);
        }
        let timeout_ms = callout.deadline_ms;
        Some(Call { method: "POST", path: path::LOOKUP.to_owned(), body: body?, timeout_ms })
    }

    /// What came of the look-up: an answer to serve, or nothing, and the request goes on.
    pub(super) fn heard_l2(
        &mut self,
        vm: &mut Vm,
        host: &impl StreamHost,
        policy: &Policy,
        answer: Option<CallAnswer<'_>>,
    ) -> Option<LocalReply> {
        match answer {
            Some(CallAnswer { status: 200, headers, body }) => {
                vm.counts.add(Counter::L2Hit);
                let value = |wanted: &str| {
                    let found = headers.iter().find(|(name, _)| *name == wanted.as_bytes());
                    found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::to_owned)
                };
                let headers: Headers =
                    HEADERS.iter().filter_map(|name| Some((*name, value(name)?))).collect();
                Some(LocalReply { status: 200, headers, body: body.to_vec(), details: "semantic_cache_hit" })
            }
            Some(CallAnswer { status: 204, headers, .. }) => {
                vm.counts.add(Counter::L2Miss);
                for (name, value) in headers.iter() {
                    if name == header::TICKET.as_bytes() {
                        self.l2.ticket = std::str::from_utf8(value).ok().map(str::to_owned);
                    } else if name == b"cache-control" && !response_may_be_stored(value) {
                        self.l1.forbid_store();
                    }
                }
                None
            }
            _ => {
                vm.counts.add(Counter::L2Failed);
                vm.offers.rest_until(host.now_ns().saturating_add(PAUSE_NS));
                policy.snapshot.direct.callout.into_iter().for_each(|callout| self.unseen(callout));
                None
            }
        }
    }

    /// The sidecar has not looked at this request.
    fn unseen(&mut self, callout: CalloutPolicy) {
        if callout.has_secrets {
            self.l1.forbid_store();
        }
    }
}

/// Keeps a whole good answer until it can be brought to the sidecar; counted, never an error.
pub fn offer(vm: &mut Vm, ticket: String, answer: l1::Answer<'_>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (provider, model) = (text(answer.provider), text(answer.model));
    let head = StoreHead { ticket, stream: answer.kind == Kind::Sse, provider, model };
    let call = join(&head, answer.body).map(|body| Call {
        method: "POST",
        path: path::STORE.to_owned(),
        body,
        timeout_ms: STORE_TIMEOUT_MS,
    });
    if !call.is_some_and(|call| vm.offers.push(call)) {
        vm.counts.add(Counter::L2Dropped);
    }
}
