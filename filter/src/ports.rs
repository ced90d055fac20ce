//! What the pipeline needs of its host, in small pieces; each stage asks only for what it uses.

use std::net::IpAddr;

use crate::headers::HeaderMap;

/// The host's wall clock.
pub trait Clock {
    /// Nanoseconds since the Unix epoch.
    fn now_ns(&self) -> u64;
}

/// A shared cell as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its value; empty when it was emptied, since the host has no delete.
    pub bytes: Vec<u8>,
    /// Its version, to be given to [`SharedCells::write`]; 0 for a cell that was never written.
    pub cas: u32,
}

/// Key-value cells shared by all VMs of one Envoy process.
pub trait SharedCells {
    /// Reads a cell; one that does not exist is empty with version 0.
    fn read(&self, key: &str) -> Cell;
    /// Writes a cell if its version is still `cas`; `cas` 0 always writes. False when it lost.
    fn write(&self, key: &str, bytes: &[u8], cas: u32) -> bool;
}

/// Changes to the headers of the request or response that is passing.
pub trait EditHeaders {
    /// Sets a request header, replacing all of its name.
    fn set_request_header(&self, name: &str, value: &str);
    /// Adds a request header that is known not to be there, which costs the host no search.
    fn add_request_header(&self, name: &str, value: &str);
    /// Removes a request header.
    fn remove_request_header(&self, name: &str);
    /// Sets a response header, replacing all of its name.
    fn set_response_header(&self, name: &str, value: &str);
    /// Adds a response header that is known not to be there, which costs the host no search.
    fn add_response_header(&self, name: &str, value: &str);
    /// Removes a response header.
    fn remove_response_header(&self, name: &str);
}

/// Bodies that Envoy buffers.
pub trait Bodies {
    /// The first `bytes` of the buffered request body.
    fn request_body(&self, bytes: usize) -> Vec<u8>;
    /// The first `bytes` of the current response chunk (or buffer).
    fn response_body(&self, bytes: usize) -> Vec<u8>;
    /// Replaces the current response chunk (or buffer) of `bytes`.
    fn replace_response_body(&self, bytes: usize, with: &[u8]);
}

/// What Envoy knows of a stream beyond its headers. Each look costs; ask only when it matters.
pub trait StreamInfo {
    /// Name of the matched route, or of its cluster if it has none.
    fn route_name(&self) -> String;
    /// Address of the connection's other end, if it has one.
    fn peer(&self) -> Option<IpAddr>;
    /// Name of the cluster the request was sent to.
    fn cluster_name(&self) -> String;
    /// Envoy's response flags (`response.flags`), a bit set.
    fn response_flags(&self) -> u64;
}

/// A line in Envoy's log.
pub trait Log {
    /// Something an operator should look at. Never secrets or prompts.
    fn warn(&self, line: &str);
}

/// An HTTP call to the sidecar, answered in a later callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// JSON, or empty.
    pub body: Vec<u8>,
    /// Given up after this many milliseconds.
    pub timeout_ms: u64,
}

/// The sidecar's answer to a [`Call`].
#[derive(Debug, Clone, Copy)]
pub struct CallAnswer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Headers, the status among them.
    pub headers: HeaderMap<'a>,
    /// Body.
    pub body: &'a [u8],
}

/// Calls to the sidecar that a VM makes on its own account.
pub trait CallSidecar {
    /// Sends the call; `None` when it cannot be sent and no answer will come.
    fn call(&self, call: &Call) -> Option<u32>;
}

/// Everything a stream's callbacks may use.
pub trait StreamHost: Clock + SharedCells + EditHeaders + Bodies + StreamInfo {}
impl<T: Clock + SharedCells + EditHeaders + Bodies + StreamInfo> StreamHost for T {}

/// Everything a VM's tick may use.
pub trait RootHost: Clock + SharedCells + CallSidecar + Log {}
impl<T: Clock + SharedCells + CallSidecar + Log> RootHost for T {}
