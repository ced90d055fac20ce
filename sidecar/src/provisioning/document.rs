//! Providers as they are written: in the configuration file, and in what operators send.

use serde_json::{Map, Value};

use crate::config::{Check, Env, Problems, providers};
use crate::llm::ProviderSettings;

/// A provider's document, which may hold secrets: it is never printed.
#[derive(Clone, PartialEq, Default)]
pub struct Document(Map<String, Value>);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(***)")
    }
}

/// What is shown instead of a key.
pub const HIDDEN: &str = "***";

/// Fields that are shown and not set: what was read can be sent back.
const SHOWN_ONLY: [&str; 4] = ["keys", "origin", "health", "rate_limit"];

/// Fields that are credentials.
const SECRETS: [&str; 6] =
    ["api_key", "api_keys", "secret_access_key", "session_token", "secret_key", "service_account"];
/// Fields of which one replaces the other.
const KEYS: [&str; 2] = ["api_key", "api_keys"];

impl Document {
    /// The documents of a configuration's section `providers`.
    #[must_use]
    pub fn of_section(section: Option<&serde_norway::Value>) -> Vec<Self> {
        let list = section.and_then(serde_norway::Value::as_sequence).into_iter().flatten();
        list.filter_map(|item| match serde_json::to_value(item) {
            Ok(Value::Object(fields)) => Some(Self(fields)),
            _ => None,
        })
        .collect()
    }

    /// What an operator sent.
    ///
    /// # Errors
    /// A field that refers to the environment: an operator must not be able to send the
    /// gateway's other secrets to an address of their choice.
    pub fn sent(mut fields: Map<String, Value>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        // What was shown instead of a key is none: whoever sends it back means no change.
        fields.retain(|name, value| !(SECRETS.contains(&name.as_str()) && *value == HIDDEN));
        fields.retain(|name, _| !SHOWN_ONLY.contains(&name.as_str()));
        for (name, value) in &fields {
            if value.to_string().contains("${") {
                problems.add(name.as_str(), "must not refer to variables; send the value itself");
            }
        }
        if problems.is_empty() { Ok(Self(fields)) } else { Err(problems) }
    }

    /// Reads what [`Self::text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// As JSON, secrets included: only to be sealed.
    #[must_use]
    pub fn text(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// The provider's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.get("name")?.as_str()
    }

    /// Whether this names the field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Whether this one, with `over` laid on it, has credentials that are still its own.
    #[must_use]
    pub fn keeps_secrets_under(&self, over: &Self) -> bool {
        let both = self.with(over);
        SECRETS.iter().any(|field| both.has(field) && !over.has(field))
    }

    /// Gives it a name, if it has none.
    pub fn name_it(&mut self, name: &str) {
        self.0.entry("name").or_insert_with(|| name.into());
    }

    /// This one with `over` laid on it, field by field; null takes a field away.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let mut fields = self.0.clone();
        if KEYS.iter().any(|key| over.has(key)) {
            KEYS.iter().for_each(|key| drop(fields.remove(*key)));
        }
        for (name, value) in &over.0 {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
        Self(fields)
    }

    /// Checks it as the configuration would be; `path` stands before every field in problems.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self, path: &str, env: &Env) -> Result<ProviderSettings, Problems> {
        let mut check = Check { problems: Problems::default(), env };
        let settings = providers::validate_one(path, Value::Object(self.0.clone()), &mut check);
        match settings {
            Some(settings) if check.problems.is_empty() => Ok(settings),
            _ => Err(check.problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(value: Value) -> Document {
        match value {
            Value::Object(fields) => Document::sent(fields).expect("no variables"),
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn fields_are_laid_over_each_other_and_keys_replace_keys() {
        let base = document(json!({"name": "a", "api_keys": ["k1", "k2"], "weight": 2, "timeout": "5s"}));
        let over = document(json!({"api_key": "k3", "weight": 7, "timeout": null}));
        assert_eq!(base.with(&over), document(json!({"name": "a", "api_key": "k3", "weight": 7})));
        assert!(!format!("{base:?}").contains("k1"));
    }

    #[test]
    fn variables_are_for_the_file_alone() {
        let Value::Object(fields) = json!({"api_keys": ["${GATEWAY_ADMIN_KEY}"]}) else { panic!() };
        let problems = Document::sent(fields).expect_err("refused").to_string();
        assert!(problems.starts_with("api_keys: must not refer to variables"), "{problems}");
    }

    #[test]
    fn mistakes_are_named_by_their_field() {
        let env = Env::default();
        let check = |value| document(value).validate("", &env).map_err(|p| p.to_string());
        let good = check(json!({
            "name": "openai-prod", "type": "openai", "base_url": "https://api.openai.com/v1",
            "api_key": "sk-x", "weight": 10, "enabled": true
        }));
        assert_eq!(good.map(|settings| settings.weight), Ok(10));
        for (value, wanted) in [
            (json!({"type": "openai", "base_url": "https://h/v1"}), "name: is missing"),
            (json!({"name": "a", "type": "opnai"}), "type: "),
            (json!({"name": "a", "type": "openai", "base_url": "https://h", "weight": -1}), "weight: "),
            (
                json!({"name": "a", "type": "openai", "base_url": "https://h", "waight": 1}),
                "waight: unknown field",
            ),
        ] {
            let problems = check(value).expect_err(wanted);
            assert!(problems.starts_with(wanted), "{problems}");
        }
    }
}
