use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::rows::Rows;
use super::*;

const DIMENSION: usize = 64;
const NEVER: u64 = u64::MAX;

/// Repeatable unit vectors: seed and a second seed mixed in by `share`.
fn vector(seed: u64, other: u64, share: f32, dimension: usize) -> Vec<f32> {
    let noise = |seed: u64, i: usize| {
        let mut z = (seed + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(i as u64)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z = (z ^ (z >> 27)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z >> 40) as f32 / (1_u64 << 24) as f32) - 0.5
    };
    let mut values: Vec<f32> = (0..dimension).map(|i| noise(seed, i) + share * noise(other, i)).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter_mut().for_each(|v| *v /= norm);
    values
}

fn index(bytes_max: usize) -> Index<u64> {
    Index::new(Limits { dimension: DIMENSION, bytes_max })
}

fn worth(saves: f64) -> Worth {
    Worth { bytes: 1000, saves, expires_at_ms: NEVER }
}

fn put(index: &Index<u64>, key: u8, seed: u64, worth: Worth) -> Option<EntryId> {
    index.insert([key; 32], &vector(seed, 0, 0.0, DIMENSION), Arc::new(seed), worth, 0)
}

#[test]
fn the_nearest_is_found_and_its_cosine_is_right() {
    let index = index(1 << 20);
    for seed in 0..100 {
        put(&index, 1, seed, worth(1.0)).expect("room");
    }
    let query = vector(42, 7, 0.3, DIMENSION);
    let found = index.search(&[1; 32], &query, 3, 0);
    let stored = vector(42, 0, 0.0, DIMENSION);
    let cosine: f32 = query.iter().zip(&stored).map(|(a, b)| a * b).sum();
    assert_eq!((found.len(), *found[0].value), (3, 42));
    assert!((found[0].similarity - cosine).abs() < 1e-4, "{} {cosine}", found[0].similarity);
    assert!(found[0].similarity >= found[1].similarity);
}

#[test]
fn partitions_never_see_each_other() {
    let index = index(1 << 20);
    put(&index, 1, 5, worth(1.0)).expect("room");
    assert!(index.search(&[2; 32], &vector(5, 0, 0.0, DIMENSION), 8, 0).is_empty());
    assert!(index.search(&[1; 32], &[1.0; 3], 8, 0).is_empty(), "another dimension");
    assert_eq!(index.insert([1; 32], &[1.0; 3], Arc::new(1), worth(1.0), 0), None);
}

#[test]
fn expired_and_removed_entries_are_not_found() {
    let index = index(1 << 20);
    let short = Worth { expires_at_ms: 500, ..worth(1.0) };
    put(&index, 1, 1, short).expect("room");
    let id = put(&index, 1, 2, worth(1.0)).expect("room");
    let seeds = |seed: u64, now| -> Vec<u64> {
        index.search(&[1; 32], &vector(seed, 0, 0.0, DIMENSION), 8, now).iter().map(|f| *f.value).collect()
    };
    assert_eq!(seeds(1, 499), [1, 2]);
    assert_eq!(seeds(1, 500), [2]);
    assert_eq!(index.remove(id).as_deref(), Some(&2));
    assert_eq!(index.remove(id), None);
    assert_eq!(seeds(1, 499), [1]);
    assert_eq!(index.remove_where(|_, seed| *seed == 1), 1);
    let stats = index.stats();
    assert_eq!((stats.entries, stats.partitions, stats.bytes), (0, 0, 0));
}

#[test]
fn under_pressure_the_least_valuable_goes() {
    let each = 1000 + Index::<u64>::entry_bytes(DIMENSION);
    let index = index(10 * each);
    let mut dear = Vec::new();
    for seed in 0..3 {
        dear.push(put(&index, 1, seed, worth(1e6)).expect("room"));
    }
    let used = put(&index, 2, 3, worth(1.0)).expect("room");
    for _ in 0..1000 {
        index.hit(&[2; 32], used);
    }
    for seed in 10..60 {
        put(&index, 3, seed, worth(1.0)).expect("room");
    }
    let stats = index.stats();
    assert_eq!((stats.entries, stats.evicted), (10, 44));
    assert!(stats.bytes <= 10 * each);
    for id in dear.into_iter().chain([used]) {
        assert!(index.remove(id).is_some(), "was given up");
    }
    assert_eq!(
        index.insert(
            [1; 32],
            &vector(1, 0, 0.0, DIMENSION),
            Arc::new(1),
            Worth { bytes: 11 * each, ..worth(1.0) },
            0
        ),
        None
    );
}

#[test]
fn what_has_expired_goes_before_what_is_dear() {
    let each = 1000 + Index::<u64>::entry_bytes(DIMENSION);
    let index = index(2 * each);
    put(&index, 1, 1, Worth { expires_at_ms: 10, ..worth(1e9) }).expect("room");
    let cheap = put(&index, 1, 2, worth(0.1)).expect("room");
    index.insert([1; 32], &vector(3, 0, 0.0, DIMENSION), Arc::new(3), worth(1.0), 10).expect("room");
    assert!(index.remove(cheap).is_some());
}

/// Above the exact size: paraphrase-like queries, answers compared with the exact search.
#[test]
fn signs_find_what_the_exact_search_finds() {
    let dimension = 384;
    let mut rows = Rows::new(dimension);
    // A common direction, as real embeddings have one.
    let stored = |seed: u64| vector(seed, 1 << 40, 1.0, dimension);
    let count = (EXACT_MAX + 2000) as u64;
    for seed in 0..count {
        rows.push(&stored(seed));
    }
    let wrong = (0..count).step_by(61).filter(|seed| {
        let near = stored(*seed);
        let other = vector(seed + count, 0, 0.0, dimension);
        let query: Vec<f32> = near.iter().zip(&other).map(|(a, b)| a + 0.6 * b).collect();
        let norm = query.iter().map(|v| v * v).sum::<f32>().sqrt();
        let query: Vec<f32> = query.iter().map(|v| v / norm).collect();
        rows.nearest(&query, 1).first().map(|(row, _)| *row as u64) != Some(*seed)
    });
    assert_eq!(wrong.count(), 0);
}

#[test]
fn readers_and_writers_work_beside_each_other() {
    let each = 1000 + Index::<u64>::entry_bytes(DIMENSION);
    let index = Arc::new(index(50 * each));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (index, done) = (index.clone(), done.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for found in index.search(&[1; 32], &vector(3, 0, 0.0, DIMENSION), 4, 0) {
                        let same = vector(*found.value, 0, 0.0, DIMENSION);
                        let cosine: f32 =
                            same.iter().zip(vector(3, 0, 0.0, DIMENSION)).map(|(a, b)| a * b).sum();
                        assert!((cosine - found.similarity).abs() < 1e-3, "a vector of another entry");
                    }
                }
            })
        })
        .collect();
    for seed in 0..3000 {
        put(&index, 1, seed % 500, worth(seed as f64)).expect("room");
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("no panic");
    }
    assert!(index.stats().bytes <= 50 * each);
}

proptest! {
    /// Whatever is inserted and removed, the index holds what a list would.
    #[test]
    fn it_behaves_like_a_list(steps in prop::collection::vec((0_u8..3, 0_u64..40), 1..80)) {
        let index = index(1 << 20);
        let mut model: Vec<(EntryId, u8, u64)> = Vec::new();
        for (what, seed) in steps {
            if what < 2 {
                let id = put(&index, what, seed, worth(1.0)).expect("room");
                model.push((id, what, seed));
            } else if !model.is_empty() {
                let (id, _, seed) = model.swap_remove(seed as usize % model.len());
                let removed = index.remove(id);
                prop_assert_eq!(removed.as_deref(), Some(&seed));
            }
            prop_assert_eq!(index.stats().entries, model.len());
        }
        for key in 0..2 {
            let found = index.search(&[key; 32], &vector(1, 0, 0.0, DIMENSION), 200, 0);
            let mut seeds: Vec<u64> = found.iter().map(|f| *f.value).collect();
            let mut expected: Vec<u64> = model.iter().filter(|(_, k, _)| *k == key).map(|(_, _, s)| *s).collect();
            seeds.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seeds, expected);
        }
    }
}
