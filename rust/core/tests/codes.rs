//! Codes against what plain loops say, and every kind of CPU against the portable path.

use std::collections::HashSet;

use fathomdb_core::codes::kernels::{Kernel, LANES, PLANES};
use fathomdb_core::codes::{CodeIndex, KeySet};
use proptest::prelude::*;

fn blob(rows: &[Vec<f32>]) -> Vec<u8> {
    let numbers = rows.iter().flatten();
    numbers.flat_map(|x| x.to_le_bytes()).collect()
}

fn places(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// Numbers that look like anything and are the same in every run.
fn numbers(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    (0..count).map(move |_| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        f32::from((state >> 48) as u16) / 32_768.0 - 1.0
    })
}

fn vectors(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
    let all: Vec<f32> = numbers(count * dimension, seed).collect();
    all.chunks(dimension).map(<[f32]>::to_vec).collect()
}

proptest! {
    #[test]
    fn every_kernel_scores_as_plain_counting_does(words in 1_usize..12, blocks in 1_usize..5, seed: u64) {
        let bits: Vec<u64> = numbers(words * blocks * LANES, seed)
            .zip(numbers(words * blocks * LANES, seed ^ 1))
            .map(|(a, b)| u64::from(a.to_bits()) << 32 ^ u64::from(b.to_bits()).rotate_left(7))
            .collect();
        let query: Vec<[u64; PLANES]> = bits.iter().take(words)
            .map(|word| [*word, word.rotate_left(9), !word, word.swap_bytes()])
            .collect();
        let expected: Vec<i32> = (0..blocks * LANES).map(|row| {
            let first = row / LANES * LANES * words + row % LANES;
            (0..words).map(|word| {
                let signs = bits[first + word * LANES];
                let [ones, twos, fours, signs_of] = query[word].map(|plane| (signs & plane).count_ones() as i32);
                ones + 2 * twos + 4 * fours - 8 * signs_of
            }).sum()
        }).collect();
        for kernel in Kernel::every() {
            let mut scores = vec![0; blocks * LANES];
            kernel.score(&bits, &query, &mut scores);
            prop_assert_eq!(&scores, &expected, "{:?}", kernel);
        }
    }

    #[test]
    fn every_kernel_makes_the_same_code_and_the_same_sum_to_the_bit(dimension in 1_usize..700, seed: u64) {
        let vector: Vec<f32> = numbers(dimension, seed).collect();
        let code = |kernel: Kernel| {
            let mut signs = vec![0; dimension.div_ceil(64)];
            let mut bytes = vec![0; dimension];
            let step = kernel.encode(&vector, &mut signs, &mut bytes).unwrap();
            let dot = kernel.dot(&vector, &bytes);
            (signs, bytes, step.to_bits(), dot.to_bits())
        };
        let portable = code(Kernel::Portable);
        for (n, x) in vector.iter().enumerate() {
            prop_assert_eq!(portable.0[n / 64] >> (n % 64) & 1 == 1, *x > 0.0);
        }
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let step = f64::from(half::f16::from_bits(portable.2));
        for (x, byte) in vector.iter().zip(&portable.1) {
            prop_assert!((f64::from(*x) / length - step * f64::from(*byte)).abs() <= 0.6 * step);
        }
        for kernel in Kernel::every() {
            prop_assert_eq!(&code(kernel), &portable, "{:?}", kernel);
        }
    }

    #[test]
    fn it_has_the_keys_that_a_map_has(
        steps in prop::collection::vec((0_i64..400, 1_i64..200, any::<bool>()), 1..40),
        has_bytes: bool,
    ) {
        let index = CodeIndex::new(3, has_bytes).unwrap();
        index.finish_loading();
        let mut expected = HashSet::new();
        for (first, count, removes) in steps {
            // Far apart and on both sides of zero, and nearly the same home in the table.
            let keys: Vec<i64> = (first..first + count).map(|key| (key - 200) * 0x1_0000_0001).collect();
            if removes {
                index.remove(&keys);
                for key in &keys {
                    expected.remove(key);
                }
            } else {
                let rows = vectors(keys.len(), 3, first.cast_unsigned());
                index.put(&keys, &blob(&rows), &places(keys.len())).unwrap();
                expected.extend(keys);
            }
            let mut found = index.keys();
            found.sort_unstable();
            let mut there: Vec<i64> = expected.iter().copied().collect();
            there.sort_unstable();
            prop_assert_eq!(found, there);
            prop_assert_eq!(index.len(), expected.len());
        }
    }
}

#[test]
fn what_it_is_asked_for_comes_first_whatever_the_kernel() {
    for kernel in Kernel::every() {
        for has_bytes in [false, true] {
            let rows = vectors(9000, 96, 7);
            let index = CodeIndex::with_kernel(96, has_bytes, kernel).unwrap();
            let keys: Vec<i64> = (1..=9000).collect();
            index.put(&keys, &blob(&rows), &places(9000)).unwrap();
            index.finish_loading();
            for asked in [0, 4095, 4096, 8999] {
                let query = blob(&rows[asked..=asked]);
                let found = index.search(&query, 200, 10, None).unwrap();
                assert_eq!((found[0], found.len()), (keys[asked], 10));
                let odd = KeySet::of(keys.iter().copied().filter(|key| key % 2 == 1).collect());
                let found = index.search(&query, 200, 10, Some(&odd)).unwrap();
                assert!(found.len() == 10 && found.iter().all(|key| key % 2 == 1));
            }
        }
    }
}

#[test]
fn what_changed_while_it_was_loaded_is_left_as_it_is() {
    let index = CodeIndex::new(2, true).unwrap();
    let (new, old) = ([1.0_f32, 0.0], [0.0_f32, 1.0]);
    index.put(&[1], &blob(&[new.to_vec()]), &[0]).unwrap();
    index.remove(&[2]);
    let keys: Vec<u8> = [1_i64, 2, 3, 4]
        .iter()
        .flat_map(|key| key.to_le_bytes())
        .collect();
    let stored = blob(&[old.to_vec(), old.to_vec(), old.to_vec(), new.to_vec()]);
    index.load(&[0b0111], &keys, &stored).unwrap();
    index.finish_loading();
    let mut found = index.keys();
    found.sort_unstable();
    assert_eq!(found, [1, 3]);
    assert_eq!(
        index.search(&blob(&[new.to_vec()]), 9, 1, None).unwrap(),
        [1]
    );
    assert_eq!(
        index.search(&blob(&[old.to_vec()]), 9, 1, None).unwrap(),
        [3]
    );
}

#[test]
fn signs_that_say_nothing_need_every_row() {
    let index = CodeIndex::new(64, true).unwrap();
    let positive: Vec<Vec<f32>> = vectors(1000, 64, 3)
        .into_iter()
        .map(|row| row.into_iter().map(|x| x + 2.0).collect())
        .collect();
    let keys: Vec<i64> = (0..1000).collect();
    index.put(&keys, &blob(&positive), &places(1000)).unwrap();
    assert_eq!(index.candidates_needed(4, 10), 1000);
    let index = CodeIndex::new(64, true).unwrap();
    index
        .put(&keys, &blob(&vectors(1000, 64, 3)), &places(1000))
        .unwrap();
    assert!(index.candidates_needed(4, 10) < 500);
}

#[test]
fn sets_of_keys_near_and_far_say_the_same() {
    for step in [1, 3, i64::MAX / 64] {
        let keys: Vec<i64> = (-20..20).map(|n| n * step).collect();
        let set = KeySet::of(keys.iter().rev().copied().collect());
        assert_eq!(matches!(set, KeySet::Sorted(_)), step > 3);
        for key in &keys {
            assert!(set.has(*key) && !set.has(*key + keys.len() as i64 * step));
            assert!(step == 1 || !set.has(*key + 1));
        }
    }
    assert!(!KeySet::of(vec![]).has(0));
}

#[test]
fn a_vector_takes_less_memory_than_is_promised() {
    for (has_bytes, promised) in [(false, 80), (true, 450)] {
        let index = CodeIndex::new(384, has_bytes).unwrap();
        let row = vec![1.0; 384];
        let one = blob(&[row]);
        for first in (0..300_000).step_by(1000) {
            let keys: Vec<i64> = (first..first + 1000).collect();
            index.put(&keys, &one, &[0; 1000]).unwrap();
        }
        assert!(
            index.bytes() < promised * index.len(),
            "{}",
            index.bytes() / index.len()
        );
    }
}
