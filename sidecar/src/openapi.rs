//! `GET /openapi.json`: what this gateway answers, as an OpenAPI 3.1 document. Bodies of the LLM API
//! are those of the providers' own documentation, so they are named and not repeated here.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::gateway::Gateway;
use crate::refusal::json as respond;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Everybody.
    Anyone,
    /// Callers of the LLM API.
    Caller,
    /// Keys with role operator or admin.
    Operator,
}

/// Method, path, who may ask, and what it does.
type Operation = (&'static str, &'static str, Who, &'static str);

const OPERATIONS: &[Operation] = &[
    ("post", "/v1/chat/completions", Who::Caller, "OpenAI chat completions, as JSON or a stream"),
    ("post", "/v1/completions", Who::Caller, "OpenAI completions, as JSON or a stream"),
    ("post", "/v1/embeddings", Who::Caller, "OpenAI embeddings"),
    ("post", "/v1/responses", Who::Caller, "OpenAI responses, as JSON or a stream"),
    ("get", "/v1/responses/{id}", Who::Caller, "A kept response"),
    ("delete", "/v1/responses/{id}", Who::Caller, "Removes a kept response"),
    ("post", "/v1/messages", Who::Caller, "Anthropic messages, as JSON or a stream"),
    ("post", "/v1/messages/count_tokens", Who::Caller, "How many tokens a message has"),
    ("get", "/v1/models", Who::Caller, "The models that can be asked"),
    ("get", "/v1/models/{id}", Who::Caller, "One model"),
    ("post", "/local/chat/completions", Who::Caller, "Chat completions of local models alone"),
    ("post", "/local/completions", Who::Caller, "Completions of local models alone"),
    ("post", "/local/embeddings", Who::Caller, "Embeddings of the local model"),
    ("post", "/auth/login", Who::Anyone, "An access and a refresh token for a user and password"),
    ("post", "/auth/refresh", Who::Anyone, "New tokens for a refresh token"),
    ("get", "/v1/providers", Who::Operator, "All providers, without their secrets"),
    ("post", "/v1/providers", Who::Operator, "Adds a provider"),
    ("get", "/v1/providers/{name}", Who::Operator, "One provider"),
    ("put", "/v1/providers/{name}", Who::Operator, "Changes a provider, or adds it"),
    ("delete", "/v1/providers/{name}", Who::Operator, "Removes a provider"),
    ("get", "/v1/providers/{name}/health", Who::Operator, "A provider's health"),
    ("get", "/v1/providers/{name}/models", Who::Operator, "A provider's models"),
    ("post", "/v1/providers/{name}/estimate", Who::Operator, "What a request would cost there"),
    ("get", "/v1/routing/config", Who::Operator, "How requests are routed"),
    ("put", "/v1/routing/config", Who::Operator, "Changes how requests are routed"),
    ("delete", "/v1/routing/config", Who::Operator, "Back to the routing of the file"),
    ("get", "/v1/routing/stats", Who::Operator, "Requests, failures and latency by provider"),
    ("get", "/v1/admin/status", Who::Operator, "What runs, and which policy every filter applies"),
    ("post", "/v1/cache/lookup", Who::Operator, "What the cache would answer, and why"),
    ("post", "/v1/cache/feedback", Who::Operator, "Marks an answer of the cache as wrong"),
    ("get", "/admin/clusters", Who::Operator, "Clusters of errors"),
    ("get", "/admin/clusters/{id}", Who::Operator, "One cluster"),
    (
        "get",
        "/admin/clusters/{id}/timeline",
        Who::Operator,
        "What became of a cluster's incident, in its order",
    ),
    ("post", "/admin/clusters/classify", Who::Operator, "What kind of failure a message is"),
    ("get", "/admin/stats", Who::Operator, "Figures of a cluster (`cluster_id`)"),
    ("get", "/admin/policies", Who::Operator, "Policies in force"),
    ("get", "/admin/policies/{id}", Who::Operator, "One policy"),
    ("put", "/admin/policies/{id}", Who::Operator, "Changes a policy, or makes one"),
    ("delete", "/admin/policies/{id}", Who::Operator, "Ends a policy"),
    ("get", "/admin/limits", Who::Operator, "Limits in force"),
    ("put", "/admin/limits", Who::Operator, "Changes limits, within a second everywhere"),
    ("delete", "/admin/limits", Who::Operator, "Back to the limits of the file"),
    ("get", "/admin/limits/{key}", Who::Operator, "What is left of a limit"),
    (
        "post",
        "/admin/limits/simulate",
        Who::Operator,
        "What would happen to a request, and which limit decides",
    ),
    ("get", "/admin/usage", Who::Operator, "Tokens and money by tenant, provider and model"),
    ("get", "/admin/cache", Who::Operator, "The semantic cache in figures"),
    ("post", "/admin/cache/purge", Who::Operator, "Removes answers from the semantic cache"),
    ("get", "/admin/keys", Who::Operator, "All keys, without their secrets (role admin)"),
    ("post", "/admin/keys", Who::Operator, "Makes a key and shows it once (role admin)"),
    ("delete", "/admin/keys/{id}", Who::Operator, "Revokes a key, within a second everywhere (role admin)"),
    ("post", "/admin/keys/{id}/rotate", Who::Operator, "Gives a key a new secret (role admin)"),
    ("get", "/admin/audit", Who::Operator, "Who changed what (role admin)"),
    ("get", "/admin/audit/verify", Who::Operator, "Whether the audit log is whole (role admin)"),
    ("get", "/api/v1/monitoring/status", Who::Operator, "The same as /v1/admin/status"),
    ("get", "/api/v1/monitoring/health", Who::Operator, "The same as /health/detailed"),
    ("get", "/api/v1/monitoring/stats", Who::Operator, "The same as /v1/routing/stats"),
    (
        "get",
        "/api/v1/monitoring/alerts",
        Who::Operator,
        "The same as /admin/policies: what is being acted on",
    ),
    ("get", "/api/v1/monitoring/metrics", Who::Operator, "The same as /metrics"),
    ("get", "/metrics", Who::Operator, "Metrics of sidecar and filters, for Prometheus"),
    ("get", "/health", Who::Anyone, "The process lives"),
    ("get", "/health/live", Who::Anyone, "The process lives"),
    ("get", "/health/ready", Who::Anyone, "Traffic may come"),
    ("get", "/health/detailed", Who::Anyone, "The state of every part"),
    ("get", "/ready", Who::Anyone, "Traffic may come"),
];

/// The route of the document.
pub fn router() -> Router<Arc<Gateway>> {
    Router::new().route("/openapi.json", get(async || respond(StatusCode::OK, &document())))
}

/// The document.
fn document() -> Value {
    let mut paths = Map::new();
    for (method, path, who, summary) in OPERATIONS {
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        if let Some(methods) = entry.as_object_mut() {
            methods.insert((*method).to_owned(), operation(method, path, *who, summary));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An LLM gateway. Errors are in the caller's protocol and say what, why, and when to come back.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key or access token; also as x-api-key, api-key or x-goog-api-key"},
            },
            "schemas": {"Error": error_schema()},
        },
    })
}

fn operation(method: &str, path: &str, who: Who, summary: &str) -> Value {
    let mut operation = json!({
        "summary": summary,
        "operationId": format!("{method}{}", path.replace(['/', '.', '{', '}'], "_")),
        "security": if who == Who::Anyone { json!([]) } else { json!([{"key": []}]) },
        "responses": {
            "200": {"description": "Done"},
            "default": {
                "description": "Refused",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    });
    let parameters: Vec<Value> = parameters(path).map(parameter).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if matches!(method, "post" | "put") {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": {"type": "object"}}}});
    }
    operation
}

/// Names in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

/// OpenAI's form; that of Anthropic's callers differs as its documentation says.
fn error_schema() -> Value {
    let text = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text},
        }},
    })
}

#[cfg(test)]
mod tests {
    use tidegate_core::route::{RouteClass, classify};

    use super::*;

    #[test]
    fn who_may_ask_is_what_the_gateway_holds_to() {
        for (method, path, who, _) in OPERATIONS {
            let class = classify(path);
            let expected = match who {
                Who::Anyone => class == RouteClass::Public,
                Who::Caller => matches!(class, RouteClass::Llm(_)),
                Who::Operator => class == RouteClass::Admin,
            };
            assert!(expected, "{method} {path} is {class:?}");
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_its_parameters() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let operations = paths.values().flat_map(|path| path.as_object().expect("methods").values());
        let mut ids: Vec<&str> = operations.filter_map(|o| o["operationId"].as_str()).collect();
        assert_eq!(ids.len(), OPERATIONS.len());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), OPERATIONS.len());
        assert_eq!(document["paths"]["/v1/models/{id}"]["get"]["parameters"][0]["name"], "id");
    }
}
