//! The golden answers in `tests/data`, which the Python tests read too.

#![expect(
    unsafe_code,
    reason = "a row in foreign memory is described by who has it"
)]

use std::mem::MaybeUninit;

use fathomdb_core::blob::{Element, ForeignRow, Row, pack, unpack};
use fathomdb_core::vector::Fault;
use fathomdb_core::{Error, hash, split};
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = format!(
        "{}/../../tests/data/golden_{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap()
}

fn floats(bits: &Value) -> Vec<f32> {
    let bits = bits
        .as_array()
        .unwrap()
        .iter()
        .map(|bits| bits.as_u64().unwrap());
    bits.map(|bits| f32::from_bits(u32::try_from(bits).unwrap()))
        .collect()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|number| number.to_bits()).collect()
}

fn foreign<T>(numbers: &[T], element: Element) -> ForeignRow {
    let stride = isize::try_from(size_of::<T>()).unwrap();
    // SAFETY: every caller keeps the slice until the row was used.
    unsafe { ForeignRow::new(numbers.as_ptr().cast(), numbers.len(), stride, element) }
}

fn packed(row: ForeignRow, dimension: usize, normalize: bool) -> (Vec<f32>, Option<Fault>) {
    let mut slot = vec![MaybeUninit::uninit(); dimension];
    let mut bad = pack(vec![Row::Foreign(row, &mut slot)], normalize);
    // SAFETY: `pack` writes every slot.
    let numbers = slot
        .iter()
        .map(|number| unsafe { number.assume_init() })
        .collect();
    (numbers, bad.pop().map(|(_, fault)| fault))
}

#[test]
fn hashes_are_the_golden_ones_alone_and_in_a_batch() {
    let cases = golden("hashes");
    let cases = cases.as_array().unwrap();
    let ids: Vec<_> = cases.iter().map(|case| text(case, "chunk_id")).collect();
    let texts: Vec<_> = cases.iter().map(|case| text(case, "text")).collect();
    let batch = hash::canonical_chunk_hashes(&ids, &texts).unwrap();
    let contents = hash::content_hashes(&texts);
    for (index, case) in cases.iter().enumerate() {
        let alone = hash::canonical_chunk_hash(ids[index], texts[index]).unwrap();
        assert_eq!(hash::hex(&alone), text(case, "canonical"));
        assert_eq!(alone, batch[index]);
        assert_eq!(hash::hex(&contents[index]), text(case, "content"));
    }
}

#[test]
fn a_batch_spread_over_threads_keeps_its_order() {
    // Very unequal lengths, so that shares end inside, before and after a long text, and lengths
    // around the limit to which messages share the CPU two by two.
    let lengths = (0..390).map(|n| n * n % 9000).chain(65_520..65_530);
    let texts: Vec<String> = lengths.map(|length| "x".repeat(length)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ids: Vec<String> = (0..400).map(|n| format!("doc#{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let batch = hash::canonical_chunk_hashes(&ids, &texts).unwrap();
    for index in 0..texts.len() {
        assert_eq!(
            batch[index],
            hash::canonical_chunk_hash(ids[index], texts[index]).unwrap()
        );
    }
    let expected: Vec<&[u8]> = batch.iter().map(<[u8; 32]>::as_slice).collect();
    assert_eq!(
        hash::verify_chunk_hashes(&ids, &texts, &expected),
        Ok(vec![])
    );
    let mut altered = texts.clone();
    (altered[0], altered[399]) = ("other", "texts");
    assert_eq!(
        hash::verify_chunk_hashes(&ids, &altered, &expected),
        Ok(vec![0, 399])
    );
}

#[test]
fn ids_that_could_share_a_framing_are_refused() {
    let empty = hash::canonical_chunk_hashes(&["a", ""], &["x", "y"]);
    assert_eq!(empty, Err(Error::EmptyChunkId { index: 1 }));
    let nul = hash::canonical_chunk_hash("a\0b", "x");
    assert_eq!(
        nul,
        Err(Error::NulInChunkId {
            index: 0,
            chunk_id: "a\0b".to_owned()
        })
    );
    let lengths = Error::LengthsDiffer {
        other: "texts",
        chunk_ids: 1,
        others: 0,
    };
    assert_eq!(hash::canonical_chunk_hashes(&["a"], &[]), Err(lengths));
    let digest = hash::verify_chunk_hashes(&["a"], &["x"], &[b"short"]);
    assert_eq!(digest, Err(Error::DigestLength { index: 0, bytes: 5 }));
}

#[test]
fn vectors_are_the_golden_ones() {
    for case in golden("vectors").as_array().unwrap() {
        let row = floats(&case["bits"]);
        let name = text(case, "name");
        let (plain, fault) = packed(foreign(&row, Element::F32), row.len(), false);
        let (unit, unit_fault) = packed(foreign(&row, Element::F32), row.len(), true);
        assert_eq!(
            fault.as_ref().map(Fault::cause),
            case["fault"].as_str(),
            "{name}"
        );
        assert_eq!(
            fault.as_ref().and_then(Fault::column),
            column(case),
            "{name}"
        );
        assert_eq!(
            unit_fault.as_ref().map(Fault::cause),
            case["fault"].as_str(),
            "{name}"
        );
        if fault.is_none() {
            assert_eq!(bits(&plain), bits(&row), "{name}");
            assert_eq!(bits(&unit), bits(&floats(&case["unit_bits"])), "{name}");
        } else {
            assert_eq!(bits(&plain), vec![0; row.len()], "{name}");
        }
    }
}

fn column(case: &Value) -> Option<usize> {
    case["column"]
        .as_u64()
        .map(|column| usize::try_from(column).unwrap())
}

#[test]
fn a_number_that_only_f64_holds_is_not_finite() {
    let (numbers, fault) = packed(foreign(&[1.0, -1e300], Element::F64), 2, false);
    assert_eq!(
        fault,
        Some(Fault::NotFinite {
            column: 1,
            value: f32::NEG_INFINITY
        })
    );
    assert_eq!(numbers, [0.0, 0.0]);
    let (_, fault) = packed(foreign(&[1e-300, -1e-300], Element::F64), 2, false);
    assert_eq!(fault, Some(Fault::Zero));
}

#[test]
fn a_row_of_another_length_is_not_read() {
    let (numbers, fault) = packed(foreign(&[1.0_f32, 2.0, 3.0], Element::F32), 2, false);
    assert_eq!(
        fault,
        Some(Fault::Dimension {
            columns: 3,
            expected: 2
        })
    );
    assert_eq!(numbers, [0.0, 0.0]);
}

#[test]
fn rows_longer_than_the_scratch_buffer_and_strided_ones_arrive_whole() {
    let numbers: Vec<f64> = (0..2001).map(|n| f64::from(n) - 7.5).collect();
    let expected: Vec<f32> = (0_i16..2001).map(|n| f32::from(n) - 7.5).collect();
    assert_eq!(
        packed(foreign(&numbers, Element::F64), 2001, false),
        (expected.clone(), None)
    );
    // SAFETY: every third number, backwards from the last, lies inside `numbers`.
    let row = unsafe { ForeignRow::new(numbers[2000..].as_ptr().cast(), 667, -24, Element::F64) };
    let backwards = expected.iter().rev().step_by(3).copied().collect();
    assert_eq!(packed(row, 667, false), (backwards, None));
}

#[test]
fn half_precision_is_exact() {
    // 1, -2, 65504 (the biggest) and the smallest denormal, as their bits.
    let halves: [u16; 4] = [0x3c00, 0xc000, 0x7bff, 0x0001];
    let (numbers, fault) = packed(foreign(&halves, Element::F16), 4, false);
    assert_eq!(
        (bits(&numbers), fault),
        (bits(&[1.0, -2.0, 65504.0, 2.0_f32.powi(-24)]), None)
    );
    let infinite: [u16; 2] = [0x3c00, 0x7c00];
    let (_, fault) = packed(foreign(&infinite, Element::F16), 2, false);
    assert_eq!(
        fault,
        Some(Fault::NotFinite {
            column: 1,
            value: f32::INFINITY
        })
    );
}

#[test]
fn unpacking_keeps_every_bit_even_of_nan() {
    let rows = [
        [f32::from_bits(0x7fc0_1234), -0.0],
        [f32::MIN_POSITIVE, 1.0],
    ];
    let blobs: Vec<_> = rows.iter().map(|row| foreign(row, Element::F32)).collect();
    let mut joined = vec![MaybeUninit::uninit(); 4];
    unpack(&blobs, 2, &mut joined);
    // SAFETY: `unpack` writes every slot.
    let joined: Vec<f32> = joined
        .iter()
        .map(|number| unsafe { number.assume_init() })
        .collect();
    assert_eq!(bits(&joined), bits(rows.as_flattened()));
}

#[test]
fn splits_are_the_golden_ones() {
    let golden = golden("splits");
    assert_eq!(text(&golden, "splitter"), split::SPLITTER_VERSION);
    for case in golden["cases"].as_array().unwrap() {
        let whole = text(case, "text");
        let chunk_chars = usize::try_from(case["chunk_chars"].as_u64().unwrap()).unwrap();
        let pieces = split::split(whole, chunk_chars).unwrap();
        let pieces: Vec<_> = pieces.into_iter().map(|range| &whole[range]).collect();
        assert_eq!(Value::from(pieces), case["pieces"]);
    }
    assert_eq!(split::split("x", 0), Err(Error::ZeroChunkChars));
}
