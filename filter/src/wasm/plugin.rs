//! The SDK's callbacks, turned into calls of the pipeline, and its [`Flow`]s into what the SDK
//! understands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use tidegate_core::event::Counter;

use super::abi::{self, Map};
use super::host::{Caller, Received, Stream};
use crate::config::PluginConfig;
use crate::headers::{HeaderMap, serialise};
use crate::pipeline::{Exchange, Flow, LocalReply};
use crate::ports::CallSidecar;
use crate::sync::Sync;
use crate::vm::{Counts, Vm};

/// One VM: its memory, and its background work.
#[derive(Default)]
pub struct Root {
    vm: Option<Rc<RefCell<Vm>>>,
    sync: Option<Sync>,
    stats: Stats,
    held: Rc<RefCell<Held>>,
}

/// Requests whose refusals wait, by the host's number of their stream, until the next callback of
/// the stream takes them back.
type Held = BTreeMap<u32, Exchange>;

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _: usize) {
        let (Some(vm), Some(sync)) = (&self.vm, &mut self.sync) else {
            return;
        };
        let Ok(mut vm) = vm.try_borrow_mut() else { return };
        let config = vm.config.clone();
        let received = Received::read(headers, body_size);
        let answer = received.as_ref().map(Received::answer);
        let (status, body) = (answer.map(|a| a.status), answer.map_or(&[][..], |a| a.body));
        sync.on_answer(&mut vm, &Caller(&config), call, status, body);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let json = if size == 0 { Vec::new() } else { self.get_plugin_configuration().unwrap_or_default() };
        match PluginConfig::parse(&json) {
            Ok(config) => {
                self.set_tick_period(Duration::from_millis(config.tick_ms));
                self.stats.define();
                self.vm = Some(Rc::new(RefCell::new(Vm::new(config))));
                true
            }
            Err(problem) => {
                abi::error(&problem);
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(vm) = &self.vm else { return };
        let Ok(mut vm) = vm.try_borrow_mut() else { return };
        let config = vm.config.clone();
        let host = Caller(&config);
        self.sync.get_or_insert_with(|| Sync::new(&host)).on_tick(&mut vm, &host);
        self.stats.publish(&vm.counts);
        self.ask_again(&mut vm);
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let (vm, held) = (self.vm.clone()?, Rc::clone(&self.held));
        Some(Box::new(StreamContext { vm, id, held, is_away: false, exchange: Exchange::new() }))
    }
}

impl Root {
    /// Asks again for every request whose refusal waits, the youngest first: who has waited for long
    /// may have left. What the host is told here is done after
    /// this callback, in the order in which it was told.
    fn ask_again(&self, vm: &mut Vm) {
        let Ok(mut held) = self.held.try_borrow_mut() else { return };
        for (id, exchange) in held.iter_mut().rev().filter(|(_, exchange)| exchange.is_held()) {
            if !abi::act_for(*id) {
                continue;
            }
            match exchange.ask_again(vm, &Stream) {
                Flow::Continue => abi::resume_request(),
                Flow::Reply(reply) => send(&reply),
                Flow::Hold | Flow::Pause | Flow::Ask(_) => {}
            }
        }
        vm.held = held.values().filter(|exchange| exchange.is_held()).count();
    }
}

/// The VM's counters in Envoy's own stats, for those who scrape Envoy.
#[derive(Default)]
struct Stats {
    ids: Vec<(Counter, u32)>,
    published: Counts,
}

impl Stats {
    fn define(&mut self) {
        let define = |c: &Counter| Some((*c, abi::define_counter(&format!("tidegate.{}", c.name()))?));
        self.ids = Counter::ALL.iter().filter_map(define).collect();
    }

    fn publish(&mut self, counts: &Counts) {
        if *counts == self.published {
            return;
        }
        for (counter, id) in &self.ids {
            abi::increment(*id, counts.get(*counter).saturating_sub(self.published.get(*counter)));
        }
        self.published = counts.clone();
    }
}

/// One request and its answer.
struct StreamContext {
    vm: Rc<RefCell<Vm>>,
    id: u32,
    held: Rc<RefCell<Held>>,
    /// The exchange is among those held.
    is_away: bool,
    exchange: Exchange,
}

impl StreamContext {
    /// Takes the exchange back if it is among those held.
    fn fetch(&mut self) {
        if std::mem::take(&mut self.is_away)
            && let Ok(mut held) = self.held.try_borrow_mut()
            && let Some(exchange) = held.remove(&self.id)
        {
            self.exchange = exchange;
        }
    }

    /// Turns a flow into an action. Nothing may pass that was not decided on: a call that cannot
    /// be sent is answered as one that failed.
    fn act(&mut self, vm: &mut Vm, flow: Flow) -> Action {
        match flow {
            Flow::Continue => Action::Continue,
            Flow::Pause => Action::Pause,
            Flow::Hold => {
                if let Ok(mut held) = self.held.try_borrow_mut() {
                    held.insert(self.id, std::mem::take(&mut self.exchange));
                    self.is_away = true;
                    vm.held += 1;
                }
                Action::Pause
            }
            Flow::Reply(reply) => {
                send(&reply);
                Action::Pause
            }
            Flow::Ask(call) => match Caller(&vm.config).call(&call) {
                Some(_) => Action::Pause,
                None => {
                    let flow = self.exchange.on_answer(vm, &Stream, None);
                    self.act(vm, flow)
                }
            },
        }
    }
}

fn send(reply: &LocalReply) {
    let headers = serialise(reply.headers.iter().map(|(name, value)| (*name, value.as_str())));
    abi::send_local_response(reply.status, reply.details, &headers, &reply.body);
}

impl Context for StreamContext {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body_size: usize, _: usize) {
        let vm = Rc::clone(&self.vm);
        let Ok(mut vm) = vm.try_borrow_mut() else { return };
        let received = Received::read(headers, body_size);
        let flow = self.exchange.on_answer(&mut vm, &Stream, received.as_ref().map(Received::answer));
        if self.act(&mut vm, flow) == Action::Continue {
            abi::resume_request();
        }
    }
}

impl HttpContext for StreamContext {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let vm = Rc::clone(&self.vm);
        let Ok(mut vm) = vm.try_borrow_mut() else {
            return Action::Pause;
        };
        let raw = abi::header_map(Map::Request);
        let headers = HeaderMap::new(&raw);
        #[cfg(feature = "fault-injection")]
        trap_if_asked(headers);
        let flow = self.exchange.on_request_headers(&mut vm, &Stream, headers, end_of_stream);
        self.act(&mut vm, flow)
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        self.fetch();
        let vm = Rc::clone(&self.vm);
        let Ok(mut vm) = vm.try_borrow_mut() else {
            return Action::Pause;
        };
        let flow = self.exchange.on_request_body(&mut vm, &Stream, body_size, end_of_stream);
        self.act(&mut vm, flow)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.fetch();
        let vm = Rc::clone(&self.vm);
        let Ok(mut vm) = vm.try_borrow_mut() else {
            return Action::Pause;
        };
        let flow = self.exchange.on_request_trailers(&mut vm, &Stream);
        self.act(&mut vm, flow)
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.fetch();
        // What the filter answered itself comes by here too, and is known already.
        if !self.exchange.is_replied()
            && let Ok(mut vm) = self.vm.try_borrow_mut()
        {
            let raw = abi::header_map(Map::Response);
            self.exchange.on_response_headers(&mut vm, &Stream, HeaderMap::new(&raw), end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        self.fetch();
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            self.exchange.on_response_body(&mut vm, &Stream, body_size, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.fetch();
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            self.exchange.on_response_trailers(&mut vm, &Stream);
        }
        Action::Continue
    }
}

/// The stream is over, whichever way. The host deletes a context after everything else; what it
/// calls before (`on_done`, `on_log`) is not exported, which saves every request two entries into
/// the VM.
impl Drop for StreamContext {
    fn drop(&mut self) {
        self.fetch();
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            self.exchange.on_end(&mut vm, &Stream);
        }
    }
}

/// The deliberate trap of the failure-policy test; not in the filter that ships.
#[cfg(feature = "fault-injection")]
fn trap_if_asked(headers: HeaderMap<'_>) {
    if headers.iter().any(|(name, _)| name == b"x-test-trap") {
        core::arch::wasm32::unreachable();
    }
}
