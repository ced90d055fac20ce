//! Azure OpenAI as its reference documents it: OpenAI's operations under the names of deployments,
//! a version in each address, and the filter's findings in each answer.

mod filter;

use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::answer::Answer;
use super::fault::Refusal;
use super::openai;
use super::provider::{decoded, header, query};

/// Where the resource is mounted.
pub(super) const BASE_PATH: &str = "/azure";
/// Each deployment, and the model behind it.
const DEPLOYMENTS: [(&str, &str); 3] = [
    ("chat-deployment", "gpt-4o"),
    ("small-deployment", "gpt-4o-mini"),
    ("embeddings", "text-embedding-3-small"),
];
const VERSIONS: [&str; 3] = ["2024-06-01", "2024-10-21", "2025-04-01-preview"];
/// What good keys begin with.
const KEY_PREFIX: &str = "azure-";
/// What a refused caller is told to wait, in milliseconds.
const RETRY_MS: u64 = 7000;

/// Answers one request as Azure would.
pub(super) fn answer(head: &Parts, body: &[u8]) -> Answer {
    let rest = head.uri.path().strip_prefix(BASE_PATH).unwrap_or_default();
    let key = header(head, "api-key");
    if !key.is_some_and(|key| key.starts_with(KEY_PREFIX)) {
        let why = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid \
                   key for an active subscription and use a correct regional API endpoint for your resource.";
        return error(StatusCode::UNAUTHORIZED, "401", why);
    }
    if let Some(endpoint) = rest.strip_prefix("/openai/v1") {
        return operation(head, endpoint, body, None);
    }
    let deployed = rest.strip_prefix("/openai/deployments/").and_then(|rest| rest.split_once('/'));
    let version = query(head, "api-version");
    let (Some((name, endpoint)), Some(version)) = (deployed, version) else {
        return error(StatusCode::NOT_FOUND, "404", "Resource not found");
    };
    if !VERSIONS.contains(&version.as_str()) {
        return error(StatusCode::NOT_FOUND, "404", "Resource not found");
    }
    operation(head, &format!("/{endpoint}"), body, Some(&decoded(name)))
}

fn operation(head: &Parts, endpoint: &str, body: &[u8], deployment: Option<&str>) -> Answer {
    let mut document: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = deployment.or(document["model"].as_str()).unwrap_or_default();
    let Some((_, model)) = DEPLOYMENTS.iter().find(|(name, _)| *name == named) else {
        let why = "The API deployment for this resource does not exist. If you created the deployment within the last \
                   5 minutes, please wait a moment and try again.";
        return error(StatusCode::NOT_FOUND, "DeploymentNotFound", why);
    };
    if filter::refuses(&document) {
        return filter::refusal();
    }
    if document.is_object() {
        document["model"] = json!(model);
        let answer = openai::operation(&head.method, endpoint, document.to_string().as_bytes());
        return filter::annotated(answer);
    }
    openai::operation(&head.method, endpoint, body)
}

/// The error that Azure sends with this status when nothing is wrong with the request.
pub(super) fn canned_error(status: StatusCode) -> Answer {
    if status == StatusCode::TOO_MANY_REQUESTS {
        refusal(Refusal::RateLimit)
    } else {
        openai::canned_error(status)
    }
}

/// A refusal of a known kind.
pub(super) fn refusal(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::RateLimit => {
            let why = "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have \
                       exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 7 seconds.";
            error(StatusCode::TOO_MANY_REQUESTS, "429", why)
                .with_header("retry-after", (RETRY_MS / 1000).to_string())
                .with_header("retry-after-ms", RETRY_MS.to_string())
        }
        other => openai::refusal(other),
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"error": {"code": code, "message": message}}))
}
