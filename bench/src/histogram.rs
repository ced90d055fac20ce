//! Latencies in fixed memory: 64 buckets to each doubling, so a value is off by 1.6 % at most.

/// Values below this have a bucket each.
const LINEAR: u64 = 64;
const SUB_BITS: u32 = 6;
/// One row for the linear part and one for each exponent from 6 to 63.
const BUCKETS: usize = 59 * 64;

/// Counts of durations in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The value that the share `quantile` (0 to 1) of all values do not exceed, in nanoseconds;
    /// 0 when there are none.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lower_bound(index);
            }
        }
        0
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < LINEAR {
        return nanos as usize;
    }
    let exponent = 63 - nanos.leading_zeros();
    let sub = (nanos >> (exponent - SUB_BITS)) - LINEAR;
    ((exponent - SUB_BITS + 1) as usize) * LINEAR as usize + sub as usize
}

fn lower_bound(index: usize) -> u64 {
    let (row, sub) = (index as u64 / LINEAR, index as u64 % LINEAR);
    if row == 0 { sub } else { (LINEAR + sub) << (row - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_within_two_percent() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 1_000, 999_999, 123_456_789, u64::MAX] {
            let low = lower_bound(bucket(nanos));
            assert!(low <= nanos, "{nanos}");
            assert!((nanos - low) as f64 <= nanos as f64 * 0.016, "{nanos} {low}");
        }
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for nanos in 1..=50 {
            histogram.record(nanos);
        }
        assert_eq!(histogram.quantile(0.5), 25);
        assert_eq!(histogram.quantile(0.99), 50);
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.total(), twice.quantile(0.5)), (100, 25));
    }
}
