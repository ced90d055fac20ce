//! Scalars with a unit, and text with variables.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Variables of the environment, by name; an argument everywhere, so that tests need not
/// change the process.
pub type Env = BTreeMap<String, String>;

/// A duration as text with a unit: `500ms`, `30s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size in bytes: a whole number, or text with a unit as in `10MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

const SPAN_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Splits `12MiB` into number and unit and multiplies.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Something that is off, on as it comes, or on with settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch<T> {
    /// `false`.
    Off,
    /// `true`.
    On,
    /// A mapping.
    With(T),
}

struct SwitchVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SwitchVisitor<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a mapping")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Switch<T>, E> {
        Ok(if on { Switch::On } else { Switch::Off })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Switch::With)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SwitchVisitor(PhantomData))
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with a unit, such as \"500ms\", \"30s\", \"5m\" or \"1h\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        let ms = scaled(text, &SPAN_UNITS)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(Span(Duration::from_millis(ms)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size in bytes, or with a unit such as \"512KiB\" or \"10MiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        scaled(text, &SIZE_UNITS)
            .map(ByteSize)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// How deep defaults may stand in defaults.
const DEFAULTS_DEEP_MAX: usize = 4;

/// Replaces each `${NAME}` and `${NAME:-default}` in `text`, as a shell would; a default may have variables of its own,
/// as in `${A:-${B}}`. `$` elsewhere stays as it is.
///
/// # Errors
/// A sentence that names the variable that is not set, or the place that is not closed. It
/// never contains `text`, which may be a secret.
pub fn expand(text: &str, env: &Env) -> Result<String, String> {
    expand_within(text, env, DEFAULTS_DEEP_MAX)
}

fn expand_within(text: &str, env: &Env, deep_max: usize) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, remaining) = closed(after).ok_or("has a `${` without its `}`; close it")?;
        let (name, default) =
            inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("has a `${...}` that is not the name of a variable".to_owned());
        }
        let value = env.get(name).filter(|value| !value.is_empty());
        out.push_str(before);
        match (value, default) {
            (Some(value), _) => out.push_str(value),
            (None, Some(_)) if deep_max == 0 => {
                return Err(format!("has defaults in defaults, more than {DEFAULTS_DEEP_MAX} deep"));
            }
            (None, Some(default)) => out.push_str(&expand_within(default, env, deep_max - 1)?),
            (None, None) => {
                return Err(format!(
                    "uses ${{{name}}}, which is not set; set it in the environment or write ${{{name}:-default}}"
                ));
            }
        }
        rest = remaining;
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands before the `}` that closes a `${`, and what comes after it.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut open = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit_that_is_known() {
        let span = |yaml: &str| serde_norway::from_str::<Span>(yaml).map(|s| s.0.as_millis());
        assert_eq!(span("\"5m\"").expect("5m"), 300_000);
        assert_eq!(span("250ms").expect("250ms"), 250);
        for bad in ["5", "-5s", "5d", "s", "\"\"", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        let size = |yaml: &str| serde_norway::from_str::<ByteSize>(yaml).map(|s| s.0);
        assert_eq!(size("10MiB").expect("10MiB"), 10 << 20);
        assert_eq!(size("1 KB").expect("1 KB"), 1000);
        assert_eq!(size("7").expect("7"), 7);
        for bad in ["-7", "10XB", "MiB", ".nan", "1e3MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_are_replaced_and_missing_ones_named() {
        let env = Env::from([("A".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())]);
        assert_eq!(expand("x${A}y${B:-2}$z", &env).as_deref(), Ok("x1y2$z"));
        assert_eq!(expand("${EMPTY:-d}", &env).as_deref(), Ok("d"));
        assert!(expand("sk-${NOPE}", &env).expect_err("unset").contains("NOPE"));
        assert!(!expand("sk-secret${A", &env).expect_err("open").contains("secret"));
        assert_eq!(expand("${NOPE:-${A}}-${NOPE:-${NO:-d}}", &env).as_deref(), Ok("1-d"));
        assert!(expand("${NOPE:-${NO}}", &env).expect_err("unset").contains("${NO}"));
        assert!(expand("${A:-${B}", &env).is_err(), "not closed");
        assert!(expand(&("${N:-".repeat(9) + &"}".repeat(9)), &env).expect_err("deep").contains("4 deep"));
        assert!(expand("${}", &env).is_err());
    }
}
