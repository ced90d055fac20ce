//! Renders envoy.yaml.
use crate::{config::Config, secret::Secret};
/// Renders.
pub fn render(_: &Config, _: &Secret) -> String { String::new() }
