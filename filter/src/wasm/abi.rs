//! Host calls of the proxy-wasm ABI 0.2.1, fallible and without copies beyond the one into wasm
//! memory. The SDK's own wrappers panic on statuses they do not list, and make a `Vec` of strings
//! of every header map.
//!
//! All `unsafe` of the filter is here. Each call hands the host pointers into live Rust memory and
//! lengths that fit, and takes over what the host allocated through the SDK's exported allocator.

use std::ptr::{null, null_mut};

type Status = u32;
const OK: Status = 0;

/// Which header map.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Map {
    Request = 0,
    Response = 2,
    CallResponse = 6,
}

/// Which body.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Buffer {
    Request = 0,
    Response = 1,
    CallResponse = 4,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> Status;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> Status;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> Status;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> Status;
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        replaced: usize,
        data: *const u8,
        size: usize,
    ) -> Status;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> Status;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> Status;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        data: *const u8,
        size: usize,
        cas: u32,
    ) -> Status;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> Status;
    fn proxy_continue_stream(stream: u32) -> Status;
    fn proxy_set_effective_context(id: u32) -> Status;
    fn proxy_log(level: u32, message: *const u8, size: usize) -> Status;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> Status;
    fn proxy_increment_metric(id: u32, by: i64) -> Status;
}

/// Runs a call that returns memory, and takes that memory over.
fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> Status) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    if call(&raw mut data, &raw mut size) != OK {
        return None;
    }
    if data.is_null() || size == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the host got `data` from the SDK's allocator, which leaks a boxed slice of exactly
    // `size` bytes, and filled it.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

pub fn now_ns() -> u64 {
    let mut time = 0;
    // SAFETY: `time` is live for the call.
    unsafe { proxy_get_current_time_nanoseconds(&raw mut time) };
    time
}

pub fn header_map(map: Map) -> Vec<u8> {
    // SAFETY: the pointers are live for the call.
    receive(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) }).unwrap_or_default()
}

pub fn set_header(map: Map, name: &str, value: &str) {
    // SAFETY: both strings are live for the call.
    unsafe {
        proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

/// For a header that is not there: the host does not look for it.
pub fn add_header(map: Map, name: &str, value: &str) {
    // SAFETY: both strings are live for the call.
    unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

pub fn remove_header(map: Map, name: &str) {
    // SAFETY: the string is live for the call.
    unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

pub fn body(buffer: Buffer, max: usize) -> Vec<u8> {
    // SAFETY: the pointers are live for the call.
    receive(|data, size| unsafe { proxy_get_buffer_bytes(buffer as u32, 0, max, data, size) })
        .unwrap_or_default()
}

/// Replaces the first `replaced` bytes, which have to be all of them.
pub fn replace_body(buffer: Buffer, replaced: usize, with: &[u8]) {
    // SAFETY: `with` is live for the call.
    unsafe { proxy_set_buffer_bytes(buffer as u32, 0, replaced, with.as_ptr(), with.len()) };
}

/// `path` has its parts separated by zero bytes.
pub fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: the string and the pointers are live for the call.
    receive(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// The value and its version, 0 when there is none.
pub fn shared_data(key: &str) -> (Vec<u8>, u32) {
    let mut cas = 0;
    let cas_ptr = &raw mut cas;
    // SAFETY: the string and the pointers are live for the call.
    let value =
        receive(|data, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), data, size, cas_ptr) });
    value.map_or((Vec::new(), 0), |bytes| (bytes, cas))
}

/// False when the version did not match.
pub fn set_shared_data(key: &str, value: &[u8], cas: u32) -> bool {
    // SAFETY: both slices are live for the call.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) == OK }
}

/// `headers` in the host's form ([`crate::headers::serialise`]).
pub fn send_local_response(status: u16, details: &str, headers: &[u8], body: &[u8]) -> bool {
    const NO_GRPC_STATUS: i32 = -1;
    let body_data = if body.is_empty() { null() } else { body.as_ptr() };
    // SAFETY: all slices are live for the call.
    unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body_data,
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        ) == OK
    }
}

/// Has what follows in this callback be about another stream; false when it is gone.
pub fn act_for(stream: u32) -> bool {
    // SAFETY: no pointers.
    unsafe { proxy_set_effective_context(stream) == OK }
}

pub fn resume_request() {
    const REQUEST: u32 = 0;
    // SAFETY: no pointers.
    unsafe { proxy_continue_stream(REQUEST) };
}

pub fn warn(line: &str) {
    const WARN: u32 = 3;
    // SAFETY: the string is live for the call.
    unsafe { proxy_log(WARN, line.as_ptr(), line.len()) };
}

pub fn error(line: &str) {
    const ERROR: u32 = 4;
    // SAFETY: the string is live for the call.
    unsafe { proxy_log(ERROR, line.as_ptr(), line.len()) };
}

/// Defines a counter in Envoy's own stats (or finds it again).
pub fn define_counter(name: &str) -> Option<u32> {
    const COUNTER: u32 = 0;
    let mut id = 0;
    // SAFETY: the string and `id` are live for the call.
    let status = unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id) };
    (status == OK).then_some(id)
}

/// Adds to a counter; the host refuses 0.
pub fn increment(id: u32, by: u64) {
    if let (1.., Ok(by)) = (by, i64::try_from(by)) {
        // SAFETY: no pointers.
        unsafe { proxy_increment_metric(id, by) };
    }
}
