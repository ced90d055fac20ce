//! `store`: where keys, limits changed at run time and the auth generation are kept.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Check, etcd};
use crate::store::EtcdSettings;

/// Where the state goes when nothing is said; `STATE_DIR` is what `make run` sets.
const PATH: &str = "${STATE_DIR:-./.state}/tidegate.redb";

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    r#type: Option<Kind>,
    path: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One file, opened by this process alone.
    #[default]
    Embedded,
    /// The same file as a copy of what gateways share in etcd.
    Etcd,
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The database file.
    pub path: PathBuf,
    /// What gateways share, if they do.
    pub etcd: Option<EtcdSettings>,
}

impl Store {
    /// The folder of the database, which also holds the internal token.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// Checks the section.
pub fn validate(document: Document, etcd: Option<etcd::Document>, check: &mut Check<'_>) -> Store {
    let Document { r#type, path } = document;
    let path = check.expanded("store.path", path.as_deref().unwrap_or(PATH));
    if path.is_empty() || path.ends_with('/') {
        check.problems.add("store.path", "must name a file, such as ./.state/tidegate.redb");
    }
    let is_shared = matches!(r#type.unwrap_or_default(), Kind::Etcd);
    if is_shared && etcd.is_none() {
        check
            .problems
            .add("etcd", "is missing; with store.type etcd, add `etcd: {endpoints: [127.0.0.1:2379]}`");
    }
    // The section is checked even where it is not used, so that a file is right once and for all.
    let etcd = etcd.and_then(|document| etcd::validate(document, check)).filter(|_| is_shared);
    Store { path: path.into(), etcd }
}
