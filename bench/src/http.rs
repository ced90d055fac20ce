//! As much of HTTP/1.1 as a load generator needs, at as little CPU as possible: requests are
//! prepared once and numbered in place, responses are only measured and checked.

use std::sync::atomic::{AtomicU64, Ordering};

/// Digits of a request's number; fixed, so that the content length does not change.
const NUMBER_DIGITS: usize = 12;
/// The place of the number in a template's body.
const NUMBER_MARK: &str = "@@@@@@@@@@@@";
/// A response head or chunk header longer than this is refused.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request that is ready to send.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    number_at: Option<usize>,
}

impl Template {
    /// A JSON `POST`. If `body` holds [`NUMBER_MARK`], each sending replaces it by a number that
    /// was never used in this process.
    pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let number_at = body.find(NUMBER_MARK).map(|at| head.len() + at);
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        Self { bytes, number_at }
    }

    /// The bytes of the next request.
    pub(crate) fn next(&mut self) -> &[u8] {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        if let Some(at) = self.number_at {
            let mut number = NUMBER.fetch_add(1, Ordering::Relaxed);
            for digit in self.bytes[at..at + NUMBER_DIGITS].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        &self.bytes
    }
}

/// Where a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    Partial,
    /// The response is the first `len` bytes; its head the first `head_len` of them.
    Whole { len: usize, head_len: usize },
    /// This is not a response of a kind that the generator understands.
    Broken(&'static str),
}

/// Looks for the end of the response at the start of `bytes`.
pub(crate) fn measure(bytes: &[u8]) -> Progress {
    let Some(head_len) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_BYTES_MAX {
            Progress::Broken("endless head")
        } else {
            Progress::Partial
        };
    };
    match framing(&bytes[..head_len]) {
        Framing::Length(body) if bytes.len() >= head_len + body => {
            Progress::Whole { len: head_len + body, head_len }
        }
        Framing::Length(_) => Progress::Partial,
        Framing::Chunked => match chunked_len(&bytes[head_len..]) {
            ChunkedLen::Whole(body) => Progress::Whole { len: head_len + body, head_len },
            ChunkedLen::Partial => Progress::Partial,
            ChunkedLen::Broken => Progress::Broken("broken chunk"),
        },
        Framing::Unknown => Progress::Broken("neither content-length nor chunked"),
    }
}

/// The status of a response head.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether a response head has this line, given as `name: value` in lower case.
pub(crate) fn has_line(head: &[u8], line: &str) -> bool {
    head.split(|b| *b == b'\n')
        .any(|l| l.strip_suffix(b"\r").unwrap_or(l).eq_ignore_ascii_case(line.as_bytes()))
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    Unknown,
}

fn framing(head: &[u8]) -> Framing {
    for line in head.split(|b| *b == b'\n').skip(1) {
        if let Some(value) = value_of(line, b"content-length:") {
            return std::str::from_utf8(value)
                .ok()
                .and_then(|v| v.trim().parse().ok())
                .map_or(Framing::Unknown, Framing::Length);
        }
        if value_of(line, b"transfer-encoding:").is_some() {
            return Framing::Chunked;
        }
    }
    Framing::Unknown
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = line.get(..name.len())?;
    start.eq_ignore_ascii_case(name).then(|| &line[name.len()..])
}

enum ChunkedLen {
    Whole(usize),
    Partial,
    Broken,
}

fn chunked_len(bytes: &[u8]) -> ChunkedLen {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(line_len) = find(rest, b"\r\n") else {
            return if rest.len() > HEAD_BYTES_MAX { ChunkedLen::Broken } else { ChunkedLen::Partial };
        };
        let size = std::str::from_utf8(&rest[..line_len]).ok().and_then(|s| {
            let digits = s.split(';').next().unwrap_or(s);
            usize::from_str_radix(digits.trim(), 16).ok()
        });
        let Some(size) = size else {
            return ChunkedLen::Broken;
        };
        at += line_len + 2 + size + 2;
        if at > bytes.len() {
            return ChunkedLen::Partial;
        }
        if size == 0 {
            return ChunkedLen::Whole(at);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_numbers_its_requests_and_keeps_their_length() {
        let mut template = Template::post("/x", &[("a", "b")], r#"{"n":"@@@@@@@@@@@@"}"#);
        let (first, second) = (template.next().to_vec(), template.next().to_vec());
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
        assert!(String::from_utf8(first).unwrap().contains("content-length: 20\r\n"));
        let mut constant = Template::post("/x", &[], "{}");
        assert_eq!(constant.next().to_vec(), constant.next());
    }

    #[test]
    fn a_response_is_measured_at_every_split() {
        let length: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\na;x=1\r\n0123456789\r\n0\r\n\r\n";
        for whole in [length, chunked] {
            for end in 0..whole.len() {
                assert_eq!(measure(&whole[..end]), Progress::Partial, "{end}");
            }
            let mut more = whole.to_vec();
            more.extend_from_slice(b"HTTP/1.1");
            let Progress::Whole { len, head_len } = measure(&more) else { panic!("not whole") };
            assert_eq!(len, whole.len());
            assert_eq!(status(&more[..head_len]), Some(200));
        }
        assert!(has_line(length, "content-length: 5"));
        assert!(!has_line(length, "content-length: 55"));
        assert!(matches!(measure(b"HTTP/1.1 200 OK\r\n\r\n"), Progress::Broken(_)));
    }
}
