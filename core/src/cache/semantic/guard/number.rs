//! Numbers in the text: amounts, times, dates and versions.

use super::atom::{Atom, HAN, Kind, SPELLED, fnv};
use super::quantity::{Quantity, han_digit, han_number, unit};
use super::read::Reader;

/// Most characters of one number.
const DIGITS_MAX: usize = 40;
/// Most Chinese characters of one number.
const HAN_DIGITS_MAX: usize = 16;

/// Whether a number begins here.
pub(super) fn starts(reader: &Reader) -> bool {
    let digit = |ahead| reader.peek(ahead).is_some_and(|c: char| c.is_ascii_digit());
    match reader.peek(0) {
        Some(c) if c.is_ascii_digit() => true,
        Some('$' | '€' | '£' | '¥' | '₹') => digit(1) || (reader.peek(1) == Some(' ') && digit(2)),
        Some('v' | 'V') => digit(1) && !before_is_word(reader),
        Some('-' | '.') => digit(1) && !before_is_word(reader),
        _ => false,
    }
}

fn before_is_word(reader: &Reader) -> bool {
    reader.at.checked_sub(1).and_then(|at| reader.chars.get(at)).is_some_and(|c| c.is_alphanumeric())
}

/// Reads the number that begins here.
pub(super) fn read(reader: &mut Reader) {
    let flags = reader.flags();
    if matches!(reader.peek(0), Some('v' | 'V')) {
        reader.at += 1;
    }
    let currency = reader.peek(0).filter(|c| matches!(c, '$' | '€' | '£' | '¥' | '₹'));
    if currency.is_some() {
        reader.at += if reader.peek(1) == Some(' ') { 2 } else { 1 };
    }
    let rest = reader.chars.get(reader.at..).unwrap_or_default();
    let mut text = String::new();
    for (index, c) in rest.iter().take(DIGITS_MAX).enumerate() {
        let inside = matches!(c, '.' | ',' | ':' | '/' | '-')
            && (index == 0 || rest.get(index + 1).is_some_and(char::is_ascii_digit));
        if !c.is_ascii_digit() && !inside {
            break;
        }
        text.push(*c);
    }
    reader.at += text.len();
    match text.replace(',', "").parse::<f64>() {
        Ok(value) => {
            reader.push_number(Quantity::plain(value), flags);
            suffix(reader);
            if let Some(c) = currency {
                reader.grow(c.encode_utf8(&mut [0; 4]));
            } else {
                reader.currency_before();
            }
        }
        Err(_) => {
            let parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.trim_start_matches('0'));
            let joined = parts.collect::<Vec<_>>().join("-");
            reader.push(Atom { hash: fnv(joined.as_bytes()), kind: Kind::Number, tag: 0, flags, initial: 0 });
        }
    }
}

/// What stands directly behind the digits: `%`, `km`, `th`. Anything else is a word of its own.
fn suffix(reader: &mut Reader) {
    if let Some(c @ ('%' | '°')) = reader.peek(0) {
        reader.at += 1;
        let mut symbol = String::from(c);
        if let Some(scale @ ('C' | 'F' | 'c' | 'f')) = reader.peek(0) {
            symbol.push(scale.to_ascii_lowercase());
            reader.at += 1;
        }
        reader.grow(&symbol);
        return;
    }
    let rest = reader.chars.get(reader.at..).unwrap_or_default();
    let letters: String = rest.iter().take(8).take_while(|c| c.is_ascii_alphabetic()).collect();
    let lower = letters.to_ascii_lowercase();
    if matches!(lower.as_str(), "st" | "nd" | "rd" | "th") {
        reader.at += letters.len();
        reader.open = None;
    } else if !lower.is_empty() && unit(&lower).is_some() && reader.grow(&lower) {
        reader.at += letters.len();
    }
}

/// Reads the Chinese number that begins here, if it is one: a single `一` is none unless a unit follows.
pub(super) fn read_han(reader: &mut Reader, flags: u8) -> bool {
    let rest = reader.chars.get(reader.at..).unwrap_or_default();
    let length = rest.iter().take(HAN_DIGITS_MAX).take_while(|c| han_digit(**c).is_some()).count();
    let run = rest.get(..length).unwrap_or_default().to_vec();
    let next = rest.get(length).copied().unwrap_or(' ');
    let ordinal = reader.at.checked_sub(1).and_then(|at| reader.chars.get(at)) == Some(&'第');
    let counted = matches!(
        next,
        '年' | '月' | '天' | '小' | '秒' | '元' | '块' | '米' | '斤' | '岁' | '周' | '号' | '日'
    );
    let magnitude = |c: &char| matches!(c, '百' | '千' | '万' | '亿' | '零' | '〇');
    match run.as_slice() {
        [] => return false,
        ['一'] if !ordinal && !counted => return false,
        [single] if magnitude(single) && !counted => return false,
        _ => {}
    }
    reader.at += length;
    reader.push_number(Quantity::plain(han_number(&run)), flags | SPELLED | HAN);
    true
}
