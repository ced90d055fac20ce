//! The providers known by name: where they are, how they want to be asked, and in which points
//! those that speak OpenAI's protocol differ from it.

use super::Format;

/// Which field bounds an answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLimitField {
    /// `max_tokens`: what compatible servers know.
    MaxTokens,
    /// `max_completion_tokens`: what OpenAI's own newer models insist on.
    MaxCompletionTokens,
}

/// How a provider that speaks OpenAI's protocol is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningField {
    /// `reasoning_effort`, as OpenAI.
    Effort,
    /// `thinking: {type: enabled | disabled}`, as DeepSeek and Zhipu.
    Thinking,
    /// `enable_thinking` and `thinking_budget`, as DashScope.
    EnableThinking,
}

/// In which points a provider differs from OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about a provider")]
pub struct Dialect {
    /// The bound on tokens.
    pub token_limit: TokenLimitField,
    /// How much to think.
    pub reasoning: ReasoningField,
    /// Whether the role `developer` is known; else `system` is written.
    pub developer: bool,
    /// Whether `stream_options` is known.
    pub stream_options: bool,
    /// Whether an answer can be given a schema.
    pub schemas: bool,
    /// Whether `top_k` is known.
    pub top_k: bool,
    /// The field for a seed.
    pub seed: &'static str,
    /// Whether there is the older completions API.
    pub completions: bool,
    /// Whether there is the Responses API.
    pub responses: bool,
    /// Whether `reasoning_content` of earlier answers is to be sent back.
    pub keeps_thoughts: bool,
}

/// OpenAI itself.
const OPENAI: Dialect = Dialect {
    token_limit: TokenLimitField::MaxCompletionTokens,
    reasoning: ReasoningField::Effort,
    developer: true,
    stream_options: true,
    schemas: true,
    top_k: false,
    seed: "seed",
    completions: true,
    responses: true,
    keeps_thoughts: false,
};
/// What most servers that are compatible with it know.
const COMPATIBLE: Dialect =
    Dialect { token_limit: TokenLimitField::MaxTokens, developer: false, responses: false, ..OPENAI };
/// Those of them that only chat.
const CHATTING: Dialect = Dialect { completions: false, ..COMPATIBLE };
/// Azure: its addresses with deployments have no Responses API.
const DEPLOYED: Dialect = Dialect { responses: false, ..OPENAI };
/// Protocols of their own that know no schema of an answer.
const WITHOUT_SCHEMAS: Dialect = Dialect { schemas: false, ..OPENAI };

/// How a provider wants to know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// `authorization: Bearer`.
    Bearer,
    /// The key alone, in this header.
    Header(&'static str),
}

macro_rules! vendors {
    ($($(#[$doc:meta])* $variant:ident => $label:literal, [$($alias:literal),*], $base:expr, $format:expr, $credential:expr, $dialect:expr;)*) => {
        /// A kind of provider: the values of `type:` in the configuration, except `local`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Vendor { $($(#[$doc])* $variant,)* }

        impl Vendor {
            /// All there are, for documentation, tests and look-up.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value of `type:`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Other spellings of it.
            #[must_use]
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($alias),*],)* }
            }

            /// Where it is unless the operator says otherwise; none where that differs from
            /// account to account.
            #[must_use]
            pub const fn base_url(self) -> Option<&'static str> {
                match self { $(Self::$variant => $base,)* }
            }

            /// Its protocol.
            #[must_use]
            pub const fn format(self) -> Format {
                match self { $(Self::$variant => $format,)* }
            }

            /// How it wants to know who asks.
            #[must_use]
            pub const fn credential(self) -> Credential {
                match self { $(Self::$variant => $credential,)* }
            }

            /// In which points it differs from OpenAI.
            #[must_use]
            pub const fn dialect(self) -> Dialect {
                match self { $(Self::$variant => $dialect,)* }
            }
        }
    };
}

vendors! {
    /// OpenAI, and whatever is compatible with it.
    OpenAi => "openai", ["openai_compatible"], Some("https://api.openai.com/v1"), Format::OpenAi, Credential::Bearer,
        COMPATIBLE;
    /// Anthropic.
    Anthropic => "anthropic", ["claude"], Some("https://api.anthropic.com/v1"), Format::Anthropic,
        Credential::Header("x-api-key"), WITHOUT_SCHEMAS;
    /// Google's Gemini API.
    Gemini => "gemini", ["google"], Some("https://generativelanguage.googleapis.com/v1beta"), Format::Gemini,
        Credential::Header("x-goog-api-key"), OPENAI;
    /// Google's Vertex AI.
    Vertex => "vertex", ["vertex_ai"], None, Format::Gemini, Credential::Bearer, OPENAI;
    /// Amazon Bedrock; its keys are signatures, or bearer tokens.
    Bedrock => "bedrock", ["aws_bedrock"], None, Format::Bedrock, Credential::Bearer, WITHOUT_SCHEMAS;
    /// Baidu ERNIE, version 2 of the API.
    Ernie => "ernie", ["baidu", "qianfan"], Some("https://qianfan.baidubce.com/v2"), Format::OpenAi,
        Credential::Bearer, CHATTING;
    /// Baidu ERNIE, the API with access tokens; they go in the address.
    ErnieClassic => "ernie_classic", ["wenxin"], Some("https://aip.baidubce.com"), Format::Ernie,
        Credential::Bearer, WITHOUT_SCHEMAS;
    /// Azure `OpenAI`: one address per deployment, and a version in each.
    Azure => "azure", ["azure_openai"], None, Format::OpenAi, Credential::Header("api-key"), DEPLOYED;
    /// DeepSeek.
    DeepSeek => "deepseek", [], Some("https://api.deepseek.com/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { reasoning: ReasoningField::Thinking, schemas: false, keeps_thoughts: true, ..CHATTING };
    /// Zhipu (GLM).
    Zhipu => "zhipu", ["glm", "zai"], Some("https://open.bigmodel.cn/api/paas/v4"), Format::OpenAi,
        Credential::Bearer,
        Dialect {
            reasoning: ReasoningField::Thinking, schemas: false, stream_options: false, keeps_thoughts: true,
            ..CHATTING
        };
    /// Mistral.
    Mistral => "mistral", [], Some("https://api.mistral.ai/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { stream_options: false, seed: "random_seed", ..CHATTING };
    /// Ollama.
    Ollama => "ollama", [], Some("http://127.0.0.1:11434/v1"), Format::OpenAi, Credential::Bearer, COMPATIBLE;
    /// vLLM.
    Vllm => "vllm", [], Some("http://127.0.0.1:8000/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { top_k: true, developer: true, ..COMPATIBLE };
    /// Alibaba DashScope (Qwen), compatible mode.
    DashScope => "dashscope", ["qwen", "alibaba"], Some("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        Format::OpenAi, Credential::Bearer,
        Dialect { reasoning: ReasoningField::EnableThinking, top_k: true, ..CHATTING };
    /// Groq.
    Groq => "groq", [], Some("https://api.groq.com/openai/v1"), Format::OpenAi, Credential::Bearer, CHATTING;
    /// xAI.
    Xai => "xai", ["grok"], Some("https://api.x.ai/v1"), Format::OpenAi, Credential::Bearer, COMPATIBLE;
    /// Moonshot (Kimi).
    Moonshot => "moonshot", ["kimi"], Some("https://api.moonshot.cn/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { reasoning: ReasoningField::Thinking, keeps_thoughts: true, ..CHATTING };
    /// `OpenRouter`.
    OpenRouter => "openrouter", [], Some("https://openrouter.ai/api/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { top_k: true, developer: true, ..COMPATIBLE };
    /// `SiliconFlow`.
    SiliconFlow => "siliconflow", [], Some("https://api.siliconflow.cn/v1"), Format::OpenAi, Credential::Bearer,
        Dialect { reasoning: ReasoningField::EnableThinking, top_k: true, ..COMPATIBLE };
}

impl Vendor {
    /// The vendor of a value of `type:`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let wanted = |vendor: &&Self| vendor.label() == text || vendor.aliases().contains(&text);
        Self::ALL.iter().find(wanted).copied()
    }

    /// The dialect spoken at `host`: type `openai` is OpenAI itself as well as whatever is
    /// compatible with it.
    #[must_use]
    pub fn dialect_at(self, host: &str) -> Dialect {
        let is_openais = self == Self::OpenAi && (host == "openai.com" || host.ends_with(".openai.com"));
        if is_openais { OPENAI } else { self.dialect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_none_is_used_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for vendor in Vendor::ALL {
            for name in vendor.aliases().iter().chain([&vendor.label()]) {
                assert!(seen.insert(*name), "{name} is used twice");
                assert_eq!(Vendor::named(name), Some(*vendor));
            }
        }
        assert_eq!(Vendor::named("local"), None);
    }

    #[test]
    fn the_documentation_has_a_row_for_each() {
        let page = include_str!("../../../docs/providers.md");
        for vendor in Vendor::ALL {
            let names: Vec<_> =
                [vendor.label()].iter().chain(vendor.aliases()).map(|n| format!("`{n}`")).collect();
            let base_url = vendor.base_url().map_or_else(|| "below".to_owned(), |url| format!("`{url}`"));
            let credential = match vendor.credential() {
                Credential::Bearer => "`authorization: Bearer`".to_owned(),
                Credential::Header(name) => format!("`{name}`"),
            };
            let row =
                format!("| {} | {} | {base_url} | {credential} |", names.join(", "), vendor.format().name());
            assert!(page.contains(&row), "docs/providers.md lacks\n{row}");
        }
    }

    #[test]
    fn only_openai_itself_insists_on_the_newer_bound() {
        let limit = |host| Vendor::OpenAi.dialect_at(host).token_limit;
        assert_eq!(limit("api.openai.com"), TokenLimitField::MaxCompletionTokens);
        assert_eq!(limit("notopenai.com"), TokenLimitField::MaxTokens);
        assert_eq!(Vendor::Azure.dialect_at("x").token_limit, TokenLimitField::MaxCompletionTokens);
    }
}
