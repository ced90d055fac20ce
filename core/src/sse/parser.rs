//! Splits a byte stream into events.

/// Longest event kept, in bytes; a longer one is reported as [`Event::truncated`].
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// One dispatched event; comments, ids and retry fields are not reported.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field, empty when absent.
    pub name: &'a [u8],
    /// The `data:` lines, joined by `\n`.
    pub data: &'a [u8],
    /// The event was longer than [`EVENT_BYTES_MAX`]; what exceeded it is missing.
    pub truncated: bool,
}

/// Incremental parser; memory is bounded by two times [`EVENT_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    truncated: bool,
    after_cr: bool,
    started: bool,
}

impl Parser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds one chunk and calls `each` for every event it completes.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.keep(rest);
                return;
            };
            let (line, tail) = rest.split_at(end);
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.line_done(line, &mut each);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.line);
                self.line_done(&line, &mut each);
                self.line = line;
                self.line.clear();
            }
        }
    }

    /// Whether bytes of an unfinished event are pending: a stream that ends now was cut.
    #[must_use]
    pub fn is_mid_event(&self) -> bool {
        self.has_data || !self.line.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = EVENT_BYTES_MAX.saturating_sub(self.line.len());
        self.truncated |= bytes.len() > room;
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn line_done(&mut self, line: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        };
        if line.is_empty() {
            self.dispatch(each);
            return;
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.add_data(value),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
    }

    fn add_data(&mut self, value: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        let room = EVENT_BYTES_MAX.saturating_sub(self.data.len());
        self.truncated |= value.len() > room;
        self.data.extend_from_slice(value.get(..room).unwrap_or(value));
    }

    fn dispatch(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.has_data {
            each(Event { name: &self.name, data: &self.data, truncated: self.truncated });
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.truncated = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::new();
        let mut out = Vec::new();
        for chunk in chunks {
            parser.push(chunk, |e| {
                out.push((
                    String::from_utf8_lossy(e.name).into_owned(),
                    String::from_utf8_lossy(e.data).into_owned(),
                ));
            });
        }
        out
    }

    const STREAM: &[u8] =
        "\u{feff}: ping\nevent: a\ndata: 你好\ndata:two\n\nid: 7\rdata: x\r\rdata\r\n\r\nevent: lone\n\n"
            .as_bytes();

    #[test]
    fn fields_comments_and_line_ends_follow_the_standard() {
        let expected = [("a", "你好\ntwo"), ("", "x"), ("", "")];
        let found = events(&[STREAM]);
        assert_eq!(found, expected.map(|(n, d)| (n.to_owned(), d.to_owned())));
    }

    #[test]
    fn a_split_at_any_byte_changes_nothing() {
        let whole = events(&[STREAM]);
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.split_at(at);
            assert_eq!(events(&[a, b]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn a_giant_event_is_bounded_and_marked() {
        let mut parser = Parser::new();
        parser.push(b"data: ", |_| ());
        for _ in 0..3 {
            parser.push(&vec![b'x'; EVENT_BYTES_MAX / 2], |_| ());
        }
        let mut seen = None;
        parser.push(b"\n\n", |e| seen = Some((e.data.len() <= EVENT_BYTES_MAX, e.truncated)));
        assert_eq!(seen, Some((true, true)));
        parser.push(b"data: y\n\n", |e| seen = Some((e.data == b"y", e.truncated)));
        assert_eq!(seen, Some((true, false)));
    }

    #[test]
    fn a_cut_stream_is_mid_event() {
        let mut parser = Parser::new();
        parser.push(b"data: x\n", |_| ());
        assert!(parser.is_mid_event());
        parser.push(b"\n", |_| ());
        assert!(!parser.is_mid_event());
    }
}
