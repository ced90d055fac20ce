//! Short header values on the stack: numbers and durations are written for every response, and the
//! formatting machinery with its allocations costs more than all the rest of the limiter.

/// Digits of the longest number, a point, three decimals and a unit.
const BYTES_MAX: usize = 20 + 1 + 3 + 2;

/// A short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; BYTES_MAX],
    start: usize,
}

impl Text {
    /// Decimal digits.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        let mut text = Self { bytes: [0; BYTES_MAX], start: BYTES_MAX };
        text.prepend_number(number, 1);
        text
    }

    /// A duration in the form OpenAI uses: `"12ms"`, `"1.500s"`.
    #[must_use]
    pub fn of_duration_ms(ms: u64) -> Self {
        let mut text = Self { bytes: [0; BYTES_MAX], start: BYTES_MAX };
        if ms < 1000 {
            text.prepend(b's');
            text.prepend(b'm');
            text.prepend_number(ms, 1);
        } else {
            text.prepend(b's');
            text.prepend_number(ms % 1000, 3);
            text.prepend(b'.');
            text.prepend_number(ms / 1000, 1);
        }
        text
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(self.start..).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn prepend_number(&mut self, mut number: u64, digits_min: usize) {
        let mut digits = 0;
        while digits < digits_min || number > 0 {
            self.prepend(b'0' + (number % 10) as u8);
            number /= 10;
            digits += 1;
        }
    }

    fn prepend(&mut self, byte: u8) {
        self.start = self.start.saturating_sub(1);
        if let Some(place) = self.bytes.get_mut(self.start) {
            *place = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_read_as_usual() {
        for number in [0, 7, 10, 999, u64::MAX] {
            assert_eq!(Text::of_number(number).as_str(), number.to_string());
        }
        for (ms, text) in [(0, "0ms"), (999, "999ms"), (1000, "1.000s"), (61_007, "61.007s")] {
            assert_eq!(Text::of_duration_ms(ms).as_str(), text);
        }
        assert!(Text::of_duration_ms(u64::MAX).as_str().ends_with(".615s"));
    }
}
