//! Which models a provider has, asked of the provider itself.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tidegate_core::route::Protocol;
use tokio::time::Instant;

use super::{JSON, Upstream, fault, headers};

/// Most models taken over from one provider.
const MODELS_MAX: usize = 10_000;
/// Longest model name taken over, in bytes.
const MODEL_BYTES_MAX: usize = 256;
/// Largest model list read, in bytes.
const LIST_BYTES_MAX: usize = 8 << 20;
/// Pause between two successful looks.
const REFRESH: Duration = Duration::from_secs(300);
/// First pause after a failed look; doubled at each further one, up to [`REFRESH`].
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// OpenAI's and Anthropic's list, or Google's.
#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Data { data: Vec<Listed> },
    Google { models: Vec<GoogleModel> },
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoogleModel {
    name: String,
    #[serde(default)]
    supported_generation_methods: Vec<String>,
}

impl List {
    /// The models' names; of Google's those that can be asked.
    fn names(self) -> Vec<String> {
        match self {
            Self::Data { data } => data.into_iter().map(|model| model.id).collect(),
            Self::Google { models } => models
                .into_iter()
                .filter(|model| model.supported_generation_methods.iter().any(|m| m == "generateContent"))
                .map(|model| model.name.strip_prefix("models/").unwrap_or(&model.name).to_owned())
                .collect(),
        }
    }
}

impl Upstream {
    /// Asks for the provider's model list.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn list_models(&self) -> Result<Vec<String>, String> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::GET;
        let models = self.addresses.models().ok_or("has no model list")?;
        *request.uri_mut() = models.clone();
        request.headers_mut().insert(ACCEPT, JSON);
        let nobody = HeaderMap::new();
        headers::forward_request(Protocol::OpenAi, self.target.format, &nobody, request.headers_mut());
        self.sign(request.headers_mut(), 0);
        let deadline = Instant::now() + self.timeout;
        let asked = tokio::time::timeout_at(deadline, async {
            let response = self.transport.request(request).await.map_err(|e| fault::chain(&e))?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("answered {status}"));
            }
            let body = Limited::new(response.into_body(), LIST_BYTES_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|e| fault::chain(&*e))
        });
        let body = asked.await.map_err(|_| "did not answer in time".to_owned())??;
        let list: List = serde_json::from_slice(&body).map_err(|_| "answered no model list".to_owned())?;
        let usable = |id: &String| !id.is_empty() && id.len() <= MODEL_BYTES_MAX;
        Ok(list.names().into_iter().filter(usable).take(MODELS_MAX).collect())
    }

    /// Keeps `store` informed of the provider's models, for ever. A failure changes nothing:
    /// the last list that was read stays.
    pub async fn keep_discovering(&self, store: impl Fn(Vec<String>)) {
        let mut failing: Option<Duration> = None;
        loop {
            let pause = match self.list_models().await {
                Ok(models) => {
                    tracing::debug!(provider = &*self.name, models = models.len(), "models listed");
                    store(models);
                    failing = None;
                    REFRESH
                }
                Err(cause) => {
                    tracing::warn!(provider = &*self.name, cause, "models could not be listed");
                    *failing.insert(failing.map_or(RETRY_FIRST, |last| (last * 2).min(REFRESH)))
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
