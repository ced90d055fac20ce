//! Where a configuration comes from: a YAML file, and the environment on top of it.

use serde_norway::{Mapping, Value};

use super::problem::Problems;
use super::value::Env;

/// Variables that start with this override one key each: `GATEWAY__SERVER__PORT=9000`.
const PREFIX: &str = "GATEWAY__";
/// What platforms and other gateways call a key: variable, path, and whether it is a list with commas. They are laid on
/// the file, and those that start with [`PREFIX`] on them.
const ALIASES: [(&str, &[&str], bool); 8] = [
    ("PORT", &["server", "port"], false),
    ("REDIS_URL", &["redis", "url"], false),
    ("KAFKA_BROKERS", &["kafka", "brokers"], true),
    ("ETCD_ENDPOINTS", &["etcd", "endpoints"], true),
    ("JWT_SECRET", &["auth", "jwt", "secret"], false),
    ("EMBEDDING_URL", &["embedding", "base_url"], false),
    ("EMBEDDING_API_KEY", &["embedding", "api_key"], false),
    ("EMBEDDING_MODEL", &["embedding", "model"], false),
];
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
    for (name, path, is_list) in ALIASES {
        let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { continue };
        if name == "JWT_SECRET" && has_private_key(&tree) {
            continue;
        }
        let keys: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        let value = if is_list { items(text) } else { scalar(text, &keys) };
        if let Err(what) = lay(&mut tree, &keys, value) {
            problems.add(name, what);
        }
    }
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)).take(OVERRIDES_MAX) {
        let keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
        if let Err(what) = lay(&mut tree, &keys, scalar(value, &keys)) {
            problems.add(name, what);
        }
    }
    tree
}

/// Tokens are signed with one or the other; what the file says stays.
fn has_private_key(tree: &Value) -> bool {
    let jwt = tree.get("auth").and_then(|auth| auth.get("jwt"));
    jwt.and_then(|jwt| jwt.get("private_key_path")).is_some()
}

fn items(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::Sequence(items.map(Value::from).collect())
}

/// Writes one override into the tree.
fn lay(tree: &mut Value, keys: &[String], value: Value) -> Result<(), String> {
    if keys.iter().any(String::is_empty) {
        return Err("is not a path; write GATEWAY__SECTION__KEY".to_owned());
    }
    let mut node = tree;
    for key in keys {
        node = descend(node, key)?;
    }
    *node = value;
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
const TEXT_KEYS: [&str; 13] = [
    "api_key",
    "secret",
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
fn scalar(value: &str, keys: &[String]) -> Value {
    let last_key = keys.last().map_or("", String::as_str);
    let in_list = last_key.parse::<usize>().is_ok() && keys.len() > 1;
    if TEXT_KEYS.contains(&last_key) || in_list {
        return Value::String(value.to_owned());
    }
    match serde_norway::from_str::<Value>(value) {
        Ok(parsed @ (Value::Bool(_) | Value::Number(_) | Value::Null | Value::Sequence(_))) => parsed,
        _ => Value::String(value.to_owned()),
    }
}
