//! What an entry is worth keeping: GreedyDual-Size with frequency (Cherkasova, HPL-98-69R1, 1998).

/// What is known of an entry when it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// Memory of its answer and whatever else the caller keeps with it, in bytes.
    pub bytes: usize,
    /// What serving it once saves, in any unit that is the same for all: money, tokens, milliseconds.
    pub saves: f64,
    /// When it stops being served, in milliseconds of the caller's clock.
    pub expires_at_ms: u64,
}

impl Worth {
    /// The priority of an entry with this many hits, when `floor` is the priority of the last entry
    /// that had to go: what has not been used for long sinks below what comes in.
    pub(super) fn priority(&self, hits: u32, floor: f64) -> f64 {
        floor + f64::from(hits.saturating_add(1)) * self.saves.max(0.0) / self.bytes.max(1) as f64
    }
}
