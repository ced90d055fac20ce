//! Calendar months in UTC, by which budgets are counted.

use std::fmt;
use std::str::FromStr;

const DAY_MS: u64 = 86_400_000;
/// Last year that is understood; what comes after it is its December.
const YEAR_MAX: u64 = 9_999;

/// A month of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: u64,
    /// 1 to 12.
    month: u64,
}

impl Month {
    /// The month of a moment, in milliseconds since 1970.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        let (year, month) = civil(ms / DAY_MS);
        if year > YEAR_MAX { Self { year: YEAR_MAX, month: 12 } } else { Self { year, month } }
    }

    /// When it ends, in milliseconds since 1970.
    #[must_use]
    pub const fn end_ms(self) -> u64 {
        let (year, month) = if self.month == 12 { (self.year + 1, 1) } else { (self.year, self.month + 1) };
        days_before(year, month) * DAY_MS
    }
}

/// Year and month of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`): years begin in March, so that the leap day is the last of one.
const fn civil(day: u64) -> (u64, u64) {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let year = year + era * 400;
    if month < 10 { (year, month + 3) } else { (year + 1, month - 9) }
}

/// Days from 1970 to the first of a month (the same source, `days_from_civil`).
const fn days_before(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5;
    era * 146_097 + 365 * year + year / 4 - year / 100 + day_of_year - 719_468
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = ();

    /// Reads `2026-11`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, month) = text.split_once('-').filter(|_| text.len() == 7).ok_or(())?;
        let (year, month): (u64, u64) = (year.parse().map_err(|_| ())?, month.parse().map_err(|_| ())?);
        let is_real = (1970..=YEAR_MAX).contains(&year) && (1..=12).contains(&month);
        is_real.then_some(Self { year, month }).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        for (seconds, month, end) in [
            (0, "1970-01", 2_678_400),
            (951_782_399, "2000-02", 951_868_800),
            (1_709_164_800, "2024-02", 1_709_251_200),
            (1_764_547_199, "2025-11", 1_764_547_200),
            (1_764_547_200, "2025-12", 1_767_225_600),
        ] {
            let found = Month::of_ms(seconds * 1000);
            assert_eq!((found.to_string().as_str(), found.end_ms()), (month, end * 1000));
            assert_eq!(month.parse(), Ok(found));
        }
        for bad in ["", "2026", "2026-13", "2026-0", "26-11", "1969-12", "2026-1x"] {
            assert_eq!(bad.parse::<Month>(), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_is_in_its_month_and_the_end_of_it_in_the_next(ms in any::<u64>()) {
            let month = Month::of_ms(ms % 200_000_000_000_000);
            let last = month.end_ms() - 1;
            prop_assert!(ms % 200_000_000_000_000 <= last);
            prop_assert_eq!(Month::of_ms(last), month);
            prop_assert!(Month::of_ms(last + 1) > month);
            prop_assert_eq!(month.to_string().parse(), Ok(month));
        }
    }
}
