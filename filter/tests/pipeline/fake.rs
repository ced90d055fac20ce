//! An Envoy process in a test: shared cells, a clock that is set, and several VMs whose streams
//! interleave as the test says.

use std::cell::{Cell as StdCell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use tidegate_core::policy::{
    AuthPolicy, BreakerPolicy, BucketPolicy, DirectPolicy, FORMAT, L1Admission, L1Policy, Limits,
    SamplerPolicy, Snapshot,
};
use tidegate_filter::config::PluginConfig;
use tidegate_filter::headers::{HeaderMap, serialise};
use tidegate_filter::pipeline::{Exchange, Flow, LocalReply};
use tidegate_filter::ports::{
    Bodies, Call, CallAnswer, CallSidecar, Cell, Clock, EditHeaders, Log, SharedCells, StreamInfo,
};
use tidegate_filter::sync::Sync;
use tidegate_filter::vm::{Policy, Vm};

pub const SECOND_NS: u64 = 1_000_000_000;

/// What all VMs of a process share.
#[derive(Default)]
pub struct Process {
    pub now_ns: StdCell<u64>,
    cells: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    next_cas: StdCell<u32>,
    /// Writes with a version that are made to lose, as if another VM had just written.
    pub interfere: StdCell<u32>,
}

impl Process {
    pub fn new() -> Rc<Self> {
        let process = Rc::new(Self::default());
        process.now_ns.set(1_700_000_000 * SECOND_NS);
        process
    }

    pub fn advance_ms(&self, ms: u64) {
        self.now_ns.set(self.now_ns.get() + ms * 1_000_000);
    }

    /// Bytes of all cells whose name starts with `prefix`.
    pub fn bytes_under(&self, prefix: &str) -> usize {
        self.cells.borrow().iter().filter(|(k, _)| k.starts_with(prefix)).map(|(_, (v, _))| v.len()).sum()
    }

    pub fn cell_count(&self) -> usize {
        self.cells.borrow().len()
    }

    fn read(&self, key: &str) -> Cell {
        let cells = self.cells.borrow();
        let (bytes, cas) = cells.get(key).cloned().unwrap_or_default();
        Cell { bytes, cas }
    }

    /// Envoy's rule: versions are compared only where a cell exists.
    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        if cas != 0 && self.interfere.get() > 0 {
            self.interfere.set(self.interfere.get() - 1);
            return false;
        }
        let mut cells = self.cells.borrow_mut();
        if cells.get(key).is_some_and(|(_, now)| cas != 0 && cas != *now) {
            return false;
        }
        self.next_cas.set(self.next_cas.get() + 1);
        cells.insert(key.to_owned(), (bytes.to_vec(), self.next_cas.get()));
        true
    }
}

/// The host of one stream.
pub struct StreamHost {
    process: Rc<Process>,
    pub request_headers: RefCell<BTreeMap<String, String>>,
    pub response_headers: RefCell<BTreeMap<String, String>>,
    request_body: RefCell<Vec<u8>>,
    response_body: RefCell<Vec<u8>>,
    pub route: String,
    pub cluster: String,
    pub flags: StdCell<u64>,
    pub peer: Option<IpAddr>,
}

impl Clock for StreamHost {
    fn now_ns(&self) -> u64 {
        self.process.now_ns.get()
    }
}

impl SharedCells for StreamHost {
    fn read(&self, key: &str) -> Cell {
        self.process.read(key)
    }

    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        self.process.write(key, bytes, cas)
    }
}

impl EditHeaders for StreamHost {
    fn set_request_header(&self, name: &str, value: &str) {
        self.request_headers.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    fn add_request_header(&self, name: &str, value: &str) {
        let before = self.request_headers.borrow_mut().insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} was there already, and would be sent twice");
    }

    fn remove_request_header(&self, name: &str) {
        self.request_headers.borrow_mut().remove(name);
    }

    fn set_response_header(&self, name: &str, value: &str) {
        self.response_headers.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    fn add_response_header(&self, name: &str, value: &str) {
        let before = self.response_headers.borrow_mut().insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} was there already, and would be sent twice");
    }

    fn remove_response_header(&self, name: &str) {
        self.response_headers.borrow_mut().remove(name);
    }
}

impl Bodies for StreamHost {
    fn request_body(&self, bytes: usize) -> Vec<u8> {
        self.request_body.borrow()[..bytes].to_vec()
    }

    fn response_body(&self, bytes: usize) -> Vec<u8> {
        self.response_body.borrow()[..bytes].to_vec()
    }

    fn replace_response_body(&self, bytes: usize, with: &[u8]) {
        self.response_body.borrow_mut().splice(..bytes, with.iter().copied());
    }
}

impl StreamInfo for StreamHost {
    fn route_name(&self) -> String {
        self.route.clone()
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    fn cluster_name(&self) -> String {
        self.cluster.clone()
    }

    fn response_flags(&self) -> u64 {
        self.flags.get()
    }
}

/// One stream in one VM.
pub struct Stream {
    pub host: StreamHost,
    exchange: Exchange,
}

impl Stream {
    /// The request's headers arrive; those the filter removes or sets show in `host`.
    pub fn headers(&mut self, vm: &mut Vm, headers: &[(&str, &str)], ended: bool) -> Flow {
        for (name, value) in headers {
            self.host.set_request_header(name, value);
        }
        let raw = serialise(headers.iter().copied());
        self.exchange.on_request_headers(vm, &self.host, HeaderMap::new(&raw), ended)
    }

    pub fn body(&mut self, vm: &mut Vm, chunk: &[u8], ended: bool) -> Flow {
        self.host.request_body.borrow_mut().extend_from_slice(chunk);
        let bytes = self.host.request_body.borrow().len();
        self.exchange.on_request_body(vm, &self.host, bytes, ended)
    }

    pub fn trailers(&mut self, vm: &mut Vm) -> Flow {
        self.exchange.on_request_trailers(vm, &self.host)
    }

    /// The tick comes, while the request's refusal waits.
    pub fn ask_again(&mut self, vm: &mut Vm) -> Flow {
        self.exchange.ask_again(vm, &self.host)
    }

    pub fn answer(&mut self, vm: &mut Vm, answer: Option<&str>) -> Flow {
        match answer {
            Some(body) => self.answer_with(vm, 200, &[], body),
            None => self.exchange.on_answer(vm, &self.host, None),
        }
    }

    /// The sidecar's answer to a call of this stream.
    pub fn answer_with(&mut self, vm: &mut Vm, status: u16, headers: &[(&str, &str)], body: &str) -> Flow {
        let raw = serialise(headers.iter().copied());
        let answer = CallAnswer { status, headers: HeaderMap::new(&raw), body: body.as_bytes() };
        self.exchange.on_answer(vm, &self.host, Some(answer))
    }

    pub fn response_headers(&mut self, vm: &mut Vm, headers: &[(&str, &str)]) {
        for (name, value) in headers {
            self.host.set_response_header(name, value);
        }
        let raw = serialise(headers.iter().copied());
        self.exchange.on_response_headers(vm, &self.host, HeaderMap::new(&raw), false);
    }

    /// One chunk passes; returns what the client gets of it.
    pub fn response_chunk(&mut self, vm: &mut Vm, chunk: &[u8], ended: bool) -> Vec<u8> {
        self.host.response_body.replace(chunk.to_vec());
        self.exchange.on_response_body(vm, &self.host, chunk.len(), ended);
        self.host.response_body.borrow().clone()
    }

    pub fn end(&mut self, vm: &mut Vm) {
        self.exchange.on_end(vm, &self.host);
    }

    /// A whole answer, and the end of the stream.
    pub fn respond(&mut self, vm: &mut Vm, status: &str, content_type: &str, body: &[u8]) {
        self.response_headers(vm, &[(":status", status), ("content-type", content_type)]);
        self.response_chunk(vm, body, true);
        self.end(vm);
    }

    pub fn sent(&self, name: &str) -> Option<String> {
        self.host.request_headers.borrow().get(name).cloned()
    }

    pub fn received(&self, name: &str) -> Option<String> {
        self.host.response_headers.borrow().get(name).cloned()
    }
}

/// A VM with a policy in force.
pub fn vm(policy: &Snapshot) -> Vm {
    let mut vm = bare_vm();
    vm.policy = Some(Rc::new(Policy::new(policy.clone(), None, 1_700_000_000_000)));
    vm
}

/// A VM that has not heard from the sidecar.
pub fn bare_vm() -> Vm {
    let config = r#"{"cluster":"tidegate_sidecar","authority":"tidegate","token":"secret"}"#;
    Vm::new(PluginConfig::parse(config.as_bytes()).expect("valid"))
}

pub fn stream(process: &Rc<Process>) -> Stream {
    let host = StreamHost {
        process: Rc::clone(process),
        request_headers: RefCell::default(),
        response_headers: RefCell::default(),
        request_body: RefCell::default(),
        response_body: RefCell::default(),
        route: "shop".to_owned(),
        cluster: "tidegate_sidecar".to_owned(),
        flags: StdCell::new(0),
        peer: None,
    };
    Stream { host, exchange: Exchange::new() }
}

pub const CHAT: &[(&str, &str)] =
    &[(":method", "POST"), (":path", "/v1/chat/completions"), ("x-request-id", "req-1")];

/// A chat request of an anonymous caller, up to the decision.
pub fn chat(process: &Rc<Process>, vm: &mut Vm, body: &str) -> (Stream, Flow) {
    let mut stream = stream(process);
    let flow = match stream.headers(vm, CHAT, false) {
        Flow::Pause => stream.body(vm, body.as_bytes(), true),
        other => other,
    };
    (stream, flow)
}

/// The refusal in a flow.
pub fn reply(flow: Flow) -> LocalReply {
    match flow {
        Flow::Reply(reply) => reply,
        other => panic!("expected a reply, got {other:?}"),
    }
}

pub fn header<'r>(reply: &'r LocalReply, name: &str) -> Option<&'r str> {
    reply.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
}

/// The `code` of an OpenAI error body.
pub fn code(reply: &LocalReply) -> String {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON body");
    body["error"]["code"].as_str().expect("a code").to_owned()
}

pub fn policy() -> Snapshot {
    Snapshot {
        format: FORMAT,
        revision: "r1".into(),
        auth: AuthPolicy { generation: 1, anonymous_tenant: Some("demo".into()), protect_other_routes: true },
        limits: Limits::of_requests(
            BucketPolicy { rate: 10_000.0, burst: 10_000 },
            BucketPolicy { rate: 1000.0, burst: 1000 },
        ),
        breaker: BreakerPolicy {
            failure_threshold: 10,
            window_ms: 10_000,
            recovery_timeout_ms: 30_000,
            recovery_increment: 0.2,
        },
        l1: L1Policy {
            enabled: true,
            bytes_max: 1 << 20,
            ttl_ms: 60_000,
            temperature_max: 1.0,
            allow_tools: false,
            admission: L1Admission::ScanResistant,
            generation: 0,
        },
        direct: DirectPolicy::default(),
        body_bytes_max: 4096,
        sampler: SamplerPolicy {
            sampling_rate: 0.05,
            buffer_size: 1000,
            region_headers: vec!["x-region".into()],
        },
        slices: Vec::new(),
    }
}

/// One VM's tick, and the sidecar it calls.
pub struct Worker {
    process: Rc<Process>,
    pub vm: Vm,
    sync: Option<Sync>,
    calls: RefCell<Vec<(u32, Call)>>,
    pub warnings: RefCell<Vec<String>>,
}

impl Worker {
    pub fn new(process: &Rc<Process>) -> Self {
        let process = Rc::clone(process);
        Self { process, vm: bare_vm(), sync: None, calls: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn tick(&mut self) {
        let mut sync = self.sync.take().unwrap_or_else(|| Sync::new(&*self));
        let mut vm = std::mem::replace(&mut self.vm, bare_vm());
        sync.on_tick(&mut vm, &*self);
        (self.vm, self.sync) = (vm, Some(sync));
    }

    /// The open call to a path, if there is one.
    pub fn open(&self, path: &str) -> Option<Call> {
        self.calls.borrow().iter().find(|(_, c)| c.path.starts_with(path)).map(|(_, c)| c.clone())
    }

    /// Answers the open call to `path`.
    pub fn answer(&mut self, path: &str, status: Option<u16>, body: &[u8]) {
        let at = self.calls.borrow().iter().position(|(_, c)| c.path.starts_with(path));
        let (token, _) = self.calls.borrow_mut().remove(at.expect("an open call"));
        let mut sync = self.sync.take().expect("ticked before");
        let mut vm = std::mem::replace(&mut self.vm, bare_vm());
        sync.on_answer(&mut vm, &*self, token, status, body);
        (self.vm, self.sync) = (vm, Some(sync));
    }
}

impl Clock for Worker {
    fn now_ns(&self) -> u64 {
        self.process.now_ns.get()
    }
}

impl SharedCells for Worker {
    fn read(&self, key: &str) -> Cell {
        self.process.read(key)
    }

    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        self.process.write(key, bytes, cas)
    }
}

impl CallSidecar for Worker {
    fn call(&self, call: &Call) -> Option<u32> {
        let mut calls = self.calls.borrow_mut();
        let token = self.process.next_cas.get() + calls.len() as u32 + 1;
        self.process.next_cas.set(token);
        calls.push((token, call.clone()));
        Some(token)
    }
}

impl Log for Worker {
    fn warn(&self, line: &str) {
        self.warnings.borrow_mut().push(line.to_owned());
    }
}
