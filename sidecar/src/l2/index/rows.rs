//! The vectors of one partition, in flat rows.

use super::kernels;

/// Rows up to which every one is compared.
pub const EXACT_MAX: usize = 4096;
/// Rows that are compared exactly after the count of signs.
pub const RERANK: usize = 256;
/// Growth after which the mean, and with it all signs, are taken anew.
const GROWTH: usize = 4;
/// A unit vector's component of 1 as a 16-bit number. The sum of products of two unit vectors then
/// fits 32 bits (Cauchy-Schwarz).
const ONE: f32 = 32_767.0;

/// Vectors by row number; a removed row's place is taken by the last one.
#[derive(Debug)]
pub(super) struct Rows {
    dimension: usize,
    /// Words of 64 signs a row.
    words: usize,
    exact: Vec<i16>,
    signs: Vec<u64>,
    mean: Vec<f32>,
    /// Rows from which the signs are taken anew.
    remean_at: usize,
    len: usize,
}

impl Rows {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            words: dimension.div_ceil(64),
            exact: Vec::new(),
            signs: Vec::new(),
            mean: Vec::new(),
            remean_at: EXACT_MAX,
            len: 0,
        }
    }

    /// Memory of one row, in bytes.
    pub(super) const fn row_bytes(dimension: usize) -> usize {
        dimension * size_of::<i16>() + dimension.div_ceil(64) * size_of::<u64>()
    }

    /// Appends a unit vector; returns its row.
    pub(super) fn push(&mut self, vector: &[f32]) -> usize {
        self.exact.extend(quantised(vector));
        if !self.mean.is_empty() {
            let signs = signs_of(vector, &self.mean);
            self.signs.extend(signs);
        }
        self.len += 1;
        if self.len >= self.remean_at {
            self.remean();
            self.remean_at = self.len * GROWTH;
        }
        self.len - 1
    }

    /// Removes a row; the last row takes its number.
    pub(super) fn swap_remove(&mut self, row: usize) {
        if row >= self.len {
            return;
        }
        take_last(&mut self.exact, row, self.dimension);
        take_last(&mut self.signs, row, self.words);
        self.len -= 1;
    }

    /// The `k` nearest rows and their cosines, the nearest first.
    pub(super) fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, f32)> {
        let exact: Vec<i16> = quantised(query).collect();
        let mut found: Vec<(usize, i32)> = if self.mean.is_empty() {
            (0..self.len).zip(kernels::dots(self.exact.chunks_exact(self.dimension), &exact)).collect()
        } else {
            let rows = self.by_signs(&signs_of(query, &self.mean).collect::<Vec<_>>());
            let vectors = rows.iter().map(|row| self.row(*row).unwrap_or_default());
            let dots = kernels::dots(vectors, &exact);
            rows.into_iter().zip(dots).collect()
        };
        if k < found.len() {
            found.select_nth_unstable_by_key(k, |(_, dot)| std::cmp::Reverse(*dot));
            found.truncate(k);
        }
        found.sort_unstable_by_key(|(_, dot)| std::cmp::Reverse(*dot));
        found.into_iter().map(|(row, dot)| (row, dot as f32 / (ONE * ONE))).collect()
    }

    fn row(&self, row: usize) -> Option<&[i16]> {
        self.exact.get(row * self.dimension..(row + 1) * self.dimension)
    }

    /// At least [`RERANK`] rows whose signs differ least, by counting sort.
    fn by_signs(&self, query: &[u64]) -> Vec<usize> {
        let distances = kernels::distances(&self.signs, query);
        let mut counts = vec![0_usize; self.words * 64 + 1];
        for distance in &distances {
            if let Some(count) = counts.get_mut(usize::from(*distance)) {
                *count += 1;
            }
        }
        let mut total = 0;
        let cut = counts.iter().position(|count| {
            total += count;
            total >= RERANK
        });
        let cut = cut.and_then(|cut| u16::try_from(cut).ok()).unwrap_or(u16::MAX);
        let near = distances.iter().enumerate().filter(|(_, distance)| **distance <= cut);
        near.map(|(row, _)| row).take(2 * RERANK).collect()
    }

    fn remean(&mut self) {
        let mut sums = vec![0_i64; self.dimension];
        for row in self.exact.chunks_exact(self.dimension) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i64::from(*value));
        }
        self.mean = sums.into_iter().map(|sum| sum as f32 / self.len as f32 / ONE).collect();
        self.signs.clear();
        for row in self.exact.chunks_exact(self.dimension) {
            let vector: Vec<f32> = row.iter().map(|value| f32::from(*value) / ONE).collect();
            self.signs.extend(signs_of(&vector, &self.mean));
        }
    }
}

fn take_last<T: Copy>(rows: &mut Vec<T>, row: usize, width: usize) {
    if let Some(last) = rows.len().checked_sub(width) {
        rows.copy_within(last.., row * width);
        rows.truncate(last);
    }
}

fn quantised(vector: &[f32]) -> impl Iterator<Item = i16> + '_ {
    vector.iter().map(|value| (value * ONE).round().clamp(-ONE, ONE) as i16)
}

fn signs_of<'a>(vector: &'a [f32], mean: &'a [f32]) -> impl Iterator<Item = u64> + 'a {
    vector.chunks(64).zip(mean.chunks(64)).map(|(values, means)| {
        let bits = values.iter().zip(means).enumerate();
        bits.fold(0, |word, (bit, (value, mean))| word | (u64::from(value > mean) << bit))
    })
}
