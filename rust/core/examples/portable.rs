//! One kernel on fixed input, as often as asked, for `benches/guard.py` to count its instructions.
//!
//! `portable KERNEL TIMES`; without arguments it names the kernels, one a line. Compiled with
//! `--cfg portable` no kernel asks the CPU what it can do, so that every machine of one
//! architecture counts the same.

#![expect(
    unsafe_code,
    reason = "a row in foreign memory is described by who has it"
)]

use std::hint::black_box;
use std::mem::MaybeUninit;

use fathomdb_core::blob::{self, Element, ForeignRow, Row};
use fathomdb_core::content::ContentIndex;
use fathomdb_core::{hash, split};

const ROWS: usize = 256;
const COLUMNS: usize = 384;

type Kernel = (&'static str, fn() -> Box<dyn Fn()>);

/// What is built before is counted once and taken off: each makes its input, then the work.
const KERNELS: [Kernel; 6] = [
    ("hash", || {
        let (ids, texts) = (strings("document"), strings(&"a few words ".repeat(48)));
        Box::new(move || {
            let (ids, texts) = (borrowed(&ids), borrowed(&texts));
            black_box(hash::canonical_chunk_hashes(&ids, &texts).expect("good ids"));
        })
    }),
    ("pack f32", || {
        let rows = numbers();
        Box::new(move || pack(&rows, Element::F32, false))
    }),
    ("pack f64", || {
        let rows: Vec<f64> = numbers().into_iter().map(f64::from).collect();
        Box::new(move || pack(&rows, Element::F64, false))
    }),
    ("pack f32, normalized", || {
        let rows = numbers();
        Box::new(move || pack(&rows, Element::F32, true))
    }),
    ("unpack", || {
        let rows = numbers();
        Box::new(move || {
            let mut target = vec![MaybeUninit::uninit(); ROWS * COLUMNS];
            blob::unpack(&foreign(&rows, Element::F32), COLUMNS, &mut target);
            black_box(&target);
        })
    }),
    ("split and find", || {
        let text = "A sentence of nine words that ends here. ".repeat(2000);
        Box::new(move || {
            let pieces = split::split(&text, 800).expect("more than none");
            let mut index = ContentIndex::default();
            for (key, piece) in (0..).zip(&pieces) {
                index.add(&hash::content_hashes(&[&text[piece.clone()]])[0], key);
            }
            black_box(&index);
        })
    }),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(asked), Some(times)) = (arguments.next(), arguments.next()) else {
        for (name, _) in KERNELS {
            println!("{name}");
        }
        return;
    };
    let (_, prepare) = KERNELS
        .into_iter()
        .find(|(name, _)| *name == asked)
        .expect("a kernel that is named without arguments");
    let work = prepare();
    for _ in 0..times.parse().expect("a number of times") {
        work();
    }
}

fn strings(stem: &str) -> Vec<String> {
    (0..ROWS).map(|number| format!("{stem}{number}")).collect()
}

fn borrowed(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

fn numbers() -> Vec<f32> {
    let cycle = (0_u16..997).map(|number| f32::from(number) - 498.5);
    cycle.cycle().take(ROWS * COLUMNS).collect()
}

fn foreign<T>(rows: &[T], element: Element) -> Vec<ForeignRow> {
    let stride = isize::try_from(size_of::<T>()).expect("a few bytes");
    rows.chunks_exact(COLUMNS)
        // SAFETY: the caller's rows live longer than what describes them.
        .map(|row| unsafe { ForeignRow::new(row.as_ptr().cast(), COLUMNS, stride, element) })
        .collect()
}

fn pack<T>(rows: &[T], element: Element, normalize: bool) {
    let mut slots = vec![MaybeUninit::uninit(); rows.len()];
    let given = foreign(rows, element).into_iter();
    let given = given.zip(slots.chunks_exact_mut(COLUMNS));
    let given = given.map(|(row, slot)| Row::Foreign(row, slot)).collect();
    assert!(blob::pack(given, normalize).is_empty(), "good rows");
    black_box(&slots);
}
