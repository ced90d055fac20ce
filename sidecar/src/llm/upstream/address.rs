//! Where a provider's operations are.

use http::Uri;
use tidegate_core::provider::{Format, Vendor};
use tidegate_core::reply::{Code, Reply};

use super::Operation;
use super::connect::{self, Unusable};
use crate::llm::settings::Remote;

/// Anthropic gives 20 models a page unless asked for more; nobody has a thousand.
const ANTHROPIC_MODELS: &str = "models?limit=1000";
/// Likewise Google.
const GOOGLE_MODELS: &str = "models?pageSize=1000";
/// Azure's version when the operator names none: the last general one of the dated kind.
const AZURE_VERSION: &str = "2024-10-21";

/// All addresses of one provider.
#[derive(Debug)]
pub struct Addresses {
    places: Places,
    models: Option<Uri>,
}

#[derive(Debug)]
enum Places {
    /// One address for each operation.
    Fixed(Box<Fixed>),
    /// Azure: one for each operation of each deployment.
    Deployments { base_url: Uri, version: Box<str> },
    /// Google: one for each operation of each model.
    Google { base_url: Uri, embeds: &'static str },
    /// Amazon: likewise.
    Amazon { base_url: Uri },
    /// Baidu: one for each model, under a name of its own.
    Baidu { base_url: Uri },
}

#[derive(Debug)]
struct Fixed {
    chat: Uri,
    completions: Uri,
    embeddings: Uri,
    responses: Uri,
    count_tokens: Uri,
}

impl Addresses {
    /// The addresses below a provider's base URL.
    ///
    /// # Errors
    /// A base URL that is no HTTP URL.
    pub fn new(remote: &Remote) -> Result<Self, Unusable> {
        let base_url = &remote.base_url;
        let at = |path: &str| connect::endpoint(base_url, path);
        // Azure's newer API has the version in its path, and the deployment in the body's `model`.
        if remote.vendor == Vendor::Azure && !base_url.path().ends_with("/v1") {
            let version = remote.api_version.as_deref().unwrap_or(AZURE_VERSION).into();
            at("")?;
            let base_url = base_url.clone();
            return Ok(Self { places: Places::Deployments { base_url, version }, models: None });
        }
        at("")?;
        let base_url = base_url.clone();
        let (chat, models) = match remote.vendor.format() {
            Format::OpenAi => ("chat/completions", "models"),
            Format::Anthropic => ("messages", ANTHROPIC_MODELS),
            Format::Gemini => {
                let models = if remote.vendor == Vendor::Gemini { Some(at(GOOGLE_MODELS)?) } else { None };
                let embeds = if remote.vendor == Vendor::Gemini { "batchEmbedContents" } else { "predict" };
                return Ok(Self { places: Places::Google { base_url, embeds }, models });
            }
            Format::Bedrock => return Ok(Self { places: Places::Amazon { base_url }, models: None }),
            Format::Ernie => return Ok(Self { places: Places::Baidu { base_url }, models: None }),
        };
        let fixed = Fixed {
            chat: at(chat)?,
            completions: at("completions")?,
            embeddings: at("embeddings")?,
            responses: at("responses")?,
            count_tokens: at("messages/count_tokens")?,
        };
        Ok(Self { places: Places::Fixed(Box::new(fixed)), models: Some(at(models)?) })
    }

    /// Where an operation with `model` is.
    ///
    /// # Errors
    /// `model_not_found` for a name that no address can hold.
    pub fn of(&self, operation: Operation, model: &str, stream: bool) -> Result<Uri, Reply> {
        match &self.places {
            Places::Fixed(fixed) => Ok(match operation {
                Operation::Chat => &fixed.chat,
                Operation::Completions => &fixed.completions,
                Operation::Embeddings => &fixed.embeddings,
                Operation::Responses => &fixed.responses,
                Operation::CountTokens => &fixed.count_tokens,
            }
            .clone()),
            Places::Deployments { base_url, version } => {
                let operation = match operation {
                    Operation::Chat | Operation::Responses | Operation::CountTokens => "chat/completions",
                    Operation::Completions => "completions",
                    Operation::Embeddings => "embeddings",
                };
                let model = segment(model);
                below(base_url, &format!("openai/deployments/{model}/{operation}?api-version={version}"))
            }
            Places::Google { base_url, embeds } => {
                let model = segment(model.strip_prefix("models/").unwrap_or(model));
                let method = match operation {
                    Operation::Embeddings => embeds,
                    _ if stream => "streamGenerateContent?alt=sse",
                    _ => "generateContent",
                };
                below(base_url, &format!("models/{model}:{method}"))
            }
            Places::Amazon { base_url } => {
                let method = match operation {
                    Operation::Embeddings => "invoke",
                    _ if stream => "converse-stream",
                    _ => "converse",
                };
                below(base_url, &format!("model/{}/{method}", segment(model)))
            }
            Places::Baidu { base_url } => {
                let name = segment(baidus_name(&model.to_ascii_lowercase()));
                let kind = if operation == Operation::Embeddings { "embeddings" } else { "chat" };
                below(base_url, &format!("rpc/2.0/ai_custom/v1/wenxinworkshop/{kind}/{name}"))
            }
        }
    }

    /// Where the list of models is, if there is one.
    #[must_use]
    pub const fn models(&self) -> Option<&Uri> {
        self.models.as_ref()
    }
}

fn below(base_url: &Uri, path: &str) -> Result<Uri, Reply> {
    connect::endpoint(base_url, path).map_err(|_| {
        Reply::new(Code::ModelNotFound, "No provider has a model of this name.").with_param("model")
    })
}

/// What a model is called in Baidu's addresses, by its list of models; others by their own names.
fn baidus_name(model: &str) -> &str {
    match model {
        "ernie-4.0-8k" | "ernie-bot-4" => "completions_pro",
        "ernie-3.5-8k" | "ernie-bot" => "completions",
        "ernie-bot-turbo" => "eb-instant",
        "ernie-speed-8k" | "ernie-speed" => "ernie_speed",
        other => other,
    }
}

/// `text` as one segment of a path (RFC 3986, 3.3): whatever is not unreserved is encoded.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: [char; 16] =
                    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
                out.push('%');
                out.extend([byte >> 4, byte & 15].iter().filter_map(|half| HEX.get(usize::from(*half))));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::settings::Account;

    fn addresses(vendor: Vendor, base_url: &'static str) -> Addresses {
        let base_url = Uri::from_static(base_url);
        let remote = Remote {
            vendor,
            base_url,
            api_keys: Vec::new(),
            api_version: None,
            account: Account::None,
            lenient: false,
            stream_usage: true,
        };
        Addresses::new(&remote).expect("usable")
    }

    #[test]
    fn azures_deployments_have_addresses_of_their_own() {
        let azure = addresses(Vendor::Azure, "https://name.openai.azure.com");
        let chat = azure.of(Operation::Chat, "my gpt/4o?", true).expect("an address").to_string();
        assert_eq!(
            chat,
            "https://name.openai.azure.com/openai/deployments/my%20gpt%2F4o%3F/chat/completions?api-version=2024-10-21"
        );
        assert!(azure.models().is_none());
        let newer = addresses(Vendor::Azure, "https://name.openai.azure.com/openai/v1");
        let chat = newer.of(Operation::Chat, "gpt-4o", false).expect("an address");
        assert_eq!(chat, "https://name.openai.azure.com/openai/v1/chat/completions");
    }

    #[test]
    fn the_model_and_the_stream_stand_in_googles_and_amazons_addresses() {
        let chat = |vendor, base_url, model: &str, stream| {
            addresses(vendor, base_url).of(Operation::Chat, model, stream).expect("an address").to_string()
        };
        assert_eq!(
            chat(Vendor::Gemini, "https://g/v1beta", "models/gemini-2.5-flash", true),
            "https://g/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
        );
        assert_eq!(
            chat(Vendor::Bedrock, "https://b", "anthropic.claude-v2:1", false),
            "https://b/model/anthropic.claude-v2%3A1/converse"
        );
        assert_eq!(
            chat(Vendor::ErnieClassic, "https://a", "ERNIE-4.0-8K", false),
            "https://a/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro"
        );
        for (vendor, path) in [
            (Vendor::Gemini, "models/m:batchEmbedContents"),
            (Vendor::Vertex, "models/m:predict"),
            (Vendor::Bedrock, "model/m/invoke"),
            (Vendor::ErnieClassic, "rpc/2.0/ai_custom/v1/wenxinworkshop/embeddings/m"),
        ] {
            let uri =
                addresses(vendor, "https://p").of(Operation::Embeddings, "m", false).expect("an address");
            assert_eq!(uri.to_string(), format!("https://p/{path}"));
        }
    }
}
