//! The bytes of a shared cell.

use super::{BINS, CREDIT_MAX, Entry, SHARERS_MAX, Shares, WEIGHT_MAX};

const VERSION: u8 = 1;
const ENTRY: usize = 44;

impl Shares {
    /// Reads what [`Shares::encode`] wrote: the number of the bucket, and its tenants. Anything
    /// else is nobody's.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> (u64, Self) {
        let Some((&VERSION, rest)) = bytes.split_first() else { return (0, Self::default()) };
        let Some((bucket, rest)) = rest.split_first_chunk::<8>() else { return (0, Self::default()) };
        let (entries, _) = rest.as_chunks::<ENTRY>();
        let most = SHARERS_MAX + BINS as usize;
        let entries = entries.iter().take(most).filter_map(entry).collect();
        (u64::from_le_bytes(*bucket), Self { entries })
    }

    /// The bytes of the cell.
    #[must_use]
    pub fn encode(&self, bucket: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.entries.len() * ENTRY);
        out.push(VERSION);
        out.extend_from_slice(&bucket.to_le_bytes());
        for Entry { tag, weight, credit, want, seen_ns, claim_ns } in &self.entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&weight.to_le_bytes());
            out.extend_from_slice(&credit.to_le_bytes());
            for number in [want, seen_ns, claim_ns] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }
}

fn entry(bytes: &[u8; ENTRY]) -> Option<Entry> {
    let (tag, rest) = bytes.split_first_chunk::<8>()?;
    let (weight, rest) = rest.split_first_chunk::<4>()?;
    let (words, _) = rest.as_chunks::<8>();
    let [credit, want, seen, claim] = words else { return None };
    let number = |word: &[u8; 8]| u64::from_le_bytes(*word);
    Some(Entry {
        tag: u64::from_le_bytes(*tag),
        weight: u32::from_le_bytes(*weight).clamp(1, WEIGHT_MAX),
        credit: i64::from_le_bytes(*credit).clamp(-CREDIT_MAX, CREDIT_MAX),
        want: number(want),
        seen_ns: number(seen),
        claim_ns: number(claim),
    })
}
