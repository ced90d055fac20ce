//! Envoy as the ports of the pipeline.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tidegate_core::wire::header;

use super::abi::{self, Buffer, Map};
use crate::config::PluginConfig;
use crate::headers::HeaderMap;
use crate::ports::{
    Bodies, Call, CallAnswer, CallSidecar, Cell, Clock, EditHeaders, Log, SharedCells, StreamInfo,
};

/// Envoy, as seen from one callback of a stream.
pub struct Stream;

/// Envoy, as seen from a tick, or from a stream that asks the sidecar.
pub struct Caller<'a>(pub &'a PluginConfig);

impl Clock for Stream {
    fn now_ns(&self) -> u64 {
        abi::now_ns()
    }
}

impl SharedCells for Stream {
    fn read(&self, key: &str) -> Cell {
        let (bytes, cas) = abi::shared_data(key);
        Cell { bytes, cas }
    }

    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        abi::set_shared_data(key, bytes, cas)
    }
}

impl EditHeaders for Stream {
    fn set_request_header(&self, name: &str, value: &str) {
        abi::set_header(Map::Request, name, value);
    }

    fn add_request_header(&self, name: &str, value: &str) {
        abi::add_header(Map::Request, name, value);
    }

    fn remove_request_header(&self, name: &str) {
        abi::remove_header(Map::Request, name);
    }

    fn set_response_header(&self, name: &str, value: &str) {
        abi::set_header(Map::Response, name, value);
    }

    fn add_response_header(&self, name: &str, value: &str) {
        abi::add_header(Map::Response, name, value);
    }

    fn remove_response_header(&self, name: &str) {
        abi::remove_header(Map::Response, name);
    }
}

impl Bodies for Stream {
    fn request_body(&self, bytes: usize) -> Vec<u8> {
        abi::body(Buffer::Request, bytes)
    }

    fn response_body(&self, bytes: usize) -> Vec<u8> {
        abi::body(Buffer::Response, bytes)
    }

    fn replace_response_body(&self, bytes: usize, with: &[u8]) {
        abi::replace_body(Buffer::Response, bytes, with);
    }
}

impl StreamInfo for Stream {
    fn route_name(&self) -> String {
        match text_property("xds\0route_name") {
            name if name.is_empty() => self.cluster_name(),
            name => name,
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        text_property("source\0address").parse::<SocketAddr>().ok().map(|address| address.ip())
    }

    fn cluster_name(&self) -> String {
        text_property("xds\0cluster_name")
    }

    fn response_flags(&self) -> u64 {
        let bytes = abi::property("response\0flags").unwrap_or_default();
        bytes.as_slice().try_into().map_or(0, u64::from_le_bytes)
    }
}

impl Clock for Caller<'_> {
    fn now_ns(&self) -> u64 {
        abi::now_ns()
    }
}

impl SharedCells for Caller<'_> {
    fn read(&self, key: &str) -> Cell {
        Stream.read(key)
    }

    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool {
        Stream.write(key, bytes, cas)
    }
}

impl Log for Caller<'_> {
    fn warn(&self, line: &str) {
        abi::warn(line);
    }
}

impl CallSidecar for Caller<'_> {
    fn call(&self, call: &Call) -> Option<u32> {
        let mut headers = vec![
            (":method", call.method),
            (":path", call.path.as_str()),
            (":authority", self.0.authority.as_str()),
            (header::INTERNAL, self.0.token.as_str()),
        ];
        if !call.body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let body = (!call.body.is_empty()).then_some(call.body.as_slice());
        let timeout = Duration::from_millis(call.timeout_ms);
        // The SDK's own call, because its dispatcher has to know the token.
        proxy_wasm::hostcalls::dispatch_http_call(&self.0.cluster, headers, body, Vec::new(), timeout).ok()
    }
}

/// The call that is being answered, in this VM's memory.
pub struct Received {
    status: u16,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Received {
    /// `None` when there was no answer.
    pub fn read(headers: usize, body_size: usize) -> Option<Self> {
        if headers == 0 {
            return None;
        }
        let raw = abi::header_map(Map::CallResponse);
        let status = HeaderMap::new(&raw).iter().find(|(name, _)| *name == b":status")?.1;
        let status = std::str::from_utf8(status).ok()?.parse().ok()?;
        let body = if body_size == 0 { Vec::new() } else { abi::body(Buffer::CallResponse, body_size) };
        Some(Self { status, headers: raw, body })
    }

    pub fn answer(&self) -> CallAnswer<'_> {
        CallAnswer { status: self.status, headers: HeaderMap::new(&self.headers), body: &self.body }
    }
}

fn text_property(path: &str) -> String {
    let bytes = abi::property(path).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
