//! Checking of Signature Version 4 ("Signing AWS API requests", AWS General Reference), written
//! apart from the gateway's signing, so that a mistake there shows here.

use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use ring::{digest, hmac};

use super::error::ApiError;
use crate::emulator::provider::header;

/// The one key pair that is good.
pub(super) const ACCESS_KEY_ID: &str = "AKIDEMULATED";
pub(super) const SECRET_ACCESS_KEY: &str = "secret-emulated-0123456789";
/// How far a request's time may be off, in seconds.
const SKEW_SECONDS_MAX: u64 = 300;
const SERVICE: &str = "bedrock";

/// What the `authorization` header says.
struct Credential<'a> {
    key: &'a str,
    /// `DAY/REGION/SERVICE/aws4_request`.
    scope: &'a str,
    signed: &'a str,
    signature: &'a str,
}

/// Refuses a request that is not signed with the good key, now.
pub(super) fn check(head: &Parts, body: &[u8]) -> Result<(), ApiError> {
    let authorization = header(head, "authorization").ok_or_else(|| {
        ApiError::forbidden("MissingAuthenticationTokenException", "Missing Authentication Token")
    })?;
    let incomplete = || {
        ApiError::forbidden(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'.",
        )
    };
    let credential = Credential::read(authorization).ok_or_else(incomplete)?;
    if credential.key != ACCESS_KEY_ID {
        return Err(ApiError::forbidden(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ));
    }
    let date = header(head, "x-amz-date").ok_or_else(incomplete)?;
    let mismatch = || {
        ApiError::forbidden(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method.",
        )
    };
    let mut scope = credential.scope.split('/');
    let (day, _region) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    let known = scope.eq([SERVICE, "aws4_request"]) && date.starts_with(day) && day.len() == 8;
    if !known || !["host", "x-amz-date"].iter().all(|name| credential.signed.split(';').any(|s| s == *name)) {
        return Err(mismatch());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if unix_seconds(date).is_none_or(|at| at.abs_diff(now) > SKEW_SECONDS_MAX) {
        return Err(ApiError::forbidden("InvalidSignatureException", "Signature expired."));
    }
    let signature = sign(&canonical(head, body, credential.signed), date, credential.scope);
    if signature == credential.signature { Ok(()) } else { Err(mismatch()) }
}

impl<'a> Credential<'a> {
    fn read(authorization: &'a str) -> Option<Self> {
        let mut fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split(", ");
        let (key, scope) = fields.next()?.strip_prefix("Credential=")?.split_once('/')?;
        let signed = fields.next()?.strip_prefix("SignedHeaders=")?;
        Some(Self { key, scope, signed, signature: fields.next()?.strip_prefix("Signature=")? })
    }
}

/// The canonical request: the path is encoded once more than it was sent.
fn canonical(head: &Parts, body: &[u8], signed: &str) -> String {
    let mut path = String::new();
    for byte in head.uri.path().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    let values =
        signed.split(';').map(|name| format!("{name}:{}\n", header(head, name).unwrap_or_default().trim()));
    let query = head.uri.query().unwrap_or_default();
    format!("{}\n{path}\n{query}\n{}\n{signed}\n{}", head.method, values.collect::<String>(), sha256(body))
}

fn sign(canonical: &str, date: &str, scope: &str) -> String {
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for part in scope.split('/').chain([to_sign.as_str()]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    hex(&key)
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds of a time such as `20150830T123600Z`. The calendar is Howard Hinnant's
/// `days_from_civil`.
fn unix_seconds(date: &str) -> Option<u64> {
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(unix_seconds("20150830T123600Z"), Some(1_440_938_160));
        assert_eq!(unix_seconds("19700101T000001Z"), Some(1));
        assert_eq!(unix_seconds("yesterday"), None);
    }
}
