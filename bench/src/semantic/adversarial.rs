//! Near-duplicates that ask something else, made by rule from real prompts: one number, unit, name,
//! order of arguments or negation changed. The rules know nothing of the guard's word lists.

use std::collections::HashSet;

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Number,
    Unit,
    Name,
    Order,
    Negation,
}

impl Change {
    pub(crate) const ALL: [Self; 5] = [Self::Number, Self::Unit, Self::Name, Self::Order, Self::Negation];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Unit => "unit",
            Self::Name => "name",
            Self::Order => "order of arguments",
            Self::Negation => "negation",
        }
    }

    /// The prompt with this change; `None` if the rule finds nothing to change.
    pub(crate) fn apply(self, text: &str, names: &Names, dice: &mut Dice) -> Option<String> {
        let changed = match self {
            Self::Number => number(text, dice),
            Self::Unit => replaced(text, UNITS),
            Self::Name => names.exchange(text, dice),
            Self::Order => order(text),
            Self::Negation => negation(text),
        }?;
        (changed != text).then_some(changed)
    }
}

/// A small generator of repeatable numbers (splitmix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The names of the collection, of which one takes another's place.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

const HAN_NAMES: &[&str] = &[
    "北京",
    "上海",
    "广州",
    "深圳",
    "武汉",
    "成都",
    "杭州",
    "南京",
    "重庆",
    "天津",
    "湖南",
    "四川",
    "广东",
    "山东",
    "河南",
    "中国",
    "美国",
    "日本",
    "韩国",
    "英国",
    "法国",
    "德国",
    "苹果",
    "小米",
    "华为",
    "三星",
    "微信",
    "支付宝",
    "淘宝",
    "百度",
    "腾讯",
    "周杰伦",
    "刘德华",
    "成龙",
    "李白",
    "杜甫",
];

impl Names {
    /// The capitalised words in mid-sentence of these prompts, and well-known Chinese names.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let texts: Vec<&str> = texts.collect();
        let words = texts.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
        let small: HashSet<&str> = words.filter(|word| word.starts_with(char::is_lowercase)).collect();
        let mut names: Vec<String> =
            texts.iter().flat_map(|text| capitalised(text)).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !small.contains(name.to_lowercase().as_str()));
        Self(names)
    }

    fn exchange(&self, text: &str, dice: &mut Dice) -> Option<String> {
        if let Some(old) = HAN_NAMES.iter().find(|name| text.contains(*name)) {
            let new = HAN_NAMES.get(dice.below(HAN_NAMES.len()))?;
            return Some(text.replace(old, new));
        }
        let old = capitalised(text).into_iter().find(|word| self.0.iter().any(|name| name == word))?;
        let others: Vec<&String> = self.0.iter().filter(|name| !name.eq_ignore_ascii_case(old)).collect();
        replace_word(text, old, others.get(dice.below(others.len()))?)
    }
}

/// Words with a capital that no sentence begins with.
fn capitalised(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split(' ').collect();
    words
        .windows(2)
        .filter(|pair| !pair[0].ends_with(['.', '?', '!', ':', '"']))
        .map(|pair| pair[1].trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.chars().next().is_some_and(char::is_uppercase))
        .filter(|word| word.chars().count() > 2 && word.chars().skip(1).all(char::is_lowercase))
        .collect()
}

fn number(text: &str, dice: &mut Dice) -> Option<String> {
    if let Some(start) = text.find(|c: char| c.is_ascii_digit()) {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let old: u64 = rest[..end].parse().ok()?;
        let new = match dice.below(3) {
            0 => old + 1 + dice.next() % 5,
            1 => old.checked_mul(10)?.max(1),
            _ => old.saturating_sub(1 + dice.next() % 3),
        };
        return Some(format!("{}{new}{}", &text[..start], &rest[end..]));
    }
    replaced(text, NUMERALS)
}

const NUMERALS: &[(&str, &str)] = &[
    ("two", "three"),
    ("three", "five"),
    ("four", "six"),
    ("five", "seven"),
    ("ten", "twenty"),
    ("hundred", "thousand"),
    ("million", "billion"),
    ("两个", "三个"),
    ("三个", "四个"),
    ("五个", "七个"),
    ("两年", "三年"),
    ("三年", "五年"),
    ("三天", "七天"),
    ("两天", "三天"),
    ("十天", "二十天"),
    ("第一", "第二"),
    ("第二", "第三"),
    ("第三", "第五"),
    ("一年", "两年"),
    ("一天", "两天"),
    ("十岁", "十二岁"),
    ("三岁", "五岁"),
];

const UNITS: &[(&str, &str)] = &[
    ("seconds", "minutes"),
    ("minutes", "hours"),
    ("hours", "days"),
    ("days", "weeks"),
    ("weeks", "months"),
    ("months", "years"),
    ("years", "months"),
    ("year", "month"),
    ("month", "week"),
    ("day", "week"),
    ("hour", "minute"),
    ("kg", "pounds"),
    ("km", "miles"),
    ("miles", "km"),
    ("dollars", "euros"),
    ("rupees", "dollars"),
    ("percent", "degrees"),
    ("gb", "mb"),
    ("GB", "TB"),
    ("cm", "inches"),
    ("feet", "meters"),
    ("pounds", "ounces"),
    ("inches", "cm"),
    ("$", "€"),
    ("分钟", "小时"),
    ("小时", "分钟"),
    ("公里", "英里"),
    ("公斤", "克"),
    ("个月", "年"),
    ("块钱", "美元"),
    ("元", "欧元"),
    ("厘米", "米"),
    ("一斤", "一吨"),
    ("美元", "日元"),
];

/// The first of these words that occurs, replaced.
fn replaced(text: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(old, new)| replace_word(text, old, new))
}

/// Replaces a word where it stands alone; Chinese and symbols stand anywhere.
fn replace_word(text: &str, old: &str, new: &str) -> Option<String> {
    let letters = old.chars().all(char::is_alphabetic) && old.is_ascii();
    text.match_indices(old).find_map(|(at, _)| {
        let end = at + old.len();
        let inside = |c: Option<char>| letters && c.is_some_and(char::is_alphanumeric);
        let whole = !inside(text[..at].chars().next_back()) && !inside(text[end..].chars().next());
        whole.then(|| format!("{}{new}{}", &text[..at], &text[end..]))
    })
}

/// `X to Y`, `X than Y` and their like with X and Y exchanged.
fn order(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(' ').collect();
    for link in ["to", "than"] {
        let Some(at) = words.iter().position(|word| *word == link) else {
            continue;
        };
        let (Some(left), Some(right)) = (at.checked_sub(1), (at + 1 < words.len()).then_some(at + 1)) else {
            continue;
        };
        let from = link != "to"
            || words[..at].iter().rev().take(3).any(|word| matches!(*word, "from" | "convert" | "translate"));
        let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let (x, y) = (bare(words[left]), bare(words[right]));
        if !from || x.len() < 2 || y.len() < 2 || x == y {
            continue;
        }
        let mut new: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        new[left] = words[left].replace(&x, &y);
        new[right] = words[right].replace(&y, &x);
        return Some(new.join(" "));
    }
    han_order(text)
}

/// `从…到…` and `…比…` with the two words around the link exchanged.
fn han_order(text: &str) -> Option<String> {
    for link in ["到", "比", "转", "和"] {
        for (left, right) in HAN_NAMES.iter().flat_map(|one| HAN_NAMES.iter().map(move |other| (one, other)))
        {
            let (old, new) = (format!("{left}{link}{right}"), format!("{right}{link}{left}"));
            if left != right && text.contains(&old) {
                return Some(text.replacen(&old, &new, 1));
            }
        }
    }
    None
}

fn negation(text: &str) -> Option<String> {
    const HAN: [&str; 3] = ["可以", "需要", "应该"];
    for (with, without) in [(" not ", " "), ("n't ", " "), ("不能", "能"), ("不会", "会"), ("没有", "有")]
    {
        if text.contains(with)
            && !["有没有", "能不能", "会不会", "是不是"].iter().any(|asks| text.contains(asks))
        {
            return Some(text.replacen(with, without, 1));
        }
    }
    for verb in ["is", "are", "do", "does", "can", "should", "will", "would", "did", "was"] {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = lower.split(' ').position(|word| word == verb) {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            // `Is it …` becomes `Is it not …`, `What is …` becomes `What is not …`.
            let behind = if at == 0 || verb.starts_with('d') || verb == "can" || verb == "should" {
                at + 2
            } else {
                at + 1
            };
            words.insert(behind.min(words.len()), "not".to_owned());
            return Some(words.join(" "));
        }
    }
    HAN.iter().find(|word| text.contains(*word)).map(|word| text.replacen(word, &format!("不{word}"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_changes_what_it_names() {
        let names = Names::of(["I love Paris and Rome"].into_iter());
        let mut dice = Dice(1);
        let mut change = |change: Change, text: &str| change.apply(text, &names, &mut dice);
        assert_ne!(change(Change::Number, "wait 30 seconds").as_deref(), Some("wait 30 seconds"));
        assert_eq!(change(Change::Unit, "wait 30 seconds").as_deref(), Some("wait 30 minutes"));
        assert_eq!(change(Change::Name, "why Paris now").as_deref(), Some("why Rome now"));
        assert_eq!(change(Change::Order, "go from home to work?").as_deref(), Some("go from work to home?"));
        assert_eq!(change(Change::Negation, "Is it cold").as_deref(), Some("Is it not cold"));
        assert_eq!(change(Change::Negation, "水可以喝吗").as_deref(), Some("水不可以喝吗"));
        assert_eq!(change(Change::Unit, "no unit here"), None);
    }
}
