//! What kind of failure a provider's refusal is: that, and not the status alone, decides who is
//! asked next. A request that does not fit one model fits a longer one; a refusal of the content
//! is meant for the caller; an account without credit says nothing about its neighbour.

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The request is wrong; it would be wrong anywhere.
    Request,
    /// The request has something that this provider has no word for.
    Unsupported,
    /// The prompt is longer than the model can take.
    ContextLength,
    /// The content was refused by a policy.
    ContentPolicy,
    /// The key is not accepted.
    Credential,
    /// The account has no credit, or its quota is used up: waiting a moment does not help.
    Quota,
    /// Too many requests or tokens at the moment.
    RateLimit,
    /// The provider does not have the model.
    ModelNotFound,
    /// The provider failed, is overloaded, or its answer is none.
    Server,
    /// No connection, or it broke.
    Connection,
    /// No answer in time.
    Timeout,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Request,
        Self::Unsupported,
        Self::ContextLength,
        Self::ContentPolicy,
        Self::Credential,
        Self::Quota,
        Self::RateLimit,
        Self::ModelNotFound,
        Self::Server,
        Self::Connection,
        Self::Timeout,
    ];

    /// Its name, in the configuration and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Unsupported => "unsupported",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::Credential => "credential",
            Self::Quota => "quota",
            Self::RateLimit => "rate_limit",
            Self::ModelNotFound => "model_not_found",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
        }
    }

    /// Whether the same request may succeed with another provider or key.
    #[must_use]
    pub const fn may_succeed_elsewhere(self) -> bool {
        !matches!(self, Self::Request | Self::ContextLength | Self::ContentPolicy)
    }

    /// Whether the same request may succeed with the same provider and key in a moment.
    #[must_use]
    pub const fn may_pass_by_itself(self) -> bool {
        matches!(self, Self::RateLimit | Self::Server | Self::Connection)
    }

    /// Whether it says that the provider is unwell, and not that somebody asks too much of it.
    #[must_use]
    pub const fn is_illness(self) -> bool {
        matches!(self, Self::Server | Self::Connection | Self::Timeout)
    }
}

/// Words by which providers say what a 4xx is about; in lower case, searched in code, type and
/// message. From the error pages of OpenAI, Anthropic, Google, Azure, AWS Bedrock and Baidu.
const CONTEXT_LENGTH: [&str; 10] = [
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "input is too long",
    "exceeds the maximum number of tokens",
    "input token count",
    "too many input tokens",
    "\"error_code\":336007",
    "\"error_code\":336103",
];
const CONTENT_POLICY: [&str; 6] = [
    "content_filter",
    "content_policy_violation",
    "content management policy",
    "responsibleaipolicyviolation",
    "guardrail",
    "blocked by our safety",
];
const QUOTA: [&str; 10] = [
    "insufficient_quota",
    "credit balance is too low",
    "billing_error",
    "billing hard limit",
    "exceeded your current quota",
    "insufficient balance",
    "access_terminated",
    "service quota",
    "daily request limit",
    "total request limit",
];
/// What Google says beside "exceeded your current quota" when only a minute's worth is used up.
const SOON: &str = "retrydelay";
/// And when it is a day's worth.
const PER_DAY: &str = "perday";

/// Classifies a refusal by its HTTP status and the text of its body: error codes, types and
/// messages. The body decides first, because credit that is used up comes as 400, 402, 403 and
/// 429, and a prompt that is too long as 400, 413 and 422.
#[must_use]
pub fn classify(status: u16, body: &str) -> FaultKind {
    let text = body.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if matches!(status, 400..=499) {
        let soon = text.contains(SOON) && !text.contains(PER_DAY);
        if says(&QUOTA) && !soon {
            return FaultKind::Quota;
        }
        if status != 429 && says(&CONTEXT_LENGTH) {
            return FaultKind::ContextLength;
        }
        if status != 429 && says(&CONTENT_POLICY) {
            return FaultKind::ContentPolicy;
        }
    }
    match status {
        401 | 403 => FaultKind::Credential,
        402 => FaultKind::Quota,
        404 => FaultKind::ModelNotFound,
        408 => FaultKind::Timeout,
        413 => FaultKind::ContextLength,
        429 => FaultKind::RateLimit,
        400..=499 => FaultKind::Request,
        _ => FaultKind::Server,
    }
}

/// What providers say of one model that has too much to do.
const OVERLOADED: [&str; 5] =
    ["overload", "at capacity", "out of capacity", "model is not ready", "modelnotready"];

/// Whether a refusal is about one model and says nothing about the provider's others: it has too much
/// to do, or is not there.
#[must_use]
pub fn is_about_model(status: u16, body: &str) -> bool {
    match status {
        404 | 429 | 529 => true,
        500..=599 => {
            let text = body.to_ascii_lowercase();
            OVERLOADED.iter().any(|word| text.contains(word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_too_much_to_do_is_not_a_server_that_fails() {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let googles =
            r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later."}}"#;
        for (status, body, wanted) in [
            (529, overloaded, true),
            (503, googles, true),
            (500, overloaded, true),
            (429, "", true),
            (404, "", true),
            (503, "<h1>Service Unavailable</h1>", false),
            (500, "", false),
            (401, overloaded, false),
        ] {
            assert_eq!(is_about_model(status, body), wanted, "{status} {body}");
        }
    }

    #[test]
    fn providers_own_words_are_understood() {
        for (status, body, kind) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}"#,
                FaultKind::ContextLength,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                FaultKind::ContextLength,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
                FaultKind::ContextLength,
            ),
            (
                400,
                r#"{"error":{"code":"content_filter","message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy."}}"#,
                FaultKind::ContentPolicy,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
                FaultKind::Quota,
            ),
            (429, r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#, FaultKind::Quota),
            (429, r#"{"error":{"code":"rate_limit_exceeded"}}"#, FaultKind::RateLimit),
            (
                429,
                r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]}}"#,
                FaultKind::RateLimit,
            ),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"7s"}]}}"#,
                FaultKind::Quota,
            ),
            (
                400,
                r#"{"message":"Your request exceeds the service quota for your account."}"#,
                FaultKind::Quota,
            ),
            (
                429,
                r#"{"error_code":17,"error_msg":"Open api daily request limit reached"}"#,
                FaultKind::Quota,
            ),
            (
                400,
                r#"{"error_code":336103,"error_msg":"the length of input is too long"}"#,
                FaultKind::ContextLength,
            ),
            (402, r#"{"error":{"message":"Payment required"}}"#, FaultKind::Quota),
            (401, "{}", FaultKind::Credential),
            (404, "{}", FaultKind::ModelNotFound),
            (422, r#"{"detail":"x"}"#, FaultKind::Request),
            (529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, FaultKind::Server),
            (502, "<html>insufficient_quota</html>", FaultKind::Server),
        ] {
            assert_eq!(classify(status, body), kind, "{status} {body}");
        }
    }

    #[test]
    fn a_failure_that_would_follow_the_request_everywhere_stays_where_it_is() {
        for kind in FaultKind::ALL {
            let follows =
                matches!(kind, FaultKind::Request | FaultKind::ContextLength | FaultKind::ContentPolicy);
            assert_eq!(kind.may_succeed_elsewhere(), !follows);
            assert!(!kind.may_pass_by_itself() || kind.may_succeed_elsewhere());
        }
    }
}
