//! Which errors are the same: what is compared before any meaning is looked for.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The class of an answer's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StatusClass {
    /// There was no answer: reset, refused, timed out.
    #[serde(rename = "none")]
    None,
    /// 1xx to 3xx: an error inside an answer that began well.
    #[serde(rename = "ok")]
    Ok,
    /// 4xx.
    #[serde(rename = "4xx")]
    Client,
    /// 5xx and above.
    #[serde(rename = "5xx")]
    Server,
}

impl StatusClass {
    /// The class of `status`; none of 0 and of no status.
    #[must_use]
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            None | Some(0..100) => Self::None,
            Some(100..400) => Self::Ok,
            Some(400..500) => Self::Client,
            Some(_) => Self::Server,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ok => "ok",
            Self::Client => "4xx",
            Self::Server => "5xx",
        }
    }
}

/// Who said that something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An LLM provider, in its answer.
    Provider,
    /// An upstream of the operator's own routes, in its answer.
    Upstream,
    /// Envoy, by its response flags.
    Envoy,
    /// A provider, inside a stream that began with 200.
    Stream,
    /// Not known: messages that an operator tries.
    Unknown,
}

impl Source {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Upstream => "upstream",
            Self::Envoy => "envoy",
            Self::Stream => "stream",
            Self::Unknown => "unknown",
        }
    }
}

/// 64 bits over status class, source, codes and template: errors of one signature are one error.
/// The first bytes of a SHA-256, so that nobody can craft an error that passes for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(pub u64);

impl Signature {
    /// The signature of an error.
    #[must_use]
    pub fn of(class: StatusClass, source: Source, codes: &[String], template: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [class.as_str(), source.as_str()].into_iter().chain(codes.iter().map(String::as_str)) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update([1]);
        hash.update(template.as_bytes());
        let digest = hash.finalize();
        Self(digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_parts_do_not_run_together() {
        let codes = |list: &[&str]| list.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let of =
            |class, source, list: &[&str], template| Signature::of(class, source, &codes(list), template);
        let base = of(StatusClass::Client, Source::Provider, &["a"], "t");
        assert_eq!(base, of(StatusClass::Client, Source::Provider, &["a"], "t"));
        for other in [
            of(StatusClass::Server, Source::Provider, &["a"], "t"),
            of(StatusClass::Client, Source::Stream, &["a"], "t"),
            of(StatusClass::Client, Source::Provider, &[], "at"),
            of(StatusClass::Client, Source::Provider, &["a", "t"], ""),
            of(StatusClass::Client, Source::Provider, &["a"], "u"),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base.to_string().len(), 16);
    }

    #[test]
    fn classes_follow_the_status() {
        let classes = [None, Some(0), Some(200), Some(302), Some(404), Some(429), Some(503), Some(999)];
        let names: Vec<_> = classes.into_iter().map(|s| StatusClass::of(s).as_str()).collect();
        assert_eq!(names, ["none", "none", "ok", "ok", "4xx", "4xx", "5xx", "5xx"]);
    }
}
