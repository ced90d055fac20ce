//! The material: real error messages with their classes, and log lines with their templates.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::BenchError;

/// An error message.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) cls: String,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    /// Filled in from `kinds.json`.
    #[serde(skip)]
    pub(crate) kind: String,
}

/// A log line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) message: String,
    pub(crate) template_id: String,
}

fn text(path: &Path) -> Result<String, BenchError> {
    std::fs::read_to_string(path).map_err(BenchError::doing(format!("reading {}", path.display())))
}

/// Messages that no exemplar was written from: written down, after the providers' documentation, by
/// somebody who had not seen the exemplars.
const UNSEEN: &str = include_str!("../../unseen/errors.tsv");
/// Kinds of the classes of [`UNSEEN`].
const UNSEEN_KINDS: &str = include_str!("../../unseen/kinds.tsv");

/// The messages that were kept apart.
pub(crate) fn unseen() -> Result<Vec<Row>, BenchError> {
    let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#'));
    let kinds: BTreeMap<&str, &str> = lines(UNSEEN_KINDS).filter_map(|line| line.split_once('\t')).collect();
    let read = |line: &str| {
        let bad = || BenchError::new(format!("unseen/errors.tsv: `{line}` is no row"));
        let [class, _, status, message] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else {
            return Err(bad());
        };
        let kind = kinds.get(class).ok_or_else(bad)?;
        // Line ends of pages are written as `\n`.
        let message =
            if message.starts_with('<') { message.replace("\\n", "\n") } else { message.to_owned() };
        Ok(Row { cls: class.to_owned(), status: status.parse().ok(), message, kind: (*kind).to_owned() })
    };
    lines(UNSEEN).map(read).collect()
}

/// The errors in `folder`, with their kinds.
pub(crate) fn errors(folder: &Path) -> Result<Vec<Row>, BenchError> {
    let kinds: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&text(&folder.join("errors/kinds.json"))?)
            .map_err(BenchError::doing("errors/kinds.json"))?;
    let kind_of = |class: &str| {
        kinds.iter().find(|(_, classes)| classes.iter().any(|c| c == class)).map(|(kind, _)| kind.clone())
    };
    let read = |line: &str| {
        let mut row: Row =
            serde_json::from_str(line).map_err(BenchError::doing("errors/llm_errors.jsonl"))?;
        row.kind = kind_of(&row.cls)
            .ok_or_else(|| BenchError::new(format!("kinds.json has no kind for {}", row.cls)))?;
        Ok(row)
    };
    text(&folder.join("errors/llm_errors.jsonl"))?.lines().map(read).collect()
}

/// The log lines in `folder`.
pub(crate) fn logs(folder: &Path) -> Result<Vec<Line>, BenchError> {
    let path = folder.join("logs/loghub2k_errorlike.csv");
    let records = records(&text(&path)?);
    let line = |fields: &Vec<String>| match fields.as_slice() {
        [_, _, message, id, ..] => Ok(Line { message: message.clone(), template_id: id.clone() }),
        _ => Err(BenchError::new(format!("{} has a line of {} fields", path.display(), fields.len()))),
    };
    records.iter().skip(1).map(line).collect()
}

/// The records of a CSV file (RFC 4180).
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut fields, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                fields.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut fields));
            }
            '\r' if !quoted => {}
            other => field.push(other),
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_apart_is_whole() {
        let rows = unseen().unwrap();
        assert!(rows.len() >= 150 && rows.iter().all(|row| !row.message.is_empty()), "{}", rows.len());
        assert!(
            rows.iter().any(|row| row.status.is_none()) && rows.iter().any(|row| row.status == Some(529))
        );
    }

    #[test]
    fn quoted_fields_may_hold_commas_and_quotes() {
        assert_eq!(records("a,\"b, \"\"c\"\"\",d\r\n1,,\n"), [["a", "b, \"c\"", "d"], ["1", "", ""]]);
    }
}
