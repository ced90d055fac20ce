//! Other gateways beside ours, started as their own documentation says, one process each, with the
//! emulated provider behind them and the caller's key checked where they can check one without a
//! database. `scripts/bench-peers` installs them.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_e2e::harness::{Client, ManagedProcess, Port, Spec, eventually, peer_file};

use crate::cases::KEY;
use crate::error::BenchError;
use crate::provider::Provider;

/// Python programs take their time to start.
const READY_DEADLINE: Duration = Duration::from_secs(90);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// LiteLLM's proxy server with one worker.
    LiteLlm,
    /// Portkey's open-source gateway on Node.
    Portkey,
}

/// A running one.
pub(crate) struct RunningPeer {
    pub(crate) process: ManagedProcess,
    pub(crate) address: SocketAddr,
    /// Headers that its callers send.
    pub(crate) headers: Vec<(&'static str, String)>,
    _port: Port,
}

impl RunningPeer {
    pub(crate) async fn start(peer: Peer, provider: &Provider) -> Result<Self, BenchError> {
        let port = Port::lease()?;
        let number = port.number();
        let mut process = ManagedProcess::start(match peer {
            Peer::LiteLlm => litellm(number, provider)?,
            Peer::Portkey => portkey(number, provider)?,
        })?;
        let address = SocketAddr::from(([127, 0, 0, 1], number));
        let up = || async { Client::new().get(&format!("http://{address}/")).await.ok().map(|_| ()) };
        let ready = eventually("the other gateway answers", READY_DEADLINE, up).await;
        process.check_running()?;
        ready?;
        let headers = match peer {
            Peer::LiteLlm => Vec::new(),
            Peer::Portkey => vec![
                ("x-portkey-provider", "openai".to_owned()),
                ("x-portkey-custom-host", provider.base_url()),
            ],
        };
        Ok(Self { process, address, headers, _port: port })
    }
}

/// <https://docs.litellm.ai/docs/proxy/configs>; a master key alone needs no database.
fn litellm(port: u16, provider: &Provider) -> Result<Spec, BenchError> {
    let config = provider.folder().join("litellm.yaml");
    let text = format!(
        "\
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: \"{}\", api_key: {KEY}}}
general_settings: {{master_key: {KEY}}}
litellm_settings: {{telemetry: false}}
",
        provider.base_url()
    );
    fs::write(&config, text).map_err(BenchError::doing("writing LiteLLM's configuration"))?;
    let arguments = [
        "--config".into(),
        config.into_os_string(),
        "--host".into(),
        "127.0.0.1".into(),
        "--port".into(),
        port.to_string().into(),
        "--num_workers".into(),
        "1".into(),
    ];
    spec("litellm", peer_file("litellm/bin/litellm")?, arguments.into(), provider.folder())
}

/// <https://github.com/Portkey-AI/gateway>: `npx @portkey-ai/gateway`, told by headers where to go.
fn portkey(port: u16, provider: &Provider) -> Result<Spec, BenchError> {
    let server = peer_file("portkey/node_modules/@portkey-ai/gateway/build/start-server.js")?;
    let arguments = vec![server.into_os_string(), format!("--port={port}").into(), "--headless".into()];
    spec("portkey", PathBuf::from("node"), arguments, provider.folder())
}

fn spec(
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: &Path,
) -> Result<Spec, BenchError> {
    // Their access logs cost them time, and nobody reads them here.
    let environment =
        vec![("LITELLM_LOG".to_owned(), "ERROR".into()), ("NODE_ENV".to_owned(), "production".into())];
    Ok(Spec { name, program, arguments, environment, log: folder.join(format!("{name}.log")) })
}
