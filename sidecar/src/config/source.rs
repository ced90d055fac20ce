//! Where a configuration comes from: a YAML file, and the environment on top of it.

use serde_norway::{Mapping, Value};

use super::problem::Problems;
use super::value::Env;

/// Variables that start with this override one key each: `GATEWAY__SERVER__PORT=9000`.
const PREFIX: &str = "GATEWAY__";
/// Most overrides looked at.
const OVERRIDES_MAX: usize = 256;
/// Highest list index that an override may name.
const INDEX_MAX: usize = 255;

/// Parses `yaml` and lays the overrides of `env` on it.
pub fn tree(yaml: &str, env: &Env, problems: &mut Problems) -> Value {
    let mut tree = match serde_norway::from_str::<Value>(yaml) {
        Ok(Value::Null) => Value::Mapping(Mapping::new()),
        Ok(tree @ Value::Mapping(_)) => tree,
        Ok(_) => {
            problems.add("document", "must be a mapping of sections, such as `server:`");
            return Value::Null;
        }
        Err(error) => {
            problems.add("document", format!("is not valid YAML: {error}"));
            return Value::Null;
        }
    };
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)).take(OVERRIDES_MAX) {
        if let Err(what) = lay(&mut tree, name, value) {
            problems.add(name, what);
        }
    }
    tree
}

/// Writes one override into the tree.
fn lay(tree: &mut Value, name: &str, value: &str) -> Result<(), String> {
    let keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
    if keys.iter().any(String::is_empty) {
        return Err("is not a path; write GATEWAY__SECTION__KEY".to_owned());
    }
    let mut node = tree;
    for key in &keys {
        node = descend(node, key)?;
    }
    *node = scalar(value, keys.last().map_or("", String::as_str), keys.len());
    Ok(())
}

/// The child `key` of `node`, made if absent; a number is the index of a list item, and the
/// index after the last one appends.
fn descend<'a>(node: &'a mut Value, key: &str) -> Result<&'a mut Value, String> {
    if let Ok(index) = key.parse::<usize>() {
        if node.is_null() {
            *node = Value::Sequence(Vec::new());
        }
        let list =
            node.as_sequence_mut().ok_or_else(|| format!("has the index {key}, but not below a list"))?;
        if index > list.len() || index > INDEX_MAX {
            return Err(format!("has the index {index}, but the list has {} items", list.len()));
        }
        if index == list.len() {
            list.push(Value::Null);
        }
        return list.get_mut(index).ok_or_else(|| format!("has the index {index} of no item"));
    }
    if node.is_null() {
        *node = Value::Mapping(Mapping::new());
    }
    let map = node.as_mapping_mut().ok_or_else(|| format!("has the key `{key}`, but not below a mapping"))?;
    Ok(map.entry(Value::from(key)).or_insert(Value::Null))
}

/// Keys whose value is text even if it looks like a number.
const TEXT_KEYS: [&str; 12] = [
    "api_key",
    "key",
    "hash",
    "name",
    "tenant",
    "path",
    "model_path",
    "filter_path",
    "sidecar_socket",
    "base_url",
    "address",
    "host",
];

/// A value as YAML would read it, except where only text makes sense.
fn scalar(value: &str, last_key: &str, depth: usize) -> Value {
    let in_list = last_key.parse::<usize>().is_ok() && depth > 1;
    if TEXT_KEYS.contains(&last_key) || in_list {
        return Value::String(value.to_owned());
    }
    match serde_norway::from_str::<Value>(value) {
        Ok(parsed @ (Value::Bool(_) | Value::Number(_) | Value::Null | Value::Sequence(_))) => parsed,
        _ => Value::String(value.to_owned()),
    }
}
