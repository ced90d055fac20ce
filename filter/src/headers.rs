//! A header map in the form the host hands over (proxy-wasm ABI 0.2.1, "serialized map"): the
//! number of pairs, their lengths, then names and values, each followed by a zero byte. Read in
//! place: one host call and no allocation per header.

/// A borrowed header map.
#[derive(Debug, Clone, Copy)]
pub struct HeaderMap<'a> {
    raw: &'a [u8],
}

impl<'a> HeaderMap<'a> {
    /// Wraps what the host returned; damaged bytes give fewer pairs, never a panic.
    #[must_use]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// All pairs, in order; names are lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (count, rest) = self
            .raw
            .split_first_chunk::<4>()
            .map_or((0, &[][..]), |(n, rest)| (u32::from_le_bytes(*n) as usize, rest));
        let (sizes, mut data) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or_default();
        let (sizes, _) = sizes.as_chunks::<8>();
        sizes.iter().map_while(move |&[a, b, c, d, e, f, g, h]| {
            let mut take = |len: u32| {
                let (piece, rest) = data.split_at_checked(len as usize)?;
                data = rest.get(1..)?;
                Some(piece)
            };
            let name = take(u32::from_le_bytes([a, b, c, d]))?;
            Some((name, take(u32::from_le_bytes([e, f, g, h]))?))
        })
    }
}

/// Writes a header map in the host's form.
#[must_use]
pub fn serialise<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let count = pairs.clone().count() as u32;
    let mut out = count.to_le_bytes().to_vec();
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        for part in [name, value] {
            out.extend_from_slice(part.as_bytes());
            out.push(0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[a-z-]{1,9}", ".{0,9}"), 0..9)) {
            let raw = serialise(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let read: Vec<_> = HeaderMap::new(&raw).iter().collect();
            let expected: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn damaged_maps_never_panic(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(HeaderMap::new(&raw).iter().count() <= 64);
        }
    }
}
