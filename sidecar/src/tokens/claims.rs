//! What a token claims (RFC 7519), and what of it must hold.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::jws::TokenError;

/// Longest life of a token that is believed without looking again, in seconds: far beyond what
/// anybody issues, and small enough to calculate with.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Claims of a token. Registered ones have their types: a date that is text is an error, not an
/// absent date.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is about.
    pub sub: String,
    aud: Audience,
    exp: Date,
    nbf: Option<Date>,
    iat: Option<Date>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Seconds since 1970, fractions allowed (RFC 7519, NumericDate).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Date(f64);

impl TryFrom<f64> for Date {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        if (0.0..=SECONDS_MAX).contains(&seconds) { Ok(Self(seconds)) } else { Err("not a date") }
    }
}

impl Date {
    /// Milliseconds since 1970.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to SECONDS_MAX")]
    fn ms(self) -> u64 {
        (self.0 * 1000.0) as u64
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `iss`, exactly.
    pub issuer: &'a str,
    /// One of `aud`.
    pub audience: &'a str,
    /// How far clocks may differ, in milliseconds.
    pub leeway_ms: u64,
}

impl Claims {
    /// Reads the payload of a token whose signature holds.
    ///
    /// # Errors
    /// A registered claim is missing, there twice, or of the wrong type.
    pub fn read(payload: &[u8]) -> Result<Self, TokenError> {
        serde_json::from_slice(payload).map_err(|_| TokenError::Claims)
    }

    /// Checks issuer, audience and dates; returns how long the token remains good, in
    /// milliseconds.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self, expected: Expected<'_>, now_ms: u64) -> Result<u64, TokenError> {
        if self.iss != expected.issuer {
            return Err(TokenError::Issuer);
        }
        let is_meant = match &self.aud {
            Audience::One(one) => one == expected.audience,
            Audience::Many(many) => many.iter().any(|one| one == expected.audience),
        };
        if !is_meant {
            return Err(TokenError::Audience);
        }
        let latest_begin = now_ms.saturating_add(expected.leeway_ms);
        if [self.nbf, self.iat].into_iter().flatten().any(|begin| begin.ms() > latest_begin) {
            return Err(TokenError::NotYetValid);
        }
        let end = self.exp.ms().saturating_add(expected.leeway_ms);
        match end.saturating_sub(now_ms) {
            0 => Err(TokenError::Expired),
            left => Ok(left),
        }
    }

    /// A claim that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match name {
            "sub" => Some(&self.sub),
            "iss" => Some(&self.iss),
            _ => self.rest.get(name)?.as_str(),
        }
    }

    /// Whether a claim is this text, or a list that has it.
    #[must_use]
    pub fn has(&self, name: &str, wanted: &str) -> bool {
        match self.rest.get(name) {
            Some(Value::String(text)) => text == wanted,
            Some(Value::Array(list)) => list.iter().any(|item| item == wanted),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected<'_> = Expected { issuer: "i", audience: "a", leeway_ms: 30_000 };

    fn check(json: &str) -> Result<u64, TokenError> {
        Claims::read(json.as_bytes())?.check(EXPECTED, 1_000_000)
    }

    #[test]
    fn dates_count_with_leeway_on_both_ends() {
        assert_eq!(check(r#"{"iss":"i","sub":"s","aud":"a","exp":1000.5}"#), Ok(30_500));
        assert_eq!(check(r#"{"iss":"i","sub":"s","aud":["b","a"],"exp":971}"#), Ok(1000));
        assert_eq!(check(r#"{"iss":"i","sub":"s","aud":"a","exp":970}"#), Err(TokenError::Expired));
        assert!(check(r#"{"iss":"i","sub":"s","aud":"a","exp":2000,"nbf":1030,"iat":1030}"#).is_ok());
        for begin in ["nbf", "iat"] {
            let json = format!(r#"{{"iss":"i","sub":"s","aud":"a","exp":2000,"{begin}":1031}}"#);
            assert_eq!(check(&json), Err(TokenError::NotYetValid), "{begin}");
        }
    }

    #[test]
    fn another_issuer_or_audience_is_refused() {
        assert_eq!(check(r#"{"iss":"x","sub":"s","aud":"a","exp":2000}"#), Err(TokenError::Issuer));
        assert_eq!(check(r#"{"iss":"i","sub":"s","aud":"x","exp":2000}"#), Err(TokenError::Audience));
        assert_eq!(check(r#"{"iss":"i","sub":"s","aud":[],"exp":2000}"#), Err(TokenError::Audience));
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_an_error_and_not_an_absent_claim() {
        for json in [
            r#"{"iss":"i","sub":"s","aud":"a"}"#,
            r#"{"iss":"i","aud":"a","exp":2000}"#,
            r#"{"iss":"i","sub":"s","exp":2000}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":"never"}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":-1}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":1e300}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":2000,"nbf":"9"}"#,
            r#"{"iss":"i","sub":"s","aud":"a","exp":2000,"exp":3000}"#,
            r#"{"iss":["i"],"sub":"s","aud":"a","exp":2000}"#,
            "[]",
            "",
        ] {
            assert_eq!(check(json), Err(TokenError::Claims), "{json}");
        }
    }
}
