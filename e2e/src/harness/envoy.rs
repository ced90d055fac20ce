//! A real Envoy on a given configuration.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::error::HarnessError;
use super::paths::envoy_binary;
use super::process::{ManagedProcess, Spec};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The process.
    pub process: ManagedProcess,
}

impl Envoy {
    /// Starts Envoy with `workers` worker threads on the YAML text `config`; its configuration and
    /// its log (`{name}.yaml`, `{name}.log`) go to `dir`. It is not ready yet when this returns.
    ///
    /// # Errors
    /// Envoy is not installed or cannot be started.
    pub fn start(dir: &Path, name: &'static str, config: &str, workers: u32) -> Result<Self, HarnessError> {
        let config_path = dir.join(format!("{name}.yaml"));
        fs::write(&config_path, config).map_err(HarnessError::io("writing Envoy's config"))?;
        let arguments: Vec<OsString> = vec![
            "--config-path".into(),
            config_path.into(),
            "--concurrency".into(),
            workers.to_string().into(),
            // Without a base id of its own, a second Envoy on the machine would not start.
            "--use-dynamic-base-id".into(),
            // What is in the access log can be read at once.
            "--file-flush-interval-msec".into(),
            "100".into(),
            "--log-level".into(),
            "warning".into(),
            "--component-log-level".into(),
            "wasm:info".into(),
        ];
        let process = ManagedProcess::start(Spec {
            name,
            program: envoy_binary()?,
            arguments,
            environment: Vec::new(),
            log: dir.join(format!("{name}.log")),
        })?;
        Ok(Self { process })
    }
}
