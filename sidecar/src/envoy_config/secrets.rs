//! The files by which Envoy finds the gateway's certificates (its SDS by path), beside the store.
//!
//! They name files and hold no secret. Envoy watches their folder: a file that is renamed into it
//! makes Envoy read the certificates again, which is how the sidecar tells it of new ones.

use std::fmt::Write as _;
use std::io::{Error, Write as _};
use std::path::{Path, PathBuf};

use super::quoted;
use crate::config::tls::Tls;

/// The folder, beside the store.
const FOLDER: &str = "envoy-tls";
/// The gateway's certificate, as a file and as a secret.
const SERVER: &str = "server";
/// The authorities of clients.
const CLIENTS: &str = "clients";

/// Where the files are for one store.
#[derive(Debug, Clone)]
pub struct Secrets {
    folder: PathBuf,
}

impl Secrets {
    /// Those beside the store in `folder`.
    #[must_use]
    pub fn beside(folder: &Path) -> Self {
        let folder = folder.join(FOLDER);
        Self { folder: std::path::absolute(&folder).unwrap_or(folder) }
    }

    /// Writes the files, which makes an Envoy that runs read the certificates again.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn publish(&self, tls: &Tls) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder)?;
        let name = |path: &Path| quoted(&path.to_string_lossy());
        let watched = name(&self.folder);
        let pair = format!(
            "    tls_certificate:
      certificate_chain: {{filename: {}}}
      private_key: {{filename: {}}}
      watched_directory: {{path: {watched}}}
",
            name(&tls.cert_path),
            name(&tls.key_path)
        );
        self.write(SERVER, &pair)?;
        let Some(ca_path) = &tls.client_ca_path else { return Ok(()) };
        let context = format!(
            "    validation_context:
      trusted_ca: {{filename: {}}}
      watched_directory: {{path: {watched}}}
",
            name(ca_path)
        );
        self.write(CLIENTS, &context)
    }

    /// Written under another name first, so that nobody reads half of it.
    fn write(&self, secret: &str, content: &str) -> Result<(), Error> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "resources:
  - \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
    name: {secret}
{content}"
        );
        let draft = self.folder.join(format!("{secret}.{}", std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, self.path(secret))
    }

    fn path(&self, secret: &str) -> PathBuf {
        self.folder.join(format!("{secret}.yaml"))
    }

    /// How Envoy's configuration refers to the certificate.
    #[must_use]
    pub fn server(&self) -> String {
        self.reference(SERVER)
    }

    /// How Envoy's configuration refers to the clients' authorities.
    #[must_use]
    pub fn clients(&self) -> String {
        self.reference(CLIENTS)
    }

    fn reference(&self, secret: &str) -> String {
        let path = quoted(&self.path(secret).to_string_lossy());
        format!(
            "name: {secret}, sds_config: {{path_config_source: {{path: {path}}}, resource_api_version: V3}}"
        )
    }
}
