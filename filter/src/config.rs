//! The plugin configuration in envoy.yaml: where the sidecar is. Everything that may change while
//! Envoy runs comes from the sidecar instead (large or frequent plugin updates grow Envoy's memory).

use serde::Deserialize;

/// The plugin configuration; JSON in a `google.protobuf.StringValue`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// Name of the Envoy cluster that is the sidecar.
    pub cluster: String,
    /// `:authority` of calls to it.
    pub authority: String,
    /// Secret shared with the sidecar.
    pub token: String,
    /// Milliseconds between ticks, 10 to 1000.
    #[serde(default = "tick_ms_default")]
    pub tick_ms: u64,
    /// Envoy puts `x-request-id` into answers itself (`always_set_request_id_in_response`), which it
    /// does for less than a call from here costs.
    #[serde(default)]
    pub request_id_echoed: bool,
    /// Envoy's routes go by the path alone, so that the exact cache need not ask for each request's
    /// upstream to tell answers of different ones apart.
    #[serde(default)]
    pub routed_by_path: bool,
}

const fn tick_ms_default() -> u64 {
    100
}

impl PluginConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it; never the token itself.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(json).map_err(|e| format!("plugin configuration: {e}"))?;
        for (field, value) in
            [("cluster", &config.cluster), ("authority", &config.authority), ("token", &config.token)]
        {
            if value.is_empty() {
                return Err(format!("plugin configuration: {field} must not be empty"));
            }
        }
        if !(10..=1000).contains(&config.tick_ms) {
            return Err(format!("plugin configuration: tick_ms is {}, must be 10 to 1000", config.tick_ms));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        let parse =
            |json: &str| PluginConfig::parse(json.as_bytes()).map(|c| (c.tick_ms, c.request_id_echoed));
        assert_eq!(parse(r#"{"cluster":"c","authority":"a","token":"t"}"#), Ok((100, false)));
        for (json, word) in [
            (r#"{"cluster":"","authority":"a","token":"t"}"#, "cluster"),
            (r#"{"cluster":"c","authority":"a"}"#, "token"),
            (r#"{"cluster":"c","authority":"a","token":"t","tick_ms":1}"#, "tick_ms"),
            (r#"{"cluster":"c","authority":"a","token":"t","colour":1}"#, "colour"),
            ("", "EOF"),
        ] {
            assert!(parse(json).is_err_and(|e| e.contains(word)), "{json}");
        }
    }
}
