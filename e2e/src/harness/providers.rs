//! Configurations with every emulated provider in them.

use crate::emulator::Emulator;

/// One emulated provider as the gateway's configuration has it.
#[derive(Debug, Clone, Copy)]
pub struct EmulatedProvider {
    /// Its `type`, which is also its name.
    pub name: &'static str,
    /// A model of its that chats.
    pub model: &'static str,
    /// A model of its that embeds, if there is one.
    pub embeds: Option<&'static str>,
    /// Keys and whatever else it needs.
    fields: &'static str,
}

/// Every emulated provider there is.
pub const EMULATED: [EmulatedProvider; 8] = [
    EmulatedProvider {
        name: "openai",
        model: "gpt-4o",
        embeds: Some("text-embedding-3-small"),
        fields: "api_key: sk-emulated-0123456789",
    },
    EmulatedProvider {
        name: "anthropic",
        model: "claude-sonnet-4-5",
        embeds: None,
        fields: "api_key: sk-ant-emulated-0123456789",
    },
    EmulatedProvider {
        name: "azure",
        model: "chat-deployment",
        embeds: Some("embeddings"),
        fields: "api_key: azure-emulated-0123456789",
    },
    EmulatedProvider {
        name: "gemini",
        model: "gemini-2.5-flash",
        embeds: Some("gemini-embedding-001"),
        fields: "api_key: AIza-emulated-0123456789",
    },
    EmulatedProvider {
        name: "vertex",
        model: "gemini-3-pro-preview",
        embeds: None,
        fields: "project: emulated, location: us-central1, api_key: ya29.emulated-0123456789",
    },
    EmulatedProvider {
        name: "bedrock",
        model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
        embeds: Some("amazon.titan-embed-text-v2:0"),
        fields: "region: us-east-1, access_key_id: AKIDEMULATED, secret_access_key: secret-emulated-0123456789",
    },
    EmulatedProvider {
        name: "ernie_classic",
        model: "ernie-4.0-8k",
        embeds: Some("embedding-v1"),
        fields: "api_key: ernie-key-0123456789, secret_key: ernie-secret-0123456789",
    },
    EmulatedProvider {
        name: "ernie",
        model: "ernie-4.5-turbo-128k",
        embeds: None,
        fields: "api_key: bce-v3/emulated-0123456789",
    },
];

impl EmulatedProvider {
    /// An item of `providers:` for it, with `more` fields in YAML's flow style, such as
    /// `, timeout: 1s`.
    #[must_use]
    pub fn yaml(&self, emulator: &Emulator, more: &str) -> String {
        let url = emulator.base_urls().into_iter().find(|(name, _)| *name == self.name);
        let url = url.map(|(_, url)| url).unwrap_or_default();
        let models: Vec<&str> = std::iter::once(self.model).chain(self.embeds).collect();
        format!(
            "  - {{name: {}, type: {}, base_url: \"{url}\", models: {models:?}, {}{more}}}\n",
            self.name, self.name, self.fields
        )
    }

    /// What a caller writes as `model` to be answered by this one.
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}/{}", self.name, self.model)
    }
}
