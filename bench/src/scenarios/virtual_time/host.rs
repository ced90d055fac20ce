//! An Envoy worker as far as the filter's pipeline sees one: a clock that is set, shared cells, and
//! streams.

use std::cell::{Cell as StdCell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use tidegate_filter::headers::{HeaderMap, serialise};
use tidegate_filter::pipeline::{Exchange, Flow};
use tidegate_filter::ports::{
    Bodies, Call, CallAnswer, CallSidecar, Cell, Clock, EditHeaders, Log, SharedCells, StreamInfo,
};
use tidegate_filter::vm::Vm;

/// What the streams and the tick share.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) now_ms: StdCell<u64>,
    cells: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    version: StdCell<u32>,
    calls: RefCell<Vec<(u32, Call)>>,
}

impl Process {
    /// The calls that were sent since the last time.
    pub(super) fn take_calls(&self) -> Vec<(u32, Call)> {
        self.calls.take()
    }

    fn next(&self) -> u32 {
        self.version.set(self.version.get() + 1);
        self.version.get()
    }
}

impl Clock for Process {
    fn now_ns(&self) -> u64 {
        self.now_ms.get() * 1_000_000
    }
}

impl SharedCells for Process {
    fn read(&self, key: &str) -> Cell {
        let (bytes, cas) = self.cells.borrow().get(key).cloned().unwrap_or_default();
        Cell { bytes, cas }
    }

    /// Envoy's rule: versions are compared only where a cell exists.
    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        let mut cells = self.cells.borrow_mut();
        if cells.get(key).is_some_and(|(_, now)| cas != 0 && cas != *now) {
            return false;
        }
        cells.insert(key.to_owned(), (bytes.to_vec(), self.next()));
        true
    }
}

impl CallSidecar for Process {
    fn call(&self, call: &Call) -> Option<u32> {
        let token = self.next();
        self.calls.borrow_mut().push((token, call.clone()));
        Some(token)
    }
}

impl Log for Process {
    fn warn(&self, line: &str) {
        eprintln!("  filter: {line}");
    }
}

/// The host of one stream.
struct StreamHost {
    process: Rc<Process>,
    request: Vec<u8>,
    answer: RefCell<Vec<u8>>,
}

impl Clock for StreamHost {
    fn now_ns(&self) -> u64 {
        self.process.now_ns()
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

/// Nobody looks at the headers.
impl EditHeaders for StreamHost {
    fn set_request_header(&self, _: &str, _: &str) {}
    fn add_request_header(&self, _: &str, _: &str) {}
    fn remove_request_header(&self, _: &str) {}
    fn set_response_header(&self, _: &str, _: &str) {}
    fn add_response_header(&self, _: &str, _: &str) {}
    fn remove_response_header(&self, _: &str) {}
}

impl Bodies for StreamHost {
    fn request_body(&self, bytes: usize) -> Vec<u8> {
        self.request.get(..bytes).unwrap_or_default().to_vec()
    }

    fn response_body(&self, bytes: usize) -> Vec<u8> {
        self.answer.borrow().get(..bytes).unwrap_or_default().to_vec()
    }

    fn replace_response_body(&self, bytes: usize, with: &[u8]) {
        self.answer.borrow_mut().splice(..bytes, with.iter().copied());
    }
}

impl StreamInfo for StreamHost {
    fn route_name(&self) -> String {
        "llm".to_owned()
    }

    fn peer(&self) -> Option<IpAddr> {
        None
    }

    fn cluster_name(&self) -> String {
        "tidegate_sidecar".to_owned()
    }

    fn response_flags(&self) -> u64 {
        0
    }
}

/// One request on its way through the filter.
pub(super) struct Stream {
    host: StreamHost,
    exchange: Exchange,
}

impl Stream {
    pub(super) fn new(process: &Rc<Process>, body: String) -> Self {
        let host = StreamHost {
            process: Rc::clone(process),
            request: body.into_bytes(),
            answer: RefCell::default(),
        };
        Self { host, exchange: Exchange::new() }
    }

    /// The whole request arrives; `verdict` is the sidecar's on its credential.
    pub(super) fn begin(&mut self, vm: &mut Vm, headers: &[(&str, &str)], verdict: &str) -> Flow {
        let raw = serialise(headers.iter().copied());
        let mut flow = self.exchange.on_request_headers(vm, &self.host, HeaderMap::new(&raw), false);
        if let Flow::Ask(_) = flow {
            let raw = serialise(std::iter::empty());
            let answer = CallAnswer { status: 200, headers: HeaderMap::new(&raw), body: verdict.as_bytes() };
            flow = self.exchange.on_answer(vm, &self.host, Some(answer));
        }
        if flow != Flow::Pause {
            return flow;
        }
        self.exchange.on_request_body(vm, &self.host, self.host.request.len(), true)
    }

    /// The tick comes, while its refusal waits.
    pub(super) fn ask_again(&mut self, vm: &mut Vm) -> Flow {
        self.exchange.ask_again(vm, &self.host)
    }

    /// The sidecar answers.
    pub(super) fn end(mut self, vm: &mut Vm, status: u16, body: &[u8]) {
        let status = status.to_string();
        let headers = [
            (":status", status.as_str()),
            ("content-type", "application/json"),
            ("x-tidegate-answered", "1"),
            ("x-gateway-provider", "openai"),
        ];
        let raw = serialise(headers.iter().copied());
        self.exchange.on_response_headers(vm, &self.host, HeaderMap::new(&raw), false);
        self.host.answer.replace(body.to_vec());
        self.exchange.on_response_body(vm, &self.host, body.len(), true);
        self.exchange.on_end(vm, &self.host);
    }
}
