//! Amazon's Signature Version 4 (AWS General Reference, "Signing AWS API requests"): pure, the
//! time is an argument.

use ring::{digest, hmac};

use crate::keys::random::hex;
use crate::llm::settings::AwsKeys;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SECONDS_PER_DAY: u64 = 86_400;

/// What of a request is signed beside its body.
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it is sent, percent-encoded.
    pub path: &'a str,
    /// The `host` header.
    pub host: &'a str,
    /// As in `bedrock`.
    pub service: &'a str,
}

/// The headers that make a request a signed one.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// `x-amz-date`.
    pub date: String,
    /// `authorization`.
    pub authorization: String,
}

/// Signs a request without a query at `unix_seconds`.
#[must_use]
pub fn sign(keys: &AwsKeys, request: &ToSign<'_>, body: &[u8], unix_seconds: u64) -> Signature {
    let date = timestamp(unix_seconds);
    let day = date.get(..8).unwrap_or_default();
    let token = keys.session_token.as_ref();
    let names = if token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
    let mut headers = format!("host:{}\nx-amz-date:{date}\n", request.host);
    if let Some(token) = token {
        headers.push_str(&format!("x-amz-security-token:{}\n", token.expose()));
    }
    let canonical = format!(
        "{}\n{}\n\n{headers}\n{names}\n{}",
        request.method,
        twice_encoded(request.path),
        hex(digest::digest(&digest::SHA256, body).as_ref())
    );
    let scope = format!("{day}/{}/{}/aws4_request", keys.region, request.service);
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{hashed}");
    let secret = format!("AWS4{}", keys.secret_access_key.expose());
    let key = [day, &keys.region, request.service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    let id = &keys.access_key_id;
    let authorization =
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    Signature { date, authorization }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

/// Every service but S3 signs the path encoded once more than it is sent.
fn twice_encoded(path: &str) -> String {
    path.replace('%', "%25")
}

/// `20150830T123600Z`.
fn timestamp(unix_seconds: u64) -> String {
    rfc3339(unix_seconds).replace(['-', ':'], "")
}

/// `2015-08-30T12:36:00Z`. The calendar is Howard Hinnant's `civil_from_days`.
#[must_use]
pub fn rfc3339(unix_seconds: u64) -> String {
    let days = unix_seconds / SECONDS_PER_DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let second = unix_seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const AT: u64 = 1_440_938_160;

    fn keys(session_token: Option<&str>) -> AwsKeys {
        AwsKeys {
            region: "us-east-1".to_owned(),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: session_token.map(Secret::new),
        }
    }

    fn signed(method: &'static str, keys: &AwsKeys) -> String {
        let request = ToSign { method, path: "/", host: "example.amazonaws.com", service: "service" };
        let signature = sign(keys, &request, b"", AT);
        assert_eq!(signature.date, "20150830T123600Z");
        signature.authorization
    }

    /// `get-vanilla` and `post-vanilla` of Amazon's test suite.
    #[test]
    fn amazons_own_examples_come_out() {
        for (method, signature) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            assert_eq!(
                signed(method, &keys(None)),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
                )
            );
        }
    }

    #[test]
    fn a_session_token_is_signed_too() {
        let authorization = signed("POST", &keys(Some("token")));
        assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"));
        assert_ne!(authorization, signed("POST", &keys(Some("other"))));
    }

    #[test]
    fn the_calendar_knows_leap_days_and_new_years() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
            (1_798_761_599, "20261231T235959Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
