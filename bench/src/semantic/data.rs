//! Reads pair sets and labelled texts: JSON lines as `{"a", "b", "label"}` or `{"text", "label"}`.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::BenchError;

/// Two prompts and whether one answer serves both.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pair {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) label: u8,
}

/// A prompt and the class of those that share its answer.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    pub(crate) text: String,
    pub(crate) class: u32,
}

pub(crate) fn pairs(path: &Path) -> Result<Vec<Pair>, BenchError> {
    lines(path)
}

/// The texts of a file with their labels as numbers.
pub(crate) fn labelled(path: &Path) -> Result<Vec<Labelled>, BenchError> {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        label: String,
    }
    let mut classes: HashMap<String, u32> = HashMap::new();
    let rows: Vec<Row> = lines(path)?;
    let number = |row: Row| {
        let next = classes.len() as u32;
        Labelled { text: row.text, class: *classes.entry(row.label).or_insert(next) }
    };
    Ok(rows.into_iter().map(number).collect())
}

/// The texts of pairs: those joined by label 1, directly or by others, are one class.
pub(crate) fn closure(pairs: &[Pair]) -> Vec<Labelled> {
    let mut texts: Vec<&str> = pairs.iter().flat_map(|pair| [pair.a.as_str(), pair.b.as_str()]).collect();
    texts.sort_unstable();
    texts.dedup();
    let number: HashMap<&str, usize> = texts.iter().enumerate().map(|(i, text)| (*text, i)).collect();
    let mut parent: Vec<usize> = (0..texts.len()).collect();
    for pair in pairs.iter().filter(|pair| pair.label == 1) {
        let (a, b) = (root(&parent, number[pair.a.as_str()]), root(&parent, number[pair.b.as_str()]));
        parent[a] = b;
    }
    let labelled = |i: usize| Labelled { text: texts[i].to_owned(), class: root(&parent, i) as u32 };
    (0..texts.len()).map(labelled).collect()
}

fn root(parent: &[usize], mut at: usize) -> usize {
    while parent[at] != at {
        at = parent[at];
    }
    at
}

/// All English texts of the folder.
pub(crate) fn texts(folder: &Path) -> Result<Vec<String>, BenchError> {
    let mut texts: Vec<String> =
        labelled(&folder.join("banking77_train.jsonl"))?.into_iter().map(|row| row.text).collect();
    for file in ["qqp_en.jsonl", "gptcache_mock_999.jsonl"] {
        texts.extend(pairs(&folder.join(file))?.into_iter().map(|pair| pair.a));
    }
    Ok(texts)
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>, BenchError> {
    let text = std::fs::read_to_string(path).map_err(BenchError::doing(path.display().to_string()))?;
    let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<T>, _>>();
    rows.map_err(BenchError::doing(path.display().to_string()))
}
