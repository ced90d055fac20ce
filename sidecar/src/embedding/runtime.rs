//! ONNX Runtime, loaded from a shared library once a process: a missing or wrong file is an error
//! and not a crash.

use std::path::Path;
use std::sync::OnceLock;

use ort::environment::Environment;

/// ONNX Runtime allows one environment a process, so the first library asked for stays.
static RUNTIME: OnceLock<Result<Environment, String>> = OnceLock::new();

/// The environment, made by the first call.
///
/// # Errors
/// The library is missing, is not ONNX Runtime, or is too old; the first call's words, always.
pub fn environment(library: &Path) -> Result<&'static Environment, String> {
    RUNTIME.get_or_init(|| load(library)).as_ref().map_err(Clone::clone)
}

pub(super) fn load(library: &Path) -> Result<Environment, String> {
    let shown = library.display();
    let advice = "run scripts/setup, or set embedding.library_path or ORT_DYLIB_PATH";
    // A relative path would be looked for beside the program, not where the operator stands.
    let absolute = std::path::absolute(library).map_err(|e| format!("{shown}: {e}; {advice}"))?;
    if !absolute.is_file() {
        return Err(format!("ONNX Runtime's library {shown} does not exist; {advice}"));
    }
    let builder = ort::init_from(&absolute)
        .map_err(|e| format!("ONNX Runtime cannot be loaded from {shown}: {e}; {advice}"))?;
    builder
        .with_name("tidegate")
        .with_telemetry(false)
        .build()
        .map_err(|e| format!("ONNX Runtime from {shown} does not start: {e}"))
}
