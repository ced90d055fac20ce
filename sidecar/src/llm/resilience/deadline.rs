//! How long a caller waits, as its headers say: nobody is asked after that.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// Waits in milliseconds: our own header, and what Envoy tells its upstreams.
const MILLIS: [HeaderName; 2] = [
    HeaderName::from_static("x-request-timeout-ms"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
];
/// The wait in seconds that OpenAI's and Anthropic's clients tell.
const SECONDS: HeaderName = HeaderName::from_static("x-stainless-timeout");
/// Longer waits are none.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The shortest of the waits that the headers tell; `None` without any. What is not a number
/// above zero says nothing.
#[must_use]
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let millis = MILLIS.into_iter().filter_map(|name| number(&name)).map(|ms| ms / 1000.0);
    let seconds = millis.chain(number(&SECONDS)).filter(|seconds| *seconds > 0.0 && seconds.is_finite());
    let waits = seconds.filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok());
    waits.filter(|wait| *wait <= WAIT_MAX).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_wait_counts_and_nonsense_does_not() {
        let of = |list: &[(&'static str, &'static str)]| {
            let headers = list.iter().map(|(name, value)| {
                ((*name).parse().expect("a name"), value.parse::<http::HeaderValue>().expect("a value"))
            });
            wait(&headers.collect::<HeaderMap>())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[("x-stainless-timeout", "600"), ("x-request-timeout-ms", "1500")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(of(&[("x-envoy-expected-rq-timeout-ms", "15000")]), Some(Duration::from_secs(15)));
        for nonsense in ["", "soon", "0", "-1", "inf", "NaN", "1e300"] {
            assert_eq!(of(&[("x-request-timeout-ms", nonsense)]), None, "{nonsense}");
        }
    }
}
