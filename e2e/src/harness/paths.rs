//! Where the programs are that the harness runs.

use std::env;
use std::path::{Path, PathBuf};

use super::error::HarnessError;

/// The root of the repository this crate was built from.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The sidecar: `TIDEGATE_BIN`, else `tidegate` of the profile that this program was built in.
///
/// # Errors
/// There is no such file.
pub fn sidecar_binary() -> Result<PathBuf, HarnessError> {
    let fix = "run `cargo build -p tidegate`, or set TIDEGATE_BIN";
    match env::var_os("TIDEGATE_BIN") {
        Some(path) => existing("the sidecar", path.into(), fix),
        None => sibling_binary("tidegate", "the sidecar", fix),
    }
}

/// A binary of this workspace that was built in the same profile as this program.
///
/// # Errors
/// There is no such file.
pub fn sibling_binary(name: &str, what: &'static str, fix: &'static str) -> Result<PathBuf, HarnessError> {
    let exe = env::current_exe().map_err(HarnessError::io("finding this program's own path"))?;
    let beside = exe.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    // Tests run from target/<profile>/deps.
    let above = exe.parent().and_then(Path::parent).map_or(beside, |dir| dir.join(name));
    existing(what, above, fix)
}

/// Envoy: `ENVOY`, else `bin/envoy` under `TIDEGATE_TOOLS`, which is `.tools` unless set.
///
/// # Errors
/// There is no such file.
pub fn envoy_binary() -> Result<PathBuf, HarnessError> {
    let path = env::var_os("ENVOY").map_or_else(|| tools().join("bin/envoy"), PathBuf::from);
    existing("Envoy", path, "run scripts/setup, or set ENVOY")
}

/// Redis 8: `bin/redis8-server` under `TIDEGATE_TOOLS`.
///
/// # Errors
/// There is no such file.
pub(super) fn redis_8() -> Result<PathBuf, HarnessError> {
    existing("Redis 8", tools().join("bin/redis8-server"), "run `scripts/setup test`")
}

/// The filter: `TIDEGATE_FILTER`, else `dist/tidegate_filter.wasm`.
///
/// # Errors
/// There is no such file.
pub fn filter() -> Result<PathBuf, HarnessError> {
    let path = env::var_os("TIDEGATE_FILTER")
        .map_or_else(|| workspace_root().join("dist/tidegate_filter.wasm"), PathBuf::from);
    existing("the filter", path, "run `make wasm`, or set TIDEGATE_FILTER")
}

/// The filter with fault injection: `TIDEGATE_FAULT_FILTER`, else `dist/tidegate_filter_fault.wasm`.
///
/// # Errors
/// There is no such file.
pub fn fault_filter() -> Result<PathBuf, HarnessError> {
    let path = env::var_os("TIDEGATE_FAULT_FILTER")
        .map_or_else(|| workspace_root().join("dist/tidegate_filter_fault.wasm"), PathBuf::from);
    let fix = "run `scripts/build-wasm --fault-injection`, or set TIDEGATE_FAULT_FILTER";
    existing("the filter with fault injection", path, fix)
}

/// The small chat model: under `TIDEGATE_MODELS`, which is `.tools/models` unless set.
///
/// # Errors
/// There is no such file.
pub fn chat_model() -> Result<PathBuf, HarnessError> {
    let models = env::var_os("TIDEGATE_MODELS").map_or_else(|| tools().join("models"), PathBuf::from);
    existing(
        "the chat model",
        models.join("smollm2/model.gguf"),
        "run `scripts/setup test`, or set TIDEGATE_MODELS",
    )
}

/// What the embedding model needs.
#[derive(Debug, Clone)]
pub struct EmbeddingFiles {
    /// The folder with one folder per model, as `TIDEGATE_MODELS`.
    pub models: PathBuf,
    /// ONNX Runtime's library, as `ORT_DYLIB_PATH`.
    pub library: PathBuf,
}

/// The embedding model's files: from the environment, else under `.tools`.
///
/// # Errors
/// One of them is not there.
pub fn embedding_files() -> Result<EmbeddingFiles, HarnessError> {
    let fix = "run `scripts/setup test`, or set TIDEGATE_MODELS and ORT_DYLIB_PATH";
    let models = env::var_os("TIDEGATE_MODELS").map_or_else(|| tools().join("models"), PathBuf::from);
    existing("the embedding model", models.join("minilm/model.onnx"), fix)?;
    let library = env::var_os("ORT_DYLIB_PATH")
        .map_or_else(|| tools().join("onnxruntime/libonnxruntime.so"), PathBuf::from);
    Ok(EmbeddingFiles { models, library: existing("ONNX Runtime", library, fix)? })
}

/// The Python that has the official clients: `venv/bin/python` under `TIDEGATE_TOOLS`.
///
/// # Errors
/// There is no such file.
pub(super) fn client_python() -> Result<PathBuf, HarnessError> {
    let path = tools().join("venv/bin/python");
    existing("Python with the official clients", path, "run `scripts/setup test`")
}

/// Node.js, with the official clients in `node_modules` beside its folder: `node/bin/node` under
/// `TIDEGATE_TOOLS`.
///
/// # Errors
/// There is no such file.
pub(super) fn client_node() -> Result<PathBuf, HarnessError> {
    existing("Node.js with the official clients", tools().join("node/bin/node"), "run `scripts/setup test`")
}

/// A file of another gateway that the benchmarks compare ours with, under `peers` in the tools.
///
/// # Errors
/// It is not installed.
pub fn peer_file(name: &str) -> Result<PathBuf, HarnessError> {
    existing("another gateway", tools().join("peers").join(name), "run `scripts/bench-peers`")
}

/// A program of the system that `scripts/setup test` installs.
///
/// # Errors
/// It is in no folder of `PATH`.
pub(super) fn on_path(name: &str, what: &'static str) -> Result<PathBuf, HarnessError> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| HarnessError::Missing { what, path: name.into(), fix: "run `scripts/setup test`" })
}

/// A server that `scripts/setup test` put among the tools.
pub(super) fn tool(name: &str, what: &'static str) -> Result<PathBuf, HarnessError> {
    existing(what, tools().join("bin").join(name), "run `scripts/setup test`")
}

pub(super) fn existing(
    what: &'static str,
    path: PathBuf,
    fix: &'static str,
) -> Result<PathBuf, HarnessError> {
    if path.is_file() { Ok(path) } else { Err(HarnessError::Missing { what, path, fix }) }
}

fn tools() -> PathBuf {
    let set = env::var_os("TIDEGATE_TOOLS").map(PathBuf::from);
    set.unwrap_or_else(|| workspace_root().join(".tools"))
}
