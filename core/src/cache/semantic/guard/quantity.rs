//! Numbers and their units: `30 s`, `thirty seconds` and `0.5 min` are one quantity.

use super::atom::fnv;

/// A unit: what it measures and how many of the base unit it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    dimension: u8,
    factor: f64,
}

/// Measures, each with its base unit's multiples: names, then the factor.
const UNITS: &[&[(&str, f64)]] = &[
    // Plain counts.
    &[
        ("k thousand 千", 1e3),
        ("m million mn", 1e6),
        ("b billion bn", 1e9),
        ("trillion", 1e12),
        ("lakh lakhs lac lacs", 1e5),
        ("crore crores cr", 1e7),
        ("hundred", 1e2),
        ("dozen", 12.0),
        ("万", 1e4),
        ("亿", 1e8),
        ("个 只 条 本 部 张 位 件 把 次 名 款 家 台 x times", 1.0),
    ],
    // Seconds.
    &[
        ("s sec secs second seconds 秒 秒钟", 1.0),
        ("ms millisecond milliseconds 毫秒", 1e-3),
        ("us microsecond microseconds 微秒", 1e-6),
        ("ns nanosecond nanoseconds", 1e-9),
        ("min mins minute minutes 分钟", 60.0),
        ("h hr hrs hour hours 小时 个小时", 3600.0),
        ("d day days 天 日", 86_400.0),
        ("week weeks wk 周 星期 个星期", 604_800.0),
    ],
    // Months.
    &[
        ("month months mo 个月", 1.0),
        ("year years yr yrs", 12.0),
        ("decade decades", 120.0),
        ("century centuries 世纪", 1200.0),
    ],
    // Metres.
    &[
        ("mm millimeter millimeters millimetre millimetres 毫米", 1e-3),
        ("cm centimeter centimeters centimetre centimetres 厘米 公分", 1e-2),
        ("meter meters metre metres 米", 1.0),
        ("km kms kilometer kilometers kilometre kilometres 公里 千米", 1e3),
        ("mile miles mi 英里", 1609.344),
        ("inch inches 英寸 寸", 0.0254),
        ("foot feet ft 英尺", 0.3048),
        ("yard yards 码", 0.9144),
    ],
    // Grams.
    &[
        ("mg milligram milligrams 毫克", 1e-3),
        ("g gram grams 克", 1.0),
        ("kg kgs kilogram kilograms kilo kilos 公斤 千克", 1e3),
        ("lb lbs", 453.592_37),
        ("oz ounce ounces 盎司", 28.349_523),
        ("ton tons tonne tonnes 吨", 1e6),
        ("斤", 500.0),
    ],
    // Litres.
    &[
        ("ml milliliter milliliters 毫升", 1e-3),
        ("l liter liters litre litres 升", 1.0),
        ("gallon gallons 加仑", 3.785_412),
    ],
    // Bytes.
    &[
        ("bytes byte 字节", 1.0),
        ("kb kilobyte kilobytes", 1e3),
        ("mb megabyte megabytes 兆", 1e6),
        ("gb gigabyte gigabytes gig gigs", 1e9),
        ("tb terabyte terabytes", 1e12),
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
    ],
    &[("hz 赫兹", 1.0), ("khz", 1e3), ("mhz", 1e6), ("ghz", 1e9)],
    &[("w watt watts 瓦", 1.0), ("kw kilowatt kilowatts 千瓦", 1e3), ("mw megawatt", 1e6)],
    &[("v volt volts 伏", 1.0), ("kv", 1e3)],
    &[("% percent per_cent pct 个百分点", 1.0)],
    &[("°c celsius 摄氏度", 1.0)],
    &[("°f fahrenheit 华氏度", 1.0)],
    &[("degree degrees ° 度", 1.0)],
    &[("$ usd dollar dollars bucks 美元 美金 美刀", 1.0), ("cent cents", 0.01)],
    &[("€ eur euro euros 欧元", 1.0)],
    &[("£ gbp pound pounds 英镑", 1.0)],
    &[("¥ rmb cny yuan 元 块 块钱 人民币", 1.0), ("万元", 1e4)],
    &[("jpy yen 日元", 1.0)],
    &[("₹ inr rs rupee rupees 卢比", 1.0)],
    &[("hkd 港币 港元", 1.0)],
    &[("岁 周岁", 1.0)],
    &[("am", 1.0)],
    &[("pm", 1.0)],
    &[("mph", 1.0)],
    &[("px pixels pixel", 1.0)],
    &[("fps", 1.0)],
    &[("mpg", 1.0)],
    &[("bps", 1.0), ("kbps", 1e3), ("mbps", 1e6), ("gbps", 1e9)],
    &[("楼 层", 1.0)],
    &[("级 lv", 1.0)],
];

/// The unit of this name, in lower case.
pub(super) fn unit(name: &str) -> Option<Unit> {
    (0_u8..).zip(UNITS).find_map(|(dimension, members)| {
        let member = members.iter().find(|(names, _)| names.split_ascii_whitespace().any(|n| n == name))?;
        Some(Unit { dimension, factor: member.1 })
    })
}

/// A number as it grows with what follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantity {
    value: f64,
    dimension: u8,
}

impl Quantity {
    pub(super) const fn plain(value: f64) -> Self {
        Self { value, dimension: 0 }
    }

    /// With the unit that follows; `None` if it has one already.
    pub(super) fn with(self, unit: Unit) -> Option<Self> {
        let value = self.value * unit.factor;
        match (self.dimension, unit.dimension) {
            (0, dimension) => Some(Self { value, dimension }),
            (dimension, 0) => Some(Self { value, dimension }),
            _ => None,
        }
    }

    /// The next word of a spelled number: `two hundred`, `twenty five`.
    pub(super) fn then(self, next: f64) -> Option<Self> {
        let fits =
            self.dimension == 0 && self.value >= 20.0 && next < 100.0 && (self.value % 10.0).abs() < 0.5;
        fits.then_some(Self { value: self.value + next, dimension: 0 })
    }

    /// What is measured; 0 for a plain number.
    pub(super) const fn dimension(self) -> u8 {
        self.dimension
    }

    /// Equal for equal values, in base units, up to nine digits.
    pub(super) fn hash(self) -> u32 {
        fnv(format!("{:.9e}", self.value).as_bytes())
    }
}

const SPELLED: &[(&str, f64)] = &[
    ("zero", 0.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("thirteen", 13.0),
    ("fourteen", 14.0),
    ("fifteen", 15.0),
    ("sixteen", 16.0),
    ("seventeen", 17.0),
    ("eighteen", 18.0),
    ("nineteen", 19.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
    ("hundred", 100.0),
    ("thousand", 1e3),
    ("million", 1e6),
    ("billion", 1e9),
    ("third", 3.0),
    ("fourth", 4.0),
    ("fifth", 5.0),
    ("sixth", 6.0),
    ("seventh", 7.0),
    ("eighth", 8.0),
    ("ninth", 9.0),
    ("tenth", 10.0),
    ("half", 0.5),
];

/// The value of an English numeral. `one` and `second` are more often no numerals.
pub(super) fn spelled(word: &str) -> Option<f64> {
    SPELLED.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// The value of one Chinese numeral character: a digit or, as the second part, a multiplier.
pub(super) const fn han_digit(c: char) -> Option<(u32, bool)> {
    Some(match c {
        '零' | '〇' => (0, false),
        '一' | '壹' => (1, false),
        '二' | '两' | '贰' => (2, false),
        '三' | '叁' => (3, false),
        '四' | '肆' => (4, false),
        '五' | '伍' => (5, false),
        '六' | '陆' => (6, false),
        '七' | '柒' => (7, false),
        '八' | '捌' => (8, false),
        '九' | '玖' => (9, false),
        '十' | '拾' => (10, true),
        '百' | '佰' => (100, true),
        '千' | '仟' => (1000, true),
        '万' => (10_000, true),
        '亿' => (100_000_000, true),
        _ => return None,
    })
}

/// The value of a run of Chinese numeral characters: `三百二十` is 320, `二〇一七` 2017.
pub(super) fn han_number(run: &[char]) -> f64 {
    let parts: Vec<(u32, bool)> = run.iter().filter_map(|c| han_digit(*c)).collect();
    if parts.iter().all(|(_, multiplier)| !multiplier) {
        return parts.iter().fold(0.0, |value, (digit, _)| value * 10.0 + f64::from(*digit));
    }
    let (mut total, mut section, mut digit) = (0.0, 0.0, 0.0);
    for (value, multiplier) in parts {
        let value = f64::from(value);
        if !multiplier {
            digit = value;
        } else if value >= 10_000.0 {
            total = (total + section + digit).max(1.0) * value;
            (section, digit) = (0.0, 0.0);
        } else {
            section += if digit == 0.0 { value } else { digit * value };
            digit = 0.0;
        }
    }
    total + section + digit
}
