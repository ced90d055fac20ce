//! Scripts and languages: an answer in another language is another answer.

/// Writing systems that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Script {
    Latin,
    Han,
    Kana,
    Hangul,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Devanagari,
    Thai,
    OtherLetters,
}

/// How many scripts there are.
pub(super) const SCRIPTS: usize = 11;

/// The script of a letter; `None` for digits, punctuation and symbols.
pub(super) fn script(c: char) -> Option<Script> {
    Some(match u32::from(c) {
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3134f => Script::Han,
        0x3040..=0x30ff | 0x31f0..=0x31ff => Script::Kana,
        0xac00..=0xd7af | 0x1100..=0x11ff => Script::Hangul,
        0x0400..=0x052f => Script::Cyrillic,
        0x0370..=0x03ff => Script::Greek,
        0x0600..=0x06ff | 0x0750..=0x077f => Script::Arabic,
        0x0590..=0x05ff => Script::Hebrew,
        0x0900..=0x097f => Script::Devanagari,
        0x0e00..=0x0e7f => Script::Thai,
        _ if !c.is_alphabetic() => return None,
        0x0000..=0x024f | 0x1e00..=0x1eff => Script::Latin,
        _ => Script::OtherLetters,
    })
}

/// A Latin letter without its accent, as typed on a keyboard that has none.
pub(super) const fn unaccented(c: char) -> char {
    match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ę' => 'e',
        'ì' | 'í' | 'î' | 'ï' | 'ī' => 'i',
        'ñ' | 'ń' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' => 'o',
        'ù' | 'ú' | 'û' | 'ü' | 'ū' => 'u',
        'š' | 'ś' => 's',
        'ž' | 'ź' | 'ż' => 'z',
        other => other,
    }
}

/// One way to write what Unicode has several code points for: full-width forms, quotation marks,
/// dashes and spaces.
pub(super) fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{2019}' | '\u{2018}' | '\u{02bc}' => '\'',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{00a0}' | '\u{3000}' | '\u{2000}'..='\u{200b}' => ' ',
        '。' => '.',
        _ => c,
    }
}
