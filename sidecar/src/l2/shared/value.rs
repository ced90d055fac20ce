//! Answers and vectors as bytes in Redis.
//!
//! Every value ends in the first 8 bytes of a SHA-256 over its name and all bytes before, so that one
//! that was cut, changed, or put under another name is no value. Numbers are little-endian.

use std::sync::Mutex;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidegate_core::cache::semantic::Record;
use tidegate_core::cache::semantic::guard::Features;
use tidegate_core::route::Protocol;

use super::super::ANSWER_BYTES_MAX;
use super::super::entry::{Entry, Name};
use crate::embedding::little_endian;

/// Begins an answer, with the version of its shape.
const ANSWER: [u8; 4] = *b"TGA1";
/// Begins a vector, with the version of its shape.
const VECTOR: [u8; 4] = *b"TGV1";
/// Length of the digest at the end.
const CHECK_BYTES: usize = 8;
/// Longest answer with all that is stored beside it, in bytes.
pub const VALUE_BYTES_MAX: usize = ANSWER_BYTES_MAX + (64 << 10);
/// How far the length of a stored vector may be from one.
const NORM_TOLERANCE: f32 = 1e-2;

/// A value that is not what this version writes: cut, changed, of another shape, or not this name's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// A prompt's place in the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Which partition.
    pub partition: [u8; 32],
    /// Its unit vector.
    pub vector: Box<[f32]>,
}

/// An answer as it is stored; `None` if it is too large.
#[must_use]
pub fn encode_answer(entry: &Entry) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(entry.memory_bytes());
    out.extend_from_slice(&ANSWER);
    for number in [entry.stored_at_ms, entry.expires_at_ms, entry.answer] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.learned().encode());
    out.push(match entry.protocol {
        Protocol::OpenAi => 0,
        Protocol::Anthropic => 1,
    });
    for text in [&entry.tenant, &entry.model, &entry.prompt, &entry.provider, &entry.answered_by] {
        part(&mut out, text.as_bytes());
    }
    part(&mut out, &entry.body);
    seal(&mut out, entry.name);
    (out.len() <= VALUE_BYTES_MAX).then_some(out)
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    // A value over 4 GiB is refused for its length anyway.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn seal(out: &mut Vec<u8>, name: Name) {
    let check = check(name, out);
    out.extend_from_slice(&check);
}

fn check(name: Name, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(name.bytes()).chain_update(bytes).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

/// Reads [`encode_answer`].
///
/// # Errors
/// It is something else.
pub fn decode_answer(name: Name, bytes: &[u8]) -> Result<Entry, Corrupt> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(Corrupt);
    }
    let mut rest = Reader(opened(name, ANSWER, bytes)?);
    let [stored_at_ms, expires_at_ms, answer] = [rest.number()?, rest.number()?, rest.number()?];
    let record = Record::decode(*rest.array()?);
    let protocol = match rest.array()? {
        [0] => Protocol::OpenAi,
        [1] => Protocol::Anthropic,
        _ => return Err(Corrupt),
    };
    let [tenant, model, prompt] = [rest.text()?, rest.text()?, rest.text()?];
    let [provider, answered_by] = [rest.text()?, rest.text()?];
    let body = Bytes::copy_from_slice(rest.part()?);
    rest.end()?;
    let features = Features::of(&prompt);
    let record = Mutex::new(record);
    Ok(Entry {
        name,
        tenant,
        model,
        prompt,
        features,
        body,
        protocol,
        provider,
        answered_by,
        stored_at_ms,
        expires_at_ms,
        answer,
        record,
    })
}

/// A vector as it is stored: little-endian f32.
#[must_use]
pub fn encode_vector(name: Name, partition: &[u8; 32], vector: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(VECTOR.len() + partition.len() + size_of_val(vector) + CHECK_BYTES);
    out.extend_from_slice(&VECTOR);
    out.extend_from_slice(partition);
    out.extend(little_endian(vector));
    seal(&mut out, name);
    out
}

/// Reads [`encode_vector`] of a model with `dimension`.
///
/// # Errors
/// It is something else, or no unit vector.
pub fn decode_vector(name: Name, dimension: usize, bytes: &[u8]) -> Result<Placed, Corrupt> {
    let (partition, numbers) = opened(name, VECTOR, bytes)?.split_first_chunk::<32>().ok_or(Corrupt)?;
    let (numbers, torn) = numbers.as_chunks::<4>();
    if numbers.len() != dimension || !torn.is_empty() {
        return Err(Corrupt);
    }
    let vector: Box<[f32]> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if (norm - 1.0).abs() <= NORM_TOLERANCE {
        Ok(Placed { partition: *partition, vector })
    } else {
        Err(Corrupt)
    }
}

/// What lies between the beginning and the digest, if both are right.
fn opened(name: Name, begins: [u8; 4], bytes: &[u8]) -> Result<&[u8], Corrupt> {
    let (sealed, found) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(Corrupt)?;
    if check(name, sealed) != *found {
        return Err(Corrupt);
    }
    sealed.strip_prefix(&begins).ok_or(Corrupt)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Corrupt> {
        let (found, rest) = self.0.split_first_chunk().ok_or(Corrupt)?;
        self.0 = rest;
        Ok(found)
    }

    fn number(&mut self) -> Result<u64, Corrupt> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn part(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = u32::from_le_bytes(*self.array()?);
        let length = usize::try_from(length).map_err(|_| Corrupt)?;
        let (found, rest) = self.0.split_at_checked(length).ok_or(Corrupt)?;
        self.0 = rest;
        Ok(found)
    }

    fn text(&mut self) -> Result<Box<str>, Corrupt> {
        std::str::from_utf8(self.part()?).map(Into::into).map_err(|_| Corrupt)
    }

    const fn end(&self) -> Result<(), Corrupt> {
        if self.0.is_empty() { Ok(()) } else { Err(Corrupt) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::entry::example;
    use super::*;

    fn unit(dimension: usize) -> Vec<f32> {
        let length = (dimension as f32).sqrt();
        (0..dimension).map(|i| if i % 2 == 0 { 1.0 / length } else { -1.0 / length }).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let entry = example("Wie geht's? 你好", 5);
        let bytes = encode_answer(&entry).expect("fits");
        let read = decode_answer(entry.name, &bytes).expect("whole");
        assert_eq!((&read.prompt, &read.body, read.stored_at_ms), (&entry.prompt, &entry.body, 5));
        assert_eq!((read.expires_at_ms, read.answer, &read.features), (60_005, 7, &entry.features));
        assert_eq!(
            (&read.provider, &read.answered_by, &read.tenant),
            (&"p".into(), &"m-1".into(), &"t".into())
        );

        let (partition, vector) = ([3; 32], unit(384));
        let bytes = encode_vector(entry.name, &partition, &vector);
        assert_eq!(bytes.len(), 4 + 32 + 384 * 4 + CHECK_BYTES);
        let placed = decode_vector(entry.name, 384, &bytes).expect("whole");
        assert_eq!((placed.partition, &*placed.vector), (partition, &*vector));
        assert_eq!(decode_vector(entry.name, 512, &bytes), Err(Corrupt), "of another model");
    }

    #[test]
    fn an_answer_is_read_under_its_own_name_only_and_as_nothing_else() {
        let (entry, other) = (example("a", 0), example("b", 0));
        let answer = encode_answer(&entry).expect("fits");
        assert!(decode_answer(other.name, &answer).is_err());
        assert!(decode_vector(entry.name, 1, &answer).is_err());
        for wrong in [vec![f32::NAN; 4], vec![0.0; 4], vec![1.0; 4]] {
            let bytes = encode_vector(entry.name, &[0; 32], &wrong);
            assert_eq!(decode_vector(entry.name, 4, &bytes), Err(Corrupt), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_over_the_bound_is_not_written() {
        let mut entry = example("a", 0);
        entry.body = Bytes::from(vec![b'x'; VALUE_BYTES_MAX]);
        assert_eq!(encode_answer(&entry), None);
    }

    proptest! {
        #[test]
        fn whatever_lies_in_redis_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let name = example("a", 0).name;
            prop_assert!(decode_answer(name, &bytes).is_err());
            prop_assert!(decode_vector(name, 4, &bytes).is_err());
        }

        #[test]
        fn a_value_that_was_cut_or_changed_is_none(cut in 0_usize..4096, bit in 0_usize..32_768) {
            let entry = example("How do I reset my password?", 9);
            let whole = encode_answer(&entry).expect("fits");
            let cut = cut % whole.len();
            prop_assert!(decode_answer(entry.name, &whole[..cut]).is_err());
            let mut changed = whole.clone();
            let bit = bit % (whole.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_answer(entry.name, &changed).is_err());
        }
    }
}
