//! What a provider's answer says about its limits: how long to wait, and how much is left.
//!
//! Sources: `retry-after` (RFC 9110 10.2.3), `retry-after-ms` and `x-ratelimit-*` (OpenAI, Azure,
//! Groq, Mistral), `anthropic-ratelimit-*` (Anthropic), `google.rpc.RetryInfo` (Google).

/// Longest wait that is believed, in milliseconds; longer ones are taken for it.
const WAIT_MS_MAX: u64 = 24 * 3_600_000;
/// Numbers from here on are moments in Unix seconds and not spans (the year 2001).
const UNIX_SECONDS_MIN: f64 = 1e9;

/// One limit, as far as the provider told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// The limit itself.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// Milliseconds until it is whole again.
    pub reset_ms: Option<u64>,
}

/// What an answer says about limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateSignals {
    /// Milliseconds to wait, as the provider asks.
    pub wait_ms: Option<u64>,
    /// Requests.
    pub requests: Allowance,
    /// Tokens.
    pub tokens: Allowance,
}

impl RateSignals {
    /// Reads headers, of lower-case names, in one pass, and the body of a refusal. Of several values
    /// of one meaning the first readable one counts. `unix_ms` is the time of day, for moments.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>, body: &str, unix_ms: u64) -> Self {
        let mut signals = Self::default();
        let (mut exact, mut rounded) = (None, None);
        for (name, value) in headers {
            if let Some((allowance, part)) = signals.allowance(name) {
                match part {
                    "limit" => first(&mut allowance.limit, || number(value)),
                    "remaining" => first(&mut allowance.remaining, || number(value)),
                    "reset" => first(&mut allowance.reset_ms, || parse_span_ms(value, unix_ms)),
                    _ => {}
                }
            } else if name == "retry-after-ms" {
                first(&mut exact, || number(value));
            } else if name == "retry-after" {
                first(&mut rounded, || parse_span_ms(value, unix_ms));
            }
        }
        let wait_ms = exact.or(rounded).or_else(|| retry_info_ms(body));
        signals.wait_ms = wait_ms.map(|ms| ms.min(WAIT_MS_MAX));
        signals
    }

    /// The limit that a header is about, and what it says of it: OpenAI names the limit last,
    /// Anthropic first.
    fn allowance<'n>(&mut self, name: &'n str) -> Option<(&mut Allowance, &'n str)> {
        let (part, kind) = match name.strip_prefix("x-ratelimit-") {
            Some(rest) => rest.split_once('-')?,
            None => {
                name.strip_prefix("anthropic-ratelimit-")?.split_once('-').map(|(kind, part)| (part, kind))?
            }
        };
        match kind {
            "requests" => Some((&mut self.requests, part)),
            "tokens" => Some((&mut self.tokens, part)),
            _ => None,
        }
    }

    /// Milliseconds for which the next request of `tokens` tokens would meet an empty limit;
    /// `None` when there is room, or nothing is known.
    #[must_use]
    pub fn exhausted_ms(&self, tokens: u64) -> Option<u64> {
        let empty = |allowance: &Allowance, need: u64| {
            allowance
                .remaining
                .filter(|left| *left < need)
                .and(allowance.reset_ms)
                .map(|ms| ms.min(WAIT_MS_MAX))
        };
        empty(&self.requests, 1).max(empty(&self.tokens, tokens.max(1)))
    }
}

fn first(slot: &mut Option<u64>, value: impl FnOnce() -> Option<u64>) {
    if slot.is_none() {
        *slot = value();
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A span or a moment as providers write them, in milliseconds from now: seconds (`7`, `1.5`),
/// Go's durations (`6m0s`, `120ms`), Unix seconds, RFC 3339, HTTP dates.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive; saturates"
)]
fn parse_span_ms(text: &str, unix_ms: u64) -> Option<u64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        if !number.is_finite() || number < 0.0 {
            return None;
        }
        let ms = (number * 1000.0).ceil() as u64;
        return Some(if number >= UNIX_SECONDS_MIN { ms.saturating_sub(unix_ms) } else { ms });
    }
    go_duration_ms(text)
        .or_else(|| parse_rfc3339_ms(text).map(|at| at.saturating_sub(unix_ms)))
        .or_else(|| parse_http_date_ms(text).map(|at| at.saturating_sub(unix_ms)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive by construction; saturates"
)]
fn go_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut ms = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let factor = match unit {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            "d" => 8.64e7,
            _ => return None,
        };
        ms += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    (!text.is_empty()).then_some(ms.ceil() as u64)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn moment_ms([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3], offset_s: i64) -> Option<u64> {
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    if valid { u64::try_from(seconds).ok()?.checked_mul(1000) } else { None }
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let mut parts = text
        .split(separator)
        .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten());
    let mut out = [0; N];
    for slot in &mut out {
        *slot = parts.next()??;
    }
    parts.next().is_none().then_some(out)
}

/// RFC 3339 (`2026-01-27T12:00:30Z`), in Unix milliseconds; fractions of a second are dropped.
fn parse_rfc3339_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone)?;
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let offset_s = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] = numbers(offset, ':')?;
            (hours * 3600 + minutes * 60) * if sign == "-" { -1 } else { 1 }
        }
    };
    moment_ms(numbers(date, '-')?, numbers(clock, ':')?, offset_s)
}

/// An HTTP date in the form that RFC 9110 5.6.7 prefers (`Sun, 06 Nov 1994 08:49:37 GMT`), in
/// Unix milliseconds.
fn parse_http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.split_once(", ")?;
    let mut parts = date.split(' ');
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = parts.next()?.parse().ok()?;
    let clock = numbers(parts.next()?, ':')?;
    (parts.next()? == "GMT").then_some(())?;
    moment_ms([year, i64::try_from(month).ok()? + 1, day], clock, 0)
}

/// `google.rpc.RetryInfo` in an error's details: `"retryDelay": "34.07s"`.
fn retry_info_ms(body: &str) -> Option<u64> {
    let (_, after) = body.split_once("\"retryDelay\"")?;
    let (_, value) = after.split_once('"')?;
    let (value, _) = value.split_once('"')?;
    go_duration_ms(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn read(headers: &[(&str, &str)], body: &str) -> RateSignals {
        RateSignals::read(headers.iter().copied(), body, NOW)
    }

    #[test]
    fn spans_and_moments_in_all_their_spellings() {
        for (text, ms) in [
            ("7", Some(7_000)),
            ("1.5", Some(1_500)),
            ("6m0s", Some(360_000)),
            ("120ms", Some(120)),
            ("1h2m3.5s", Some(3_723_500)),
            ("1800000030", Some(30_000)),
            ("2027-01-15T08:00:30Z", Some(30_000)),
            ("2027-01-15T10:00:30.250+02:00", Some(30_000)),
            ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60_000)),
            ("Fri, 15 Jan 2021 08:01:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("5 parsecs", None),
            ("2027-13-15T08:00:30Z", None),
        ] {
            assert_eq!(parse_span_ms(text, NOW), ms, "{text}");
        }
        assert_eq!(parse_http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
    }

    #[test]
    fn each_providers_headers_are_read() {
        let openai = read(
            &[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            "",
        );
        assert_eq!(openai.requests, Allowance { limit: Some(60), remaining: Some(0), reset_ms: Some(1_000) });
        assert_eq!((openai.exhausted_ms(10), openai.exhausted_ms(200_000)), (Some(1_000), Some(360_000)));
        let anthropic = read(
            &[
                ("anthropic-ratelimit-tokens-remaining", "100"),
                ("anthropic-ratelimit-tokens-reset", "2027-01-15T08:00:12Z"),
                ("retry-after", "3"),
            ],
            "",
        );
        assert_eq!(
            (anthropic.wait_ms, anthropic.exhausted_ms(101), anthropic.exhausted_ms(100)),
            (Some(3_000), Some(12_000), None)
        );
        let google = read(
            &[],
            r#"{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.07s"}]}}"#,
        );
        assert_eq!(google.wait_ms, Some(34_070));
        assert_eq!(read(&[("retry-after", "1"), ("retry-after-ms", "250")], "").wait_ms, Some(250));
        let twice =
            [("x-ratelimit-limit-tokens", "many"), ("x-ratelimit-limit-tokens", "9"), ("retry-after", "")];
        assert_eq!(read(&twice, "").tokens.limit, Some(9));
        assert_eq!(
            read(&[("x-ratelimit-limit", "5"), ("x-ratelimit-limit-tokens-day", "5")], ""),
            RateSignals::default()
        );
        assert_eq!(read(&[], "{}"), RateSignals::default());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", unix_ms in any::<u64>()) {
            let _ = parse_span_ms(&text, unix_ms);
            let _ = retry_info_ms(&text);
        }

        #[test]
        fn dates_are_read_as_they_are_counted(day in 0..2_900_000_i64) {
            // The same calendar from the other side (Hinnant, `civil_from_days`).
            let z = day + 719_468;
            let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
            let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
            let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
            let mp = (5 * doy + 2) / 153;
            let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
            let y = yoe + era * 400 + i64::from(m <= 2);
            prop_assert_eq!(days(y, m, d), day);
        }
    }
}
