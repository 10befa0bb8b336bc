//! The kernels on whatever proptest thinks of, against the plainest code that says the same.

#![expect(
    unsafe_code,
    reason = "a row in foreign memory is described by who has it"
)]

use std::mem::MaybeUninit;

use fathomdb_core::blob::{Element, ForeignRow, Row, check_blob_lengths, pack, unpack, zeroed};
use fathomdb_core::vector::Fault;
use fathomdb_core::{Error, hash, split};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn row_of<T>(numbers: &[T], element: Element) -> ForeignRow {
    let stride = isize::try_from(size_of::<T>()).unwrap();
    // SAFETY: every caller keeps the slice until the row was used.
    unsafe { ForeignRow::new(numbers.as_ptr().cast(), numbers.len(), stride, element) }
}

fn packed(rows: &[Vec<f32>], dimension: usize, normalize: bool) -> (Vec<f32>, Vec<(usize, Fault)>) {
    let mut slots = vec![MaybeUninit::uninit(); rows.len() * dimension];
    let into = slots.chunks_exact_mut(dimension);
    let given = rows
        .iter()
        .zip(into)
        .map(|(row, slot)| Row::Foreign(row_of(row, Element::F32), slot))
        .collect();
    let bad = pack(given, normalize);
    // SAFETY: `pack` writes every slot of its rows, and there is a row for each.
    let written = slots
        .iter()
        .map(|slot| unsafe { slot.assume_init() })
        .collect();
    (written, bad)
}

fn any_float() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

fn batches() -> impl Strategy<Value = (usize, Vec<Vec<f32>>)> {
    (1_usize..40).prop_flat_map(|dimension| {
        // Some rows are a column too long or too short.
        let columns = dimension.saturating_sub(1)..=dimension + 1;
        let row = prop::collection::vec(prop_oneof![-2.0_f32..2.0, any_float()], columns);
        (Just(dimension), prop::collection::vec(row, 1..9))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hash_is_the_digest_of_id_nul_and_text_alone_or_in_any_batch(
        pairs in prop::collection::vec(("[^\\x00]{1,40}", any::<String>()), 1..9)
    ) {
        let ids: Vec<&str> = pairs.iter().map(|pair| pair.0.as_str()).collect();
        let texts: Vec<&str> = pairs.iter().map(|pair| pair.1.as_str()).collect();
        let batch = hash::canonical_chunk_hashes(&ids, &texts).unwrap();
        for (index, (id, text)) in pairs.iter().enumerate() {
            let plain = Sha256::digest([id.as_bytes(), &[0], text.as_bytes()].concat());
            prop_assert_eq!(&batch[index][..], &plain[..]);
            prop_assert_eq!(hash::canonical_chunk_hash(id, text).unwrap(), batch[index]);
            let content = Sha256::digest(text.as_bytes());
            prop_assert_eq!(&hash::content_hashes(&[text])[0][..], &content[..]);
        }
        let expected: Vec<&[u8]> = batch.iter().map(|digest| &digest[..]).collect();
        prop_assert_eq!(hash::verify_chunk_hashes(&ids, &texts, &expected).unwrap(), Vec::<usize>::new());
    }

    #[test]
    fn an_id_with_a_nul_is_refused_and_never_hashed(before in any::<String>(), after in any::<String>()) {
        let id = format!("{before}\0{after}");
        prop_assert_eq!(
            hash::canonical_chunk_hash(&id, "text"),
            Err(Error::NulInChunkId { index: 0, chunk_id: id.clone() })
        );
    }

    #[test]
    fn pieces_are_the_text_and_none_is_longer_than_asked_for_but_by_white_space(
        text in any::<String>(), chunk_chars in 1_usize..50
    ) {
        let pieces = split::split(&text, chunk_chars).unwrap();
        let joined: String = pieces.iter().map(|at| &text[at.clone()]).collect();
        prop_assert_eq!(&joined, &text);
        for at in &pieces {
            prop_assert!(text[at.clone()].trim().chars().count() <= chunk_chars);
        }
    }

    #[test]
    fn a_row_is_stored_bit_for_bit_or_is_bad_and_zeros((dimension, rows) in batches()) {
        let (written, bad) = packed(&rows, dimension, false);
        for (index, (row, stored)) in rows.iter().zip(written.chunks_exact(dimension)).enumerate() {
            let fault = bad.iter().find(|(place, _)| *place == index).map(|(_, fault)| fault);
            let is_good = row.len() == dimension
                && row.iter().all(|number| number.is_finite())
                && row.iter().any(|number| *number != 0.0);
            prop_assert_eq!(fault.is_none(), is_good, "{:?}", fault);
            let expected: Vec<u32> = if is_good {
                row.iter().map(|number| number.to_bits()).collect()
            } else {
                vec![0; dimension]
            };
            let bits: Vec<u32> = stored.iter().map(|number| number.to_bits()).collect();
            prop_assert_eq!(bits, expected);
        }
    }

    #[test]
    fn a_normalized_row_is_finite_and_of_length_one((dimension, rows) in batches()) {
        let (written, bad) = packed(&rows, dimension, true);
        for (index, stored) in written.chunks_exact(dimension).enumerate() {
            let length = stored.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
            if bad.iter().any(|(place, _)| *place == index) {
                prop_assert!(stored.iter().all(|number| *number == 0.0));
            } else {
                prop_assert!((length - 1.0).abs() < 1e-6, "{} of {:?}", length, rows[index]);
            }
        }
    }

    #[test]
    fn blobs_come_back_bit_for_bit(
        dimension in 1_usize..20, bits in prop::collection::vec(any::<u32>(), 0..200)
    ) {
        let count = bits.len() / dimension;
        let numbers: Vec<f32> = bits.iter().take(count * dimension).map(|b| f32::from_bits(*b)).collect();
        let rows: Vec<ForeignRow> =
            numbers.chunks_exact(dimension).map(|row| row_of(row, Element::F32)).collect();
        check_blob_lengths(&vec![dimension * 4; count], dimension).unwrap();
        let mut slots = vec![MaybeUninit::uninit(); count * dimension];
        unpack(&rows, dimension, &mut slots);
        // SAFETY: `unpack` writes a row for each blob.
        let joined: Vec<u32> =
            slots.iter().map(|slot| unsafe { slot.assume_init() }.to_bits()).collect();
        prop_assert_eq!(&joined, &bits[..count * dimension]);
    }

    #[test]
    fn a_slot_is_zeros_once_it_was_zeroed(columns in 0_usize..300) {
        let mut slot = vec![MaybeUninit::uninit(); columns];
        prop_assert!(zeroed(&mut slot).iter().all(|number| number.to_bits() == 0));
    }
}
