//! Embeddings in the words of providers that do not speak OpenAI's protocol. From the references
//! of Gemini's `batchEmbedContents`, Vertex AI's `predict`, Bedrock's `InvokeModel` (Titan and
//! Cohere) and Qianfan's `embeddings`.

use serde::{Deserialize, Serialize};

use super::document::{self, unsupported, wrong};
use super::{Malformed, Vendor};
use crate::reply::{Code, Reply};

/// Names of Bedrock's embedding models begin so, after a region's prefix if they have one.
const TITAN: &str = "amazon.titan-embed";
const COHERE: &str = "cohere.embed";
/// The purpose that Cohere's models want to be told; `OpenAI`'s callers cannot say theirs.
const COHERE_PURPOSE: &str = "search_document";

/// The ways in which embeddings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingApi {
    /// Gemini's API.
    Gemini,
    /// Vertex AI.
    Vertex,
    /// Amazon's own models on Bedrock.
    Titan,
    /// Cohere's models on Bedrock.
    Cohere,
    /// Baidu's classic API.
    Ernie,
}

/// What a provider answered.
#[derive(Debug, Default, PartialEq)]
pub struct Embedded {
    /// A vector for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens of all texts, if the provider says.
    pub tokens: Option<u64>,
}

#[derive(Serialize)]
struct GeminiBatch<'a> {
    requests: Vec<GeminiRequest<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeminiRequest<'a> {
    model: String,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct VertexBatch<'a> {
    instances: Vec<Instance<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    output_dimensionality: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TitanRequest<'a> {
    input_text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct CohereRequest<'a> {
    texts: &'a [String],
    input_type: &'static str,
}

#[derive(Serialize)]
struct ErnieRequest<'a> {
    input: &'a [String],
}

impl EmbeddingApi {
    /// How embeddings are asked for from this model; none where there are none.
    #[must_use]
    pub fn of(vendor: Vendor, model: &str) -> Option<Self> {
        match vendor {
            Vendor::Gemini => Some(Self::Gemini),
            Vendor::Vertex => Some(Self::Vertex),
            Vendor::Bedrock if model.contains(TITAN) => Some(Self::Titan),
            Vendor::Bedrock if model.contains(COHERE) => Some(Self::Cohere),
            Vendor::ErnieClassic => Some(Self::Ernie),
            _ => None,
        }
    }

    /// Most texts of one request.
    #[must_use]
    pub const fn texts_max(self) -> usize {
        match self {
            Self::Gemini => 100,
            // Google's newer model takes one, and all take that.
            Self::Vertex | Self::Titan => 1,
            Self::Cohere => 96,
            Self::Ernie => 16,
        }
    }

    /// Writes a request for at most [`Self::texts_max`] texts.
    ///
    /// # Errors
    /// `invalid_request` for a choice of dimensions where there is none.
    pub fn write(self, model: &str, texts: &[String], dimensions: Option<u64>) -> Result<Vec<u8>, Reply> {
        let first = texts.first().map(String::as_str).unwrap_or_default();
        Ok(match self {
            Self::Gemini => {
                let name = model.strip_prefix("models/").unwrap_or(model);
                let request = |text| GeminiRequest {
                    model: format!("models/{name}"),
                    content: Content { parts: [Part { text }] },
                    output_dimensionality: dimensions,
                };
                document::write(&GeminiBatch { requests: texts.iter().map(|text| request(text)).collect() })
            }
            Self::Vertex => document::write(&VertexBatch {
                instances: texts.iter().map(|content| Instance { content }).collect(),
                parameters: dimensions.map(|output_dimensionality| Parameters { output_dimensionality }),
            }),
            Self::Titan => document::write(&TitanRequest { input_text: first, dimensions }),
            Self::Cohere | Self::Ernie if dimensions.is_some() => return Err(unsupported("dimensions")),
            Self::Cohere => document::write(&CohereRequest { texts, input_type: COHERE_PURPOSE }),
            Self::Ernie => document::write(&ErnieRequest { input: texts }),
        })
    }

    /// Reads the answer to a request for so many texts.
    ///
    /// # Errors
    /// It is none, or has vectors for more or fewer texts.
    pub fn read(self, texts: usize, body: &[u8]) -> Result<Embedded, Malformed> {
        let found: Found = serde_json::from_slice(body).map_err(|_| Malformed)?;
        let embedded = found.embedded();
        let whole =
            embedded.vectors.len() == texts && embedded.vectors.iter().all(|vector| !vector.is_empty());
        if whole { Ok(embedded) } else { Err(Malformed) }
    }
}

/// A model that does not embed, where others of the same provider do.
#[must_use]
pub fn embeds_nothing() -> Reply {
    let what = "one that embeds: on Bedrock amazon.titan-embed-text-* or cohere.embed-*,";
    Reply { code: Code::InvalidRequest, ..wrong("model", what) }
}

/// The answers of all of them: no two use a name for different things.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    /// Gemini's list of objects, Cohere's of lists.
    #[serde(default)]
    embeddings: Vec<Vector>,
    /// Titan's.
    embedding: Option<Vec<f32>>,
    input_text_token_count: Option<u64>,
    /// Vertex AI's.
    #[serde(default)]
    predictions: Vec<Prediction>,
    /// Baidu's.
    #[serde(default)]
    data: Vec<Datum>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Plain(Vec<f32>),
    Values { values: Vec<f32> },
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Predicted,
}

#[derive(Deserialize)]
struct Predicted {
    values: Vec<f32>,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

#[derive(Deserialize)]
struct Datum {
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
}

impl Found {
    fn embedded(self) -> Embedded {
        let mut vectors: Vec<Vec<f32>> = Vec::new();
        let mut tokens = self.input_text_token_count.or(self.usage.and_then(|usage| usage.prompt_tokens));
        vectors.extend(self.embedding);
        vectors.extend(self.embeddings.into_iter().map(|vector| match vector {
            Vector::Plain(values) | Vector::Values { values } => values,
        }));
        for Prediction { embeddings: Predicted { values, statistics } } in self.predictions {
            vectors.push(values);
            if let Some(count) = statistics.and_then(|s| s.token_count).filter(|count| *count >= 0.0) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of tokens"
                )]
                let count = count as u64;
                tokens = Some(tokens.unwrap_or(0).saturating_add(count));
            }
        }
        vectors.extend(self.data.into_iter().map(|datum| datum.embedding));
        Embedded { vectors, tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(api: EmbeddingApi, dimensions: Option<u64>) -> String {
        let texts = ["a".to_owned(), "b".to_owned()];
        let texts = texts.get(..api.texts_max().min(2)).expect("at least one");
        String::from_utf8(api.write("m", texts, dimensions).expect("possible")).expect("JSON")
    }

    #[test]
    fn each_is_asked_in_its_words() {
        assert_eq!(
            written(EmbeddingApi::Gemini, Some(8)),
            r#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]},"outputDimensionality":8},{"model":"models/m","content":{"parts":[{"text":"b"}]},"outputDimensionality":8}]}"#
        );
        assert_eq!(
            written(EmbeddingApi::Vertex, Some(8)),
            r#"{"instances":[{"content":"a"}],"parameters":{"outputDimensionality":8}}"#
        );
        assert_eq!(written(EmbeddingApi::Titan, Some(256)), r#"{"inputText":"a","dimensions":256}"#);
        assert_eq!(
            written(EmbeddingApi::Cohere, None),
            r#"{"texts":["a","b"],"input_type":"search_document"}"#
        );
        assert_eq!(written(EmbeddingApi::Ernie, None), r#"{"input":["a","b"]}"#);
        let refused = EmbeddingApi::Ernie.write("m", &["a".to_owned()], Some(8)).expect_err("no choice");
        assert_eq!(refused.param.as_deref(), Some("dimensions"));
    }

    #[test]
    fn each_answer_is_understood_and_half_a_one_is_none() {
        let two = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
        for (api, body, tokens) in [
            (EmbeddingApi::Gemini, r#"{"embeddings":[{"values":[1,2]},{"values":[3,4]}]}"#, None),
            (EmbeddingApi::Cohere, r#"{"id":"x","embeddings":[[1,2],[3,4]],"texts":["a","b"]}"#, None),
            (
                EmbeddingApi::Ernie,
                r#"{"data":[{"embedding":[1,2],"index":0},{"embedding":[3,4],"index":1}],"usage":{"prompt_tokens":5}}"#,
                Some(5),
            ),
            (
                EmbeddingApi::Vertex,
                r#"{"predictions":[{"embeddings":{"values":[1,2],"statistics":{"token_count":2.0}}},{"embeddings":{"values":[3,4],"statistics":{"token_count":3}}}]}"#,
                Some(5),
            ),
        ] {
            assert_eq!(api.read(2, body.as_bytes()), Ok(Embedded { vectors: two.clone(), tokens }), "{body}");
            assert_eq!(api.read(3, body.as_bytes()), Err(Malformed), "{body}");
        }
        let titan = EmbeddingApi::Titan.read(1, br#"{"embedding":[1,2],"inputTextTokenCount":7}"#);
        assert_eq!(titan, Ok(Embedded { vectors: vec![vec![1.0, 2.0]], tokens: Some(7) }));
        assert_eq!(EmbeddingApi::Titan.read(1, br#"{"embedding":[]}"#), Err(Malformed));
        assert_eq!(EmbeddingApi::Gemini.read(1, b"[]"), Err(Malformed));
    }

    #[test]
    fn only_models_that_embed_are_asked() {
        assert_eq!(
            EmbeddingApi::of(Vendor::Bedrock, "us.amazon.titan-embed-text-v2:0"),
            Some(EmbeddingApi::Titan)
        );
        assert_eq!(EmbeddingApi::of(Vendor::Bedrock, "amazon.nova-pro-v1:0"), None);
        assert_eq!(EmbeddingApi::of(Vendor::Anthropic, "claude"), None);
    }
}
