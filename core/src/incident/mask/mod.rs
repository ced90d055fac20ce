//! Masking: what varies from one occurrence of an error to the next is replaced by a placeholder,
//! so that all occurrences have one template, and nothing a caller wrote leaves the process.
//!
//! One pass, no regular expressions, one allocation: it runs in the filter for each error.
//! All rules are here and in `word`; `vocabulary` has the lists they work with.

mod vocabulary;
mod word;

pub use vocabulary::is_api_word;

/// Most bytes of a text that are looked at; errors say what they are at the start.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 400;
/// Longest quoted value, in bytes; a quote that is not closed within is punctuation.
const QUOTED_BYTES_MAX: usize = 1024;

/// What can stand in a template in place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placeholder {
    /// A number, with its sign, separators and percent sign or size unit.
    Number,
    /// A word that carries digits or has the shape of an identifier.
    Id,
    /// A UUID.
    Uuid,
    /// Eight or more hexadecimal digits, or `0x...`.
    Hex,
    /// A host name, with its port.
    Host,
    /// An IP address, with its port.
    Ip,
    /// A path of a file system, or a JSON pointer.
    Path,
    /// A URL.
    Url,
    /// An e-mail address.
    Email,
    /// A quoted value.
    Quoted,
    /// A date or a time of day.
    Time,
    /// A number with a unit of time.
    Duration,
    /// An amount of money.
    Money,
    /// The name of a model.
    Model,
    /// A credential, or what a provider leaves of one.
    Key,
}

impl Placeholder {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Number,
        Self::Id,
        Self::Uuid,
        Self::Hex,
        Self::Host,
        Self::Ip,
        Self::Path,
        Self::Url,
        Self::Email,
        Self::Quoted,
        Self::Time,
        Self::Duration,
        Self::Money,
        Self::Model,
        Self::Key,
    ];

    /// How it is written in a template.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "<num>",
            Self::Id => "<id>",
            Self::Uuid => "<uuid>",
            Self::Hex => "<hex>",
            Self::Host => "<host>",
            Self::Ip => "<ip>",
            Self::Path => "<path>",
            Self::Url => "<url>",
            Self::Email => "<email>",
            Self::Quoted => "<str>",
            Self::Time => "<time>",
            Self::Duration => "<dur>",
            Self::Money => "<money>",
            Self::Model => "<model>",
            Self::Key => "<key>",
        }
    }
}

/// The template of `text`: at most [`TEMPLATE_BYTES_MAX`] bytes, made from at most the first
/// [`TEXT_BYTES_MAX`]. Placeholders in it stay as
/// they are, so the template of a template is itself.
#[must_use]
pub fn mask(text: &str) -> String {
    let mut masker = Masker { rest: head(text, TEXT_BYTES_MAX), before: ' ', out: Template::default() };
    while masker.out.text.len() < TEMPLATE_BYTES_MAX && masker.step() {}
    masker.out.finish()
}

/// The first `max` bytes of `text` or a little less, cut between characters.
pub(super) fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

struct Masker<'a> {
    rest: &'a str,
    /// The character before `rest`: decides whether a quote opens.
    before: char,
    out: Template,
}

impl<'a> Masker<'a> {
    /// Consumes one piece; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if let Some(known) = Placeholder::ALL.into_iter().find(|p| self.rest.starts_with(p.as_str())) {
            self.take(known.as_str().len());
            self.out.placeholder(known);
        } else if let Some(escaped) = self.escape() {
            self.out.space();
            self.take(escaped);
            self.before = ' ';
        } else if is_quote(first) && self.opens() && self.quoted(first) {
            // Taken whole.
        } else if first.is_whitespace() || first.is_control() {
            self.take(first.len_utf8());
            self.out.space();
        } else if is_word_byte(first) {
            let end = self.rest.find(|c| !is_word_byte(c)).unwrap_or(self.rest.len());
            let text = self.take(end);
            word::mask_word(text, &mut self.out);
        } else {
            self.take(first.len_utf8());
            self.out.other(first);
        }
        true
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.before = taken.chars().next_back().unwrap_or(self.before);
        self.rest = rest;
        taken
    }

    /// Whether a quote here opens a value: it is no apostrophe, and not the message of a printed
    /// `SomeError('...')`.
    fn opens(&self) -> bool {
        let printed = ["Error(", "Exception("].iter().any(|name| self.out.text.ends_with(name));
        !self.before.is_alphanumeric() && !printed
    }

    /// Length of an escape such as `\n` or `\"`, which JSON inside JSON leaves behind.
    fn escape(&self) -> Option<usize> {
        let after = self.rest.strip_prefix('\\')?;
        let slashes = after.bytes().take_while(|b| *b == b'\\').count();
        let next = after.as_bytes().get(slashes)?;
        match next {
            b'n' | b't' | b'r' => Some(slashes + 2),
            b'"' | b'\'' | b'/' => Some(slashes + 1),
            _ => None,
        }
    }

    /// Takes a quoted value, if what is here is one: a JSON key and a word of the APIs stay.
    fn quoted(&mut self, open: char) -> bool {
        let close = closing(open);
        let Some(inside) = self.rest.get(open.len_utf8()..) else { return false };
        let window = head(inside, QUOTED_BYTES_MAX);
        let ends = |at: &usize| {
            let after = inside.get(at + close.len_utf8()..).and_then(|rest| rest.chars().next());
            !after.is_some_and(|c| c.is_ascii_alphanumeric())
        };
        let Some(length) = window.match_indices(close).map(|(at, _)| at).find(ends) else { return false };
        let value = window.get(..length).unwrap_or_default().trim_end_matches('\\');
        let after = inside.get(length + close.len_utf8()..).unwrap_or_default().trim_start();
        let name = !value.is_empty() && value.len() <= 40 && value.bytes().all(is_name_byte);
        if (after.starts_with(':') && name) || is_api_word(value) {
            self.out.words(value);
        } else if let Some(path) = word::api_path(value) {
            self.out.words(&path);
        } else if !value.trim().is_empty() {
            let shape = word::shape(value.trim());
            self.out.placeholder(match shape {
                Some(shape @ (Placeholder::Model | Placeholder::Key | Placeholder::Url))
                    if !value.contains(' ') =>
                {
                    shape
                }
                _ if self.out.text.trim_end().ends_with("odel") => Placeholder::Model,
                _ => Placeholder::Quoted,
            });
        }
        self.take(open.len_utf8() + length + close.len_utf8());
        true
    }
}

const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '‘' | '「' | '《')
}

const fn closing(open: char) -> char {
    match open {
        '“' => '”',
        '‘' => '’',
        '「' => '」',
        '《' => '》',
        same => same,
    }
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b'-'
}

/// What holds a word together; everything else ends it.
const fn is_word_byte(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '_' | '-' | '.' | '/' | ':' | '@' | '+' | '%' | '*' | '~' | '$' | '#' | '&' | '¥' | '€' | '£'
        )
}

/// A template as it is written: spaces are single, and a run of one placeholder is one.
#[derive(Debug, Default)]
struct Template {
    text: String,
    /// The placeholder written last, while nothing but separators has followed it.
    last: Option<(Placeholder, usize)>,
}

impl Template {
    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    fn words(&mut self, text: &str) {
        self.last = None;
        self.text.push_str(text);
    }

    fn other(&mut self, c: char) {
        if !matches!(c, ',' | ';' | '|' | '、') {
            self.last = None;
        }
        self.text.push(c);
    }

    fn placeholder(&mut self, placeholder: Placeholder) {
        match self.last {
            // `<id>, <id>, <id>` says no more than `<id>`.
            Some((last, end)) if last == placeholder && self.text.len() > end => self.text.truncate(end),
            _ => self.text.push_str(placeholder.as_str()),
        }
        self.last = Some((placeholder, self.text.len()));
    }

    fn finish(mut self) -> String {
        let length = head(&self.text, TEMPLATE_BYTES_MAX).trim_end().len();
        self.text.truncate(length);
        // A placeholder that was cut through says nothing.
        if let Some(open) = self.text.rfind('<').filter(|at| self.text.len() - at < 8)
            && length + 8 > TEMPLATE_BYTES_MAX
            && !self.text.ends_with('>')
        {
            self.text.truncate(open);
        }
        let length = self.text.trim_end().len();
        self.text.truncate(length);
        self.text
    }
}

#[cfg(test)]
mod tests;
