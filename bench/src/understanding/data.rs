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
    fn quoted_fields_may_hold_commas_and_quotes() {
        assert_eq!(records("a,\"b, \"\"c\"\"\",d\r\n1,,\n"), [["a", "b, \"c\"", "d"], ["1", "", ""]]);
    }
}
