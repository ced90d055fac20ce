//! Which placeholder a word is, if any.

use super::vocabulary::{
    HOST_ENDINGS, ID_PREFIXES, KEY_PREFIXES, MODEL_FAMILIES, PLAIN_WORDS, SIZE_UNITS, TIME_UNITS,
};
use super::{Placeholder, Template};

/// Writes `text`, a word with whatever punctuation clings to it, masked.
pub(super) fn mask_word(text: &str, out: &mut Template) {
    // Leaders, as in `address......0x01`, join what are two words; a path may have `..` in it.
    if let Some((left, right)) =
        text.split_once("..").filter(|(left, _)| !left.is_empty() && !left.contains('/'))
    {
        mask_word(left, out);
        out.words("..");
        let right = right.trim_start_matches('.');
        if !right.is_empty() {
            mask_word(right, out);
        }
        return;
    }
    let word = text.trim_end_matches(['.', ':', '*', '-', '&', '#']);
    let start = word.len() - word.trim_start_matches(['.', ':', '*', '&']).len();
    let (lead, word) = word.split_at_checked(start).unwrap_or(("", word));
    let tail = text.get(lead.len() + word.len()..).unwrap_or_default();
    // `sk-PMafP****` ends in what was cut off of it.
    if text.contains("***") && word.len() > 1 && word.contains(|c: char| c.is_ascii_alphanumeric()) {
        out.placeholder(Placeholder::Key);
        return;
    }
    if !lead.is_empty() {
        out.words(lead);
    }
    if let Some(placeholder) = shape(word) {
        out.placeholder(placeholder);
    } else if let Some(path) = api_path(word) {
        out.words(&path);
    } else {
        pieces(word, out);
    }
    if !tail.is_empty() {
        out.words(tail);
    }
}

/// A word that is nothing as a whole: `name:value` and `a/b` may be something in their parts.
fn pieces(word: &str, out: &mut Template) {
    if !word.bytes().any(|b| b.is_ascii_digit()) || PLAIN_WORDS.contains(&word) {
        out.words(word);
        return;
    }
    let Some((left, right)) = word.split_once([':', '@']).filter(|(left, right)| {
        !left.is_empty() && !right.is_empty() && !left.bytes().all(|b| b.is_ascii_digit())
    }) else {
        out.placeholder(Placeholder::Id);
        return;
    };
    mask_word(left, out);
    out.words(word.get(left.len()..=left.len()).unwrap_or_default());
    mask_word(right, out);
}

/// What `word` is as a whole, by its shape alone.
pub(super) fn shape(word: &str) -> Option<Placeholder> {
    if word.len() < 2 {
        return word.bytes().next().filter(u8::is_ascii_digit).map(|_| Placeholder::Number);
    }
    let digits = word.bytes().any(|b| b.is_ascii_digit());
    if word.contains("://") || word.starts_with("www.") {
        return Some(Placeholder::Url);
    }
    if is_key(word) {
        return Some(Placeholder::Key);
    }
    if is_email(word) {
        return Some(Placeholder::Email);
    }
    if is_path(word) {
        return Some(if is_ip(word.trim_start_matches('/')) { Placeholder::Ip } else { Placeholder::Path });
    }
    if is_model(word) {
        return Some(Placeholder::Model);
    }
    if is_host(word) {
        return Some(if is_ip(word) { Placeholder::Ip } else { Placeholder::Host });
    }
    if is_id(word) {
        return Some(Placeholder::Id);
    }
    if digits { quantity(word) } else { None }
}

/// Shapes that need a digit.
fn quantity(word: &str) -> Option<Placeholder> {
    if is_ip(word) {
        Some(Placeholder::Ip)
    } else if is_uuid(word) {
        Some(Placeholder::Uuid)
    } else if word.starts_with(['$', '¥', '€', '£']) {
        Some(Placeholder::Money)
    } else if is_time(word) {
        Some(Placeholder::Time)
    } else {
        number(word).or_else(|| is_hex(word).then_some(Placeholder::Hex))
    }
}

/// A field of a request with the positions in it masked: `messages.<num>.content`.
pub(super) fn api_path(word: &str) -> Option<String> {
    let name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    let index = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let ends_in_name = |part: &str| name(part) || matches!(part, "base64");
    let flat = word.replace('[', ".").replace(']', "");
    let mut parts = flat.split('.');
    let known = parts.next().is_some_and(super::is_api_word);
    let indexed = flat.split('.').skip(1).any(index);
    if !known || !indexed || !parts.all(|part| index(part) || ends_in_name(part)) {
        return None;
    }
    let masked: Vec<&str> =
        flat.split('.').map(|part| if index(part) { Placeholder::Number.as_str() } else { part }).collect();
    Some(masked.join("."))
}

fn is_key(word: &str) -> bool {
    word.len() >= 6 && KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        || (word.contains("***") && word.bytes().any(|b| b.is_ascii_alphanumeric()))
}

fn is_email(word: &str) -> bool {
    word.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && !host.contains(['@', '/', ':']) && !host.starts_with('.')
    })
}

fn is_path(word: &str) -> bool {
    let rooted = ["/", "./", "../", "~/", "#/"].iter().any(|root| word.starts_with(root));
    let letters = |b: u8| b.is_ascii_alphanumeric();
    let deep = word.matches('/').count() >= 2 && !word.contains(':') && !is_model(word);
    (rooted || deep && word.bytes().any(|b| b.is_ascii_digit())) && word.bytes().any(letters)
}

fn is_model(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    if word.starts_with("models/") && !name.is_empty() {
        return true;
    }
    let mut lower = [0_u8; 24];
    let length = name.len().min(lower.len());
    let Some(head) = lower.get_mut(..length) else { return false };
    head.copy_from_slice(name.as_bytes().get(..length).unwrap_or_default());
    head.make_ascii_lowercase();
    let families = [&*head, head.strip_prefix(b"default-").unwrap_or(head)];
    let of_family = families.iter().any(|n| MODEL_FAMILIES.iter().any(|f| n.starts_with(f.as_bytes())));
    let versioned = name.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'-' | b':'));
    let sentence =
        name.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@')));
    let series = matches!(head, [b'o', b'1' | b'3' | b'4'] | [b'o', b'1' | b'3' | b'4', b'-', ..]);
    (of_family && versioned && !sentence) || series
}

fn is_host(word: &str) -> bool {
    let (name, port) = word.split_once(':').unwrap_or((word, ""));
    let numeric = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if !(port.is_empty() && !word.contains(':') || numeric) {
        return false;
    }
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let named = name.contains('.') && HOST_ENDINGS.contains(&last);
    let letters = name.bytes().any(|b| b.is_ascii_alphabetic());
    name.split('.').all(label) && (name == "localhost" || named || numeric && letters && port.len() >= 2)
}

fn is_ip(word: &str) -> bool {
    let (address, port) = word.split_once(':').unwrap_or((word, "0"));
    let v4 = address.split('.').count() == 4
        && address.split('.').all(|part| part.parse::<u8>().is_ok())
        && port.parse::<u16>().is_ok();
    v4 || (word.matches(':').count() >= 2 && word.parse::<core::net::Ipv6Addr>().is_ok())
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_hex(word: &str) -> bool {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => word.len() >= 8 && word.bytes().all(|b| b.is_ascii_hexdigit()),
    }
}

fn is_time(word: &str) -> bool {
    let numbers = |text: &str, separator: char, least: usize| {
        let mut parts = 0;
        text.split(separator).take(least).all(|part| {
            parts += 1;
            (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        }) && parts == least
    };
    let date = word.len() >= 10 && numbers(word.get(..10).unwrap_or_default(), '-', 3);
    let slashed =
        word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || b == b'/') && numbers(word, '/', 3);
    let clock = word.split('.').next().is_some_and(|clock| {
        clock.len() <= 8
            && clock.contains(':')
            && clock.split(':').count() <= 3
            && clock.split(':').all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
    });
    date || slashed || clock
}

/// A number, alone or with a unit.
fn number(word: &str) -> Option<Placeholder> {
    let body = word.trim_start_matches(['+', '-', '~', '#']);
    let end = body
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '_' | '-' | '/' | '+')))
        .unwrap_or(body.len());
    let (digits, unit) = body.split_at_checked(end)?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if unit.is_empty() {
        return Some(Placeholder::Number);
    }
    if TIME_UNITS.contains(&unit) || is_compound_duration(body) {
        return Some(Placeholder::Duration);
    }
    SIZE_UNITS.iter().any(|known| unit.eq_ignore_ascii_case(known)).then_some(Placeholder::Number)
}

/// `6m0s`, `1h2m3.5s`.
fn is_compound_duration(word: &str) -> bool {
    word.len() <= 24
        && word.ends_with('s')
        && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'h' | b'm' | b's' | b'.'))
}

fn is_id(word: &str) -> bool {
    let prefixed = ID_PREFIXES
        .iter()
        .any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 6 || rest.contains('*')));
    let blanked = word.len() >= 3
        && word.bytes().all(|b| matches!(b, b'x' | b'X' | b'-' | b'*'))
        && word.contains(['x', 'X']);
    prefixed || blanked
}
