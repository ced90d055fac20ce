//! From a YAML tree to a serde document, with every structural error and not the first alone.
//!
//! Serde stops at the first error. Its path is known, so that node is noted, cut out of the
//! tree, and the tree is read again: each pass removes one node, and the passes are bounded.

use serde::de::DeserializeOwned;
use serde_norway::Value;
use serde_path_to_error::{Path, Segment};

use super::problem::{PROBLEMS_MAX, Problems};

/// Sections that the configuration contract has, but that this version has nothing for: they may be
/// there, empty.
pub const LATER: [&str; 1] = ["discovery"];

/// Reads `tree` as a `T`; what does not fit is noted in `problems` and left out.
pub fn read<T: DeserializeOwned + Default>(mut tree: Value, problems: &mut Problems) -> T {
    if tree.is_null() {
        return T::default();
    }
    for _ in 0..PROBLEMS_MAX {
        match serde_path_to_error::deserialize::<_, T>(&tree) {
            Ok(document) => return document,
            Err(error) => {
                problems.add(display(error.path()), explain(error.path(), &error.inner().to_string()));
                if !cut(&mut tree, error.path()) {
                    break;
                }
            }
        }
    }
    T::default()
}

fn display(path: &Path) -> String {
    let text = path.to_string();
    if text == "." { "document".to_owned() } else { text }
}

/// Serde's message in the words of a person who writes YAML.
fn explain(path: &Path, message: &str) -> String {
    if message.starts_with("unknown field") {
        let name = path.to_string();
        if LATER.iter().any(|later| name.split('.').next() == Some(later)) {
            return format!("`{name}` is not supported by this version; remove it");
        }
        return message.replacen("expected", "use", 1);
    }
    const WORDS: [(&str, &str); 9] = [
        ("expected a sequence", "expected a list"),
        ("expected f64", "expected a number"),
        ("expected u16", "expected a whole number, 0 to 65535"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected a boolean", "expected true or false"),
        ("floating point `NaN`", "`.nan`"),
        ("invalid type: map", "invalid type: mapping"),
    ];
    let text = WORDS.iter().fold(message.to_owned(), |text, (serde, person)| text.replace(serde, person));
    text.split_once("expected struct ")
        .map_or(text.clone(), |(before, _)| format!("{before}expected a mapping"))
}

/// Removes the node at `path`: a key of a mapping is taken out, an item of a list becomes null
/// so that the others keep their places. False when there is nothing to remove.
fn cut(tree: &mut Value, path: &Path) -> bool {
    let segments: Vec<&Segment> = path.iter().collect();
    let Some((last, above)) = segments.split_last() else { return false };
    let mut node = tree;
    for segment in above {
        let below = match segment {
            Segment::Map { key } => node.get_mut(key.as_str()),
            Segment::Seq { index } => node.get_mut(*index),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(below) = below else { return false };
        node = below;
    }
    match last {
        Segment::Map { key } => node.as_mapping_mut().is_some_and(|map| map.remove(key.as_str()).is_some()),
        Segment::Seq { index } => node.get_mut(*index).is_some_and(|item| {
            *item = Value::Null;
            true
        }),
        Segment::Enum { .. } | Segment::Unknown => false,
    }
}
