//! What a gateway under test is made of.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::HarnessError;
use super::gateway::{ADMIN_KEY, Gateway};
use super::tls::TlsClient;
use crate::emulator::Emulator;

/// Worker threads of Envoy unless the test says otherwise: state shared between workers is where
/// mistakes hide.
const WORKERS_DEFAULT: u32 = 2;
/// A gateway in front of the emulated OpenAI, open to anonymous callers.
const CONFIG_DEFAULT: &str = "\
providers:
  - {{openai}}
    models: [gpt-4o, gpt-4o-mini, gpt-3.5-turbo-instruct]
auth:
  anonymous:
    enabled: true
    tenant: demo
";

type EnvoyPatch = Box<dyn FnOnce(String) -> Result<String, HarnessError> + Send>;

/// Collects the parts of a [`Gateway`].
pub struct GatewayBuilder {
    pub(super) config: String,
    pub(super) workers: u32,
    pub(super) envoy_patch: Option<EnvoyPatch>,
    pub(super) environment: Vec<(String, OsString)>,
    pub(super) filter: Option<PathBuf>,
    pub(super) emulator: Option<Emulator>,
    pub(super) provider_url: Option<String>,
    pub(super) admin_key: Option<&'static str>,
    pub(super) tls_client: Option<TlsClient>,
}

impl std::fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl GatewayBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: CONFIG_DEFAULT.to_owned(),
            workers: WORKERS_DEFAULT,
            envoy_patch: None,
            environment: Vec::new(),
            filter: None,
            emulator: None,
            provider_url: None,
            admin_key: Some(ADMIN_KEY),
            tls_client: None,
        }
    }

    /// The sidecar's configuration. Ports, the store's path and the filter's path are set by the
    /// harness; `{{emulator}}` becomes the base URL of the emulated OpenAI, `{{anthropic}}` that of
    /// the emulated Anthropic, and `{{openai}}`, as in `  - {{openai}}`, the fields of a provider
    /// called `openai` but for its models.
    #[must_use]
    pub fn config_yaml(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.config);
        self
    }

    /// The default configuration with these top-level sections added.
    #[must_use]
    pub fn add_config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        if !yaml.ends_with('\n') {
            self.config.push('\n');
        }
        self
    }

    /// The number of Envoy's worker threads.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Changes the text of Envoy's configuration before Envoy sees it. A patch that does not find
    /// what it changes must fail, or the test would run without it: see [`replace_once`].
    ///
    /// [`replace_once`]: super::replace_once
    #[must_use]
    pub fn patch_envoy(
        mut self,
        patch: impl FnOnce(String) -> Result<String, HarnessError> + Send + 'static,
    ) -> Self {
        self.envoy_patch = Some(Box::new(patch));
        self
    }

    /// Adds an environment variable for the sidecar.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// No `GATEWAY_ADMIN_KEY`: the sidecar makes a key of its own.
    #[must_use]
    pub fn without_admin_key(mut self) -> Self {
        self.admin_key = None;
        self
    }

    /// Another filter than the usual one, such as the build with fault injection.
    #[must_use]
    pub fn filter(mut self, path: impl Into<PathBuf>) -> Self {
        self.filter = Some(path.into());
        self
    }

    /// An emulator that was prepared beforehand.
    #[must_use]
    pub fn emulator(mut self, emulator: Emulator) -> Self {
        self.emulator = Some(emulator);
        self
    }

    /// What `{{emulator}}` stands for, when the provider is not the emulator in this process.
    #[must_use]
    pub fn provider_url(mut self, url: &str) -> Self {
        self.provider_url = Some(url.to_owned());
        self
    }

    /// The gateway speaks TLS; this client sees when it is ready.
    #[must_use]
    pub fn ready_by(mut self, client: TlsClient) -> Self {
        self.tls_client = Some(client);
        self
    }

    /// Starts everything and waits until the gateway is ready.
    ///
    /// # Errors
    /// A part is not installed, does not start, or is not ready in time; the error carries the end
    /// of its log.
    pub async fn start(self) -> Result<Gateway, HarnessError> {
        Gateway::start(self).await
    }
}
