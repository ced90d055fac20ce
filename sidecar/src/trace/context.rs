//! W3C Trace Context, level 1: the header `traceparent`.

use crate::keys::random::hex;

/// Bytes of `00-<32 hex>-<16 hex>-<2 hex>`.
const LENGTH: usize = 55;
/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace: the trace, and the span that is the parent of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// Whether spans are recorded.
    pub sampled: bool,
}

impl Context {
    /// Reads a header's value; `None` if it is none, as for ids of zeros. Of later versions the part is
    /// read that the first one has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = head.split('-');
        let [version] = bytes::<1>(parts.next()?)?;
        let (trace_id, span_id) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes::<1>(parts.next()?)?;
        let fits = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let is_one = parts.next().is_none() && version != 0xff && trace_id != [0; 16] && span_id != [0; 8];
        (fits && is_one).then_some(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }

    /// The header's value.
    #[must_use]
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.span_id), u8::from(self.sampled))
    }
}

/// `N` bytes from lower-case hex digits, the only ones that are allowed.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != N * 2 || !text.bytes().all(is_hex) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the recommendation, section 3.2.4.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_recommendations_example_is_read() {
        let context = Context::parse(EXAMPLE).expect("valid");
        assert!(context.sampled);
        assert_eq!(hex(&context.span_id), "00f067aa0ba902b7");
        assert_eq!(context.header(), EXAMPLE);
        assert!(!Context::parse(&EXAMPLE.replace("-01", "-00")).expect("valid").sampled);
        let later = format!("{}-more", EXAMPLE.replacen("00", "01", 1));
        assert_eq!(Context::parse(&later), Some(context));
    }

    #[test]
    fn what_the_recommendation_calls_invalid_is_none() {
        for bad in [
            "",
            "00-1",
            &EXAMPLE.replacen("00", "ff", 1),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &format!("{EXAMPLE}-more"),
            &EXAMPLE.replacen("00-", "01+", 1),
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_the_same(text in "\\PC{0,60}") {
            let _ = Context::parse(&text);
        }

        #[test]
        fn there_and_back(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) {
            let context = Context { trace_id, span_id, sampled };
            let is_one = trace_id != [0; 16] && span_id != [0; 8];
            prop_assert_eq!(Context::parse(&context.header()), is_one.then_some(context));
        }
    }
}
