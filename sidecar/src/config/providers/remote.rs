//! A server elsewhere: where it is, and on whose account.

use http::Uri;
use serde::Deserialize;
use tidegate_core::provider::{Format, Vendor};

use super::{Document, keys_of, misplaced};
use crate::config::Check;
use crate::llm::{Account, AwsKeys, Remote, ServiceAccount};
use crate::secret::Secret;

/// Longest version of an API, region, project or location, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// Where Vertex AI is used unless the operator says otherwise.
const LOCATION: &str = "us-central1";

/// Checks the fields of a provider of type `vendor`.
pub fn remote(path: &str, vendor: Vendor, document: Document, check: &mut Check<'_>) -> Option<Remote> {
    misplaced(path, "model_path", document.model_path.is_some(), "type: local", check);
    refuse_foreign_fields(path, Some(vendor), &document, check);
    let base_url = address(path, vendor, &document, check);
    let account = account(path, vendor, &document, check);
    let api_version = document.api_version.map(|text| word(path, "api_version", text, check));
    let lenient = document.lenient.unwrap_or(false);
    let asks_anyway = vendor.format() != Format::OpenAi && document.stream_usage.is_some();
    misplaced(path, "stream_usage", asks_anyway, "type: openai` or another that speaks its protocol", check);
    let stream_usage = document.stream_usage.unwrap_or(true);
    // Baidu's key goes for tokens, never as a header.
    let api_keys = match vendor {
        Vendor::ErnieClassic => Vec::new(),
        _ => keys_of(path, document.api_key, document.api_keys, check),
    };
    Some(Remote {
        vendor,
        base_url: base_url?,
        api_keys,
        api_version,
        account: account?,
        lenient,
        stream_usage,
    })
}

/// Refuses fields that belong to other types than `vendor`'s; none is the type `local`.
pub fn refuse_foreign_fields(path: &str, vendor: Option<Vendor>, document: &Document, check: &mut Check<'_>) {
    for (field, present, owner) in [
        ("api_version", document.api_version.is_some(), Vendor::Azure),
        ("region", document.region.is_some(), Vendor::Bedrock),
        ("access_key_id", document.access_key_id.is_some(), Vendor::Bedrock),
        ("secret_access_key", document.secret_access_key.is_some(), Vendor::Bedrock),
        ("session_token", document.session_token.is_some(), Vendor::Bedrock),
        ("secret_key", document.secret_key.is_some(), Vendor::ErnieClassic),
        ("project", document.project.is_some(), Vendor::Vertex),
        ("location", document.location.is_some(), Vendor::Vertex),
        ("service_account", document.service_account.is_some(), Vendor::Vertex),
    ] {
        let foreign = present && vendor != Some(owner);
        misplaced(path, field, foreign, &format!("type: {}", owner.label()), check);
    }
}

/// The base URL, given or known; of Amazon and Google it has more in it.
fn address(path: &str, vendor: Vendor, document: &Document, check: &mut Check<'_>) -> Option<Uri> {
    let given = document.base_url.clone();
    match vendor {
        Vendor::Bedrock => {
            let region = required_word(path, "region", document.region.clone(), "us-east-1", check)?;
            let known = format!("https://bedrock-runtime.{region}.amazonaws.com");
            url(path, given, Some(known), "https://bedrock-runtime.us-east-1.amazonaws.com", check)
        }
        Vendor::Vertex => {
            let project = required_word(path, "project", document.project.clone(), "my-project", check)?;
            let location = document.location.clone().unwrap_or_else(|| LOCATION.to_owned());
            let location = word(path, "location", location, check);
            let host = match location.as_str() {
                "global" => "https://aiplatform.googleapis.com".to_owned(),
                _ => format!("https://{location}-aiplatform.googleapis.com"),
            };
            let root = url(path, given, Some(host), "https://us-central1-aiplatform.googleapis.com", check)?;
            let root = root.to_string();
            let below = format!("v1/projects/{project}/locations/{location}/publishers/google");
            format!("{}/{below}", root.trim_end_matches('/')).parse().ok()
        }
        _ => {
            let known = vendor.base_url();
            let example = known.unwrap_or("https://NAME.openai.azure.com");
            url(path, given, known.map(str::to_owned), example, check)
        }
    }
}

fn account(path: &str, vendor: Vendor, document: &Document, check: &mut Check<'_>) -> Option<Account> {
    let has_key = document.api_key.is_some() || document.api_keys.is_some();
    match vendor {
        Vendor::Bedrock if document.access_key_id.is_none() && has_key => Some(Account::None),
        Vendor::Bedrock => aws(path, document, check).map(Account::Aws),
        Vendor::ErnieClassic => {
            if document.api_keys.is_some() {
                check.problems.add(format!("{path}.api_keys"), "must be one api_key beside its secret_key");
            }
            let api_key = secret(path, "api_key", document.api_key.as_ref(), "${BAIDU_API_KEY}", check);
            let other = document.secret_key.as_ref();
            let secret_key = secret(path, "secret_key", other, "${BAIDU_SECRET_KEY}", check)?;
            Some(Account::Baidu { api_key: api_key?, secret_key })
        }
        Vendor::Vertex => match &document.service_account {
            None => Some(Account::None),
            Some(file) => service_account(path, file, check),
        },
        _ => Some(Account::None),
    }
}

fn aws(path: &str, document: &Document, check: &mut Check<'_>) -> Option<AwsKeys> {
    let region = document.region.clone()?;
    let field = format!("{path}.access_key_id");
    let example = "`access_key_id: ${AWS_ACCESS_KEY_ID}`, or a Bedrock key as api_key";
    let id = check.problems.required(&field, document.access_key_id.clone(), example);
    let id = id.map(|id| check.expanded(&field, &id));
    let key = document.secret_access_key.as_ref();
    let key = secret(path, "secret_access_key", key, "${AWS_SECRET_ACCESS_KEY}", check)?;
    let token = document.session_token.as_ref();
    let session_token = token.map(|token| expanded(path, "session_token", token, check));
    Some(AwsKeys { region, access_key_id: id?, secret_access_key: key, session_token })
}

/// The key file that Google's console gives.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: Secret,
    token_uri: String,
}

fn service_account(path: &str, file: &str, check: &mut Check<'_>) -> Option<Account> {
    let field = format!("{path}.service_account");
    let file = check.expanded(&field, file);
    let read = std::fs::read(&file).map_err(|e| format!("{file} cannot be read: {e}"));
    let parsed = read.and_then(|bytes| {
        let wrong = |_| format!("{file} is not a service account's key file in JSON");
        let key: KeyFile = serde_json::from_slice(&bytes).map_err(wrong)?;
        let token_uri = key.token_uri.parse().map_err(|_| format!("{file} has no usable token_uri"))?;
        let KeyFile { client_email, private_key, .. } = key;
        Ok(Account::Google(Box::new(ServiceAccount { client_email, private_key, token_uri })))
    });
    parsed.map_err(|problem| check.problems.add(field, problem)).ok()
}

fn secret(
    path: &str,
    field: &str,
    value: Option<&Secret>,
    example: &str,
    check: &mut Check<'_>,
) -> Option<Secret> {
    let what = format!("`{field}: {example}`");
    let value = check.problems.required(&format!("{path}.{field}"), value.cloned(), &what)?;
    Some(expanded(path, field, &value, check))
}

fn expanded(path: &str, field: &str, value: &Secret, check: &mut Check<'_>) -> Secret {
    let path = format!("{path}.{field}");
    let text = check.expanded(&path, value.expose());
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        check.problems.add(path, "must be 1 or more visible ASCII characters, without spaces");
    }
    Secret::new(text)
}

fn required_word(
    path: &str,
    field: &str,
    value: Option<String>,
    example: &str,
    check: &mut Check<'_>,
) -> Option<String> {
    let what = format!("`{field}: {example}`");
    let value = check.problems.required(&format!("{path}.{field}"), value, &what)?;
    Some(word(path, field, value, check))
}

/// What stands in addresses as it is.
fn word(path: &str, field: &str, text: String, check: &mut Check<'_>) -> String {
    let path = format!("{path}.{field}");
    let text = check.expanded(&path, &text);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if text.is_empty() || text.len() > WORD_BYTES_MAX || !text.bytes().all(plain) {
        check.problems.add(path, format!("must be 1 to {WORD_BYTES_MAX} of A-Z a-z 0-9 . _ -"));
    }
    text
}

fn url(
    path: &str,
    given: Option<String>,
    known: Option<String>,
    example: &str,
    check: &mut Check<'_>,
) -> Option<Uri> {
    let field = format!("{path}.base_url");
    let text = check.problems.required(&field, given.or(known), &format!("`base_url: {example}`"))?;
    let text = check.expanded(&field, &text);
    let uri = text.trim_end_matches('/').parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty())
            && uri.query().is_none()
    });
    if uri.is_none() {
        check.problems.add(field, format!("must be a URL without user and query, such as {example}"));
    }
    uri
}
