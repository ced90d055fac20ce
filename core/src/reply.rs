//! Refusals: what went wrong, in the caller's own protocol, and when to come back.
//!
//! Every error the gateway itself can answer is a [`Code`]; `docs/errors.md` lists them.

use serde::Serialize;

use crate::route::Protocol;
use crate::wire::header;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $code:literal, $status:literal, $openai:literal, $anthropic:literal;)*) => {
        /// Stable error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// All codes, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The `code` field, and the label in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// OpenAI's `type` field.
            #[must_use]
            pub const fn openai_type(self) -> &'static str {
                match self { $(Self::$variant => $openai,)* }
            }

            /// Anthropic's `error.type` field.
            #[must_use]
            pub const fn anthropic_type(self) -> &'static str {
                match self { $(Self::$variant => $anthropic,)* }
            }
        }
    };
}

codes! {
    /// A token bucket is empty.
    RateLimitExceeded => "rate_limit_exceeded", 429, "rate_limit_error", "rate_limit_error";
    /// The tenant has spent its money for this month.
    BudgetExceeded => "budget_exceeded", 429, "insufficient_quota", "rate_limit_error";
    /// The route keeps failing and is left alone for a while.
    CircuitOpen => "circuit_open", 503, "service_unavailable_error", "overloaded_error";
    /// No credential, and anonymous callers are not admitted.
    MissingApiKey => "missing_api_key", 401, "authentication_error", "authentication_error";
    /// The credential is unknown, revoked or expired.
    InvalidApiKey => "invalid_api_key", 401, "authentication_error", "authentication_error";
    /// The name or the password is wrong.
    InvalidCredentials => "invalid_credentials", 401, "authentication_error", "authentication_error";
    /// The refresh token is unknown, expired, or was used before.
    InvalidRefreshToken => "invalid_refresh_token", 401, "authentication_error", "authentication_error";
    /// Too many bad credentials came from this address.
    TooManyAttempts => "too_many_attempts", 429, "rate_limit_error", "rate_limit_error";
    /// The signature of the request does not fit it, or its access key is unknown.
    InvalidSignature => "invalid_signature", 401, "authentication_error", "authentication_error";
    /// The request was signed too long ago, or by a wrong clock.
    SignatureExpired => "signature_expired", 401, "authentication_error", "authentication_error";
    /// The signed request was received before.
    ReplayDetected => "replay_detected", 401, "authentication_error", "authentication_error";
    /// More than one credential was sent.
    DuplicateCredential => "duplicate_credential", 400, "invalid_request_error", "invalid_request_error";
    /// The key's allow-list does not have this model.
    ModelNotAllowed => "model_not_allowed", 403, "permission_error", "permission_error";
    /// The caller's role does not allow this.
    PermissionDenied => "permission_denied", 403, "permission_error", "permission_error";
    /// The credential could not be checked.
    AuthUnavailable => "authentication_unavailable", 503, "service_unavailable_error", "overloaded_error";
    /// What the gateways of a fleet share cannot be changed now.
    StoreUnavailable => "store_unavailable", 503, "service_unavailable_error", "overloaded_error";
    /// The gateway has no policy yet.
    GatewayStarting => "gateway_starting", 503, "service_unavailable_error", "overloaded_error";
    /// The sidecar is not reachable from Envoy.
    SidecarUnavailable => "sidecar_unavailable", 503, "service_unavailable_error", "overloaded_error";
    /// More was observed than can be learnt from at once.
    BusFull => "bus_full", 503, "service_unavailable_error", "overloaded_error";
    /// The gateway is draining.
    ShuttingDown => "shutting_down", 503, "service_unavailable_error", "overloaded_error";
    /// The body is over the configured limit.
    RequestTooLarge => "request_too_large", 413, "invalid_request_error", "request_too_large";
    /// The body is not JSON.
    InvalidJson => "invalid_json", 400, "invalid_request_error", "invalid_request_error";
    /// The body is JSON but not a valid request.
    InvalidRequest => "invalid_request", 400, "invalid_request_error", "invalid_request_error";
    /// The response to go on from is not kept.
    PreviousResponseNotFound => "previous_response_not_found", 400, "invalid_request_error", "invalid_request_error";
    /// A header is not valid text.
    InvalidHeader => "invalid_header", 400, "invalid_request_error", "invalid_request_error";
    /// The configuration sent to an admin path is not valid.
    InvalidConfig => "invalid_config", 400, "invalid_request_error", "invalid_request_error";
    /// What is to be made exists already.
    Conflict => "conflict", 409, "invalid_request_error", "invalid_request_error";
    /// An idempotency key came back with another request.
    IdempotencyKeyReused => "idempotency_key_reused", 422, "invalid_request_error", "invalid_request_error";
    /// The prompt does not fit the model.
    ContextLengthExceeded => "context_length_exceeded", 400, "invalid_request_error", "invalid_request_error";
    /// Nothing answers at this path.
    NotFound => "not_found", 404, "invalid_request_error", "not_found_error";
    /// The path exists, but not for this method.
    MethodNotAllowed => "method_not_allowed", 405, "invalid_request_error", "invalid_request_error";
    /// No provider offers this model.
    ModelNotFound => "model_not_found", 404, "invalid_request_error", "not_found_error";
    /// Providers offer the model, but none can be used now.
    NoProviderAvailable => "no_provider_available", 503, "service_unavailable_error", "overloaded_error";
    /// The local model's queue is full.
    LocalModelBusy => "local_model_busy", 429, "rate_limit_error", "rate_limit_error";
    /// The provider did not answer in time.
    UpstreamTimeout => "upstream_timeout", 504, "timeout_error", "timeout_error";
    /// The provider could not be connected to.
    UpstreamUnreachable => "upstream_unreachable", 502, "api_error", "api_error";
    /// The provider closed the connection before its answer.
    UpstreamReset => "upstream_reset", 502, "api_error", "api_error";
    /// The provider's answer is not one.
    UpstreamError => "upstream_error", 502, "api_error", "api_error";
    /// The provider's stream ended before its end.
    UpstreamStreamInterrupted => "upstream_stream_interrupted", 502, "api_error", "api_error";
    /// A fault of the gateway itself.
    InternalError => "internal_error", 500, "api_error", "api_error";
}

/// A refusal, before it is written in a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it is.
    pub code: Code,
    /// What a person can act on. Never contains secrets or prompts.
    pub message: String,
    /// Field of the request at fault, if one is.
    pub param: Option<String>,
    /// When to come back, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The incident it was refused for, if it was.
    pub incident: Option<Box<Incident>>,
}

/// Why a slice of the traffic is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The cluster of errors.
    pub cluster: String,
    /// The policy.
    pub policy: String,
    /// Whether trying again later can help.
    pub retry: bool,
}

impl Reply {
    /// A refusal without parameter and waiting time.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retry_after_ms: None, incident: None }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub const fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Says which incident it is about.
    #[must_use]
    pub fn because_of(mut self, incident: Incident) -> Self {
        self.incident = Some(Box::new(incident));
        self
    }

    /// The body in `protocol`.
    #[must_use]
    pub fn body(&self, protocol: Protocol, request_id: &str) -> Vec<u8> {
        match protocol {
            Protocol::OpenAi => to_json(&OpenAiBody {
                error: OpenAiError {
                    message: &self.message,
                    r#type: self.code.openai_type(),
                    param: self.param.as_deref(),
                    code: self.code.as_str(),
                },
            }),
            Protocol::Anthropic => to_json(&AnthropicBody {
                r#type: "error",
                error: AnthropicError { r#type: self.code.anthropic_type(), message: &self.message },
                request_id,
            }),
        }
    }

    /// `retry-after` (whole seconds, rounded up, RFC 9110 10.2.3), `retry-after-ms` and
    /// `x-should-retry`, as header pairs, and for an incident its cluster and policy; empty when
    /// there is nothing to wait for.
    #[must_use]
    pub fn retry_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(ms) = self.retry_after_ms {
            let helps = self.code != Code::BudgetExceeded
                && self.incident.as_ref().is_none_or(|incident| incident.retry);
            headers.push(("retry-after", ms.div_ceil(1000).max(1).to_string()));
            headers.push(("retry-after-ms", ms.to_string()));
            headers.push(("x-should-retry", helps.to_string()));
        }
        if let Some(incident) = &self.incident {
            headers.push((header::CLUSTER, incident.cluster.clone()));
            headers.push((header::POLICY, incident.policy.clone()));
        }
        headers
    }
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'a str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'a str,
    message: &'a str,
}

/// Strings and options cannot fail to serialise; an empty body would be the worst outcome.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_openai_error_has_all_four_fields() {
        let reply = Reply::new(Code::RateLimitExceeded, "slow \"down\"").retry_after_ms(1001);
        let body = String::from_utf8(reply.body(Protocol::OpenAi, "r")).expect("utf-8");
        assert_eq!(
            body,
            r#"{"error":{"message":"slow \"down\"","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#
        );
        assert_eq!(reply.retry_headers()[0].1, "2");
        assert_eq!(reply.retry_headers()[1].1, "1001");
    }

    #[test]
    fn a_refusal_for_an_incident_names_it() {
        let incident = Incident { cluster: "c1".into(), policy: "p1".into(), retry: false };
        let headers =
            Reply::new(Code::CircuitOpen, "x").retry_after_ms(5).because_of(incident).retry_headers();
        assert!(headers.contains(&("x-gateway-cluster", "c1".into())));
        assert!(headers.contains(&("x-gateway-policy", "p1".into())));
        assert!(headers.contains(&("x-should-retry", "false".into())));
    }

    #[test]
    fn an_anthropic_error_has_its_request_id() {
        let body = Reply::new(Code::InvalidJson, "no").body(Protocol::Anthropic, "req_1");
        assert_eq!(
            String::from_utf8(body).expect("utf-8"),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"req_1"}"#
        );
    }

    #[test]
    fn the_documentation_lists_every_code_with_its_status_and_types() {
        let page = include_str!("../../docs/errors.md");
        for code in Code::ALL {
            let row = format!(
                "| `{}` | {} | `{}` | `{}` |",
                code.as_str(),
                code.status(),
                code.openai_type(),
                code.anthropic_type()
            );
            assert!(page.contains(&row), "docs/errors.md lacks {row}");
        }
    }

    #[test]
    fn codes_are_unique() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
