//! `clustering`: how errors are told apart, and what they mean.

use std::path::Path;

use serde::Deserialize;
use tidegate_core::incident::cluster;
use tidegate_core::incident::exemplar::{Library, Meaning};

use super::Check;
use super::breaker::millis;
use super::value::Span;
use crate::clusters::Settings;

/// The exemplars that come with the gateway.
const SHIPPED: &str = include_str!("../../../configs/exemplars.yaml");
/// Largest file of exemplars, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    exemplars: Option<String>,
    threshold: Option<f32>,
    max_clusters: Option<u32>,
    recluster_interval: Option<Span>,
    idle_timeout: Option<Span>,
    embedding: Option<bool>,
}

/// Checks the section and reads the exemplars.
pub fn validate(document: Document, check: &mut Check<'_>) -> Settings {
    let Document { exemplars, threshold, max_clusters, recluster_interval, idle_timeout, embedding } =
        document;
    let mut meanings = match read(SHIPPED) {
        Ok(meanings) => meanings,
        Err(what) => {
            check.problems.add("clustering", format!("the exemplars of this build: {what}"));
            Vec::new()
        }
    };
    if let Some(path) = exemplars {
        let path = check.expanded("clustering.exemplars", &path);
        match file(Path::new(&path)).and_then(|text| own(&text, &meanings)) {
            Ok(own) => meanings.extend(own),
            Err(what) => check.problems.add("clustering.exemplars", format!("{path}: {what}")),
        }
    }
    let ms = |span: Option<Span>, default_ms| span.map_or(default_ms, |span| millis(span.0));
    let problems = &mut check.problems;
    Settings {
        meanings,
        clusters: cluster::Settings {
            clusters_max: problems.within(
                "clustering.max_clusters",
                max_clusters.unwrap_or(512),
                8..=4096,
                " clusters",
            ) as usize,
            threshold: problems.within("clustering.threshold", threshold.unwrap_or(0.6), 0.2..=0.95, ""),
            idle_ms: problems.within(
                "clustering.idle_timeout",
                ms(idle_timeout, 86_400_000),
                60_000..=2_592_000_000,
                " milliseconds (1m to 720h)",
            ),
        },
        recluster_interval: std::time::Duration::from_millis(problems.within(
            "clustering.recluster_interval",
            ms(recluster_interval, 30_000),
            1000..=3_600_000,
            " milliseconds (1s to 1h)",
        )),
        embedding: embedding.unwrap_or(true),
    }
}

fn file(path: &Path) -> Result<String, String> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => Err(format!("is larger than {FILE_BYTES_MAX} bytes")),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}")),
        Err(error) => Err(format!("cannot be read: {error}; name a file that is there, or remove the key")),
    }
}

/// The YAML reader's errors have the path in front, with a dot too many.
fn read(text: &str) -> Result<Vec<Meaning>, String> {
    serde_norway::from_str(text).map_err(|error| error.to_string().trim_start_matches('.').to_owned())
}

/// An operator's exemplars, checked alone, where paths are those of their file, and with ours.
fn own(text: &str, shipped: &[Meaning]) -> Result<Vec<Meaning>, String> {
    let own = read(text)?;
    let refused = |bad: tidegate_core::incident::exemplar::BadMeaning| format!("{}: {}", bad.path, bad.what);
    Library::new(own.clone()).map_err(refused)?;
    Library::new(shipped.iter().chain(&own).cloned().collect()).map_err(|bad| bad.what)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    #[test]
    fn what_is_shipped_is_good_and_of_every_kind() {
        let meanings = read(SHIPPED).expect("reads");
        for kind in tidegate_core::incident::ErrorKind::ALL {
            let known = meanings.iter().any(|m| m.kind == *kind && !m.examples.is_empty());
            assert!(known || kind.as_str() == "unknown", "{kind}");
        }
        Library::new(meanings).expect("a library");
    }

    #[test]
    fn mistakes_in_the_section_and_in_the_file_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("own.yaml");
        let problems = |exemplars: &str| {
            std::fs::write(&path, exemplars).expect("writes");
            let yaml = format!("clustering:\n  threshold: 2\n  exemplars: {}\n", path.display());
            parse(&yaml, &Env::default()).expect_err("refused").to_string()
        };
        let text = problems("- {name: x, kind: quotas}");
        assert!(text.contains("clustering.threshold: is 2; must be 0.2 to 0.95"), "{text}");
        assert!(text.contains("own.yaml: [0].kind: unknown variant `quotas`"), "{text}");
        let text = problems("- {name: timeout, kind: quota}");
        assert!(text.contains("`timeout` is of kind timeout already; use another name"), "{text}");
        let text = problems("- {name: x, kind: unknown}");
        assert!(text.contains("[0].kind: is unknown"), "{text}");
        let text =
            parse("clustering: {exemplars: /nowhere.yaml}", &Env::default()).expect_err("none").to_string();
        assert!(text.contains("name a file that is there"), "{text}");
    }

    #[test]
    fn an_operators_meaning_is_added() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("own.yaml");
        std::fs::write(&path, "- {name: maintenance, kind: overloaded, phrases: [planned maintenance]}")
            .expect("writes");
        let yaml = format!("clustering: {{exemplars: {}}}", path.display());
        let config = parse(&yaml, &Env::default()).expect("good");
        assert!(config.clustering.meanings.iter().any(|m| m.name == "maintenance"));
    }
}
