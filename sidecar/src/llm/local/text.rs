//! From a model's bytes to text that can be sent: whole characters only, and nothing that may
//! turn out to be the beginning of a stop sequence.

/// Collects bytes and lets text go as soon as nothing can change it any more.
#[derive(Debug)]
pub struct TextBuffer {
    stops: Vec<String>,
    /// Bytes of an unfinished character; at most three.
    bytes: Vec<u8>,
    /// Text kept back; shorter than the longest stop sequence after each push.
    held: String,
}

/// What a push brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Text that may go out, possibly empty; more may come.
    Text(String),
    /// The text before a stop sequence; nothing comes after it.
    Stopped(String),
}

impl TextBuffer {
    /// An empty buffer; the stop sequences must not be empty.
    #[must_use]
    pub const fn new(stops: Vec<String>) -> Self {
        Self { stops, bytes: Vec::new(), held: String::new() }
    }

    /// Adds a token's bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Pushed {
        self.bytes.extend_from_slice(bytes);
        self.take_characters();
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Pushed::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Pushed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What is left when the model has ended by itself.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.held.push_str(&String::from_utf8_lossy(&self.bytes));
        self.held
    }

    /// Moves all finished characters into the text. Bytes that can never become a character
    /// are replaced by U+FFFD; those that may still are kept.
    fn take_characters(&mut self) {
        let mut rest = &self.bytes[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(good));
                    let Some(length) = error.error_len() else {
                        self.bytes = bad.to_vec();
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        }
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at).rev();
    ends.filter_map(|end| stop.get(..end)).find(|head| text.ends_with(head)).map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut buffer = TextBuffer::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            match buffer.push(piece) {
                Pushed::Text(text) => out.push(text),
                Pushed::Stopped(text) => {
                    out.push(text);
                    return (out, true);
                }
            }
        }
        out.push(buffer.finish());
        (out, false)
    }

    #[test]
    fn a_character_split_over_tokens_comes_whole() {
        let (out, _) = run(&[], &[b"a\xe4", b"\xbd", b"\xa0b"]);
        assert_eq!(out, ["a", "", "你b", ""]);
    }

    #[test]
    fn what_can_never_be_a_character_is_replaced() {
        let (out, _) = run(&[], &[b"a\xffb\xe4\xbd", b"c", b"\xf0"]);
        assert_eq!(out.concat(), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn a_stop_sequence_ends_the_text_even_over_tokens() {
        assert_eq!(
            run(&["END", "\n\n"], &[b"one E", b"N", b"D two"]),
            (vec!["one ".into(), String::new(), String::new()], true)
        );
        assert_eq!(run(&["\n\n"], &[b"a\n", b"\nb"]).0.concat(), "a");
    }

    #[test]
    fn a_false_beginning_of_a_stop_sequence_is_let_go() {
        let (out, stopped) = run(&["END"], &[b"one E", b"EN", b"d"]);
        assert_eq!((out.concat().as_str(), stopped), ("one EENd", false));
        assert_eq!(run(&["END"], &[b"one EN"]).0.concat(), "one EN");
    }

    #[test]
    fn the_earliest_of_several_stops_wins() {
        assert_eq!(run(&["c", "b"], &[b"abcd"]), (vec!["a".into()], true));
    }
}
