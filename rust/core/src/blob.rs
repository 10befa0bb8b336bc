//! Brings rows from foreign memory into one buffer of f32, checked, and joins blobs back.
//!
//! The rule of the private copy: a row is copied first and judged after, as it stands in our own
//! buffer after the cast to f32. Whatever other threads do to the original meanwhile, what was
//! checked is what is stored.

#![expect(
    unsafe_code,
    reason = "reads rows where they lie, with any stride, and fills memory that is not written yet"
)]
#![expect(
    clippy::inline_always,
    reason = "compiled once for each instruction set by `pack`"
)]

use std::mem::MaybeUninit;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::error::{Error, Result};
use crate::vector::{self, Fault};

/// Bytes of one column in a blob.
pub const COLUMN_BYTES: usize = size_of::<f32>();

/// The place of one row in the result, not written yet.
pub type Slot = [MaybeUninit<f32>];

/// The type of a number in foreign memory, in the byte order of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754 half precision.
    F16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

/// A row of numbers in memory that belongs to somebody else.
///
/// No reference to that memory is ever made, since its owner may write to it at any time; it is
/// only copied from, and every bit pattern is a number.
#[derive(Clone, Copy, Debug)]
pub struct ForeignRow {
    first: *const u8,
    columns: usize,
    stride: isize,
    element: Element,
}

// SAFETY: a description of plain memory; who makes one vouches for its life (`ForeignRow::new`).
unsafe impl Send for ForeignRow {}
// SAFETY: as above; nothing is changed through it.
unsafe impl Sync for ForeignRow {}

impl ForeignRow {
    /// Describes `columns` numbers, the first at `first`, each `stride` bytes after the last.
    ///
    /// # Safety
    /// Every number must stay readable memory until the description is used for the last time. It
    /// need not be aligned.
    #[must_use]
    pub unsafe fn new(first: *const u8, columns: usize, stride: isize, element: Element) -> Self {
        Self {
            first,
            columns,
            stride,
            element,
        }
    }

    /// Copies the row, cast to f32: each number is read once, and judged only where it arrives.
    #[inline(always)]
    fn copy_to(self, slot: &mut Slot) -> &mut [f32] {
        match self.element {
            Element::F32 => self.gather(0, slot, |number: f32| MaybeUninit::new(number)),
            Element::F64 => self.gather(0, slot, |number: f64| {
                #[expect(clippy::cast_possible_truncation, reason = "judged after the cast")]
                MaybeUninit::new(number as f32)
            }),
            Element::F16 => {
                // The CPU's own conversion, which `half` knows, is for slices.
                const AT_ONCE: usize = 256;
                let target = zeroed(slot);
                let mut copied = [f16::ZERO; AT_ONCE];
                for (block, target) in target.chunks_mut(AT_ONCE).enumerate() {
                    let copied = &mut copied[..target.len()];
                    self.gather(block * AT_ONCE, copied, |number: f16| number);
                    copied.convert_to_f32_slice(target);
                }
                return target;
            }
        }
        // SAFETY: `gather` wrote every column.
        unsafe { written(slot) }
    }

    /// Copies the numbers from column `from` on. `T` is the type of `self.element`.
    #[inline(always)]
    fn gather<T: Copy, U>(self, from: usize, into: &mut [U], cast: impl Fn(T) -> U) {
        assert!(
            from + into.len() <= self.columns,
            "no number outside the row is read"
        );
        let read = |index: usize, stride: isize| {
            let place = self.first.wrapping_offset((from + index) as isize * stride);
            // SAFETY: every column is readable (`new`), aligned or not, and any bits are a `T`.
            unsafe { place.cast::<T>().read_unaligned() }
        };
        // The same loop twice: with a stride that the compiler knows it becomes vector code.
        if self.stride == size_of::<T>() as isize {
            for (index, slot) in into.iter_mut().enumerate() {
                *slot = cast(read(index, size_of::<T>() as isize));
            }
        } else {
            for (index, slot) in into.iter_mut().enumerate() {
                *slot = cast(read(index, self.stride));
            }
        }
    }
}

/// A row on its way into the result.
#[derive(Debug)]
pub enum Row<'a> {
    /// Still in foreign memory, of any length.
    Foreign(ForeignRow, &'a mut Slot),
    /// Written already, not judged.
    Written(&'a mut [f32]),
    /// Known to be bad; what was written is cleared.
    Faulty(Fault, &'a mut [f32]),
}

/// Copies every row, then judges the copy, normalizes it where asked, and returns all bad rows
/// with their place among `rows`. Bad rows become zeros.
#[must_use]
pub fn pack(rows: Vec<Row<'_>>, normalize: bool) -> Vec<(usize, Fault)> {
    #[cfg(all(target_arch = "x86_64", not(portable)))]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has the instructions.
        return unsafe { pack_avx2(rows, normalize) };
    }
    pack_portably(rows, normalize)
}

/// The same code with wider registers; without fused multiply-add, so the same bits too.
#[cfg(all(target_arch = "x86_64", not(portable)))]
#[target_feature(enable = "avx2")]
unsafe fn pack_avx2(rows: Vec<Row<'_>>, normalize: bool) -> Vec<(usize, Fault)> {
    pack_portably(rows, normalize)
}

#[inline(always)]
fn pack_portably(rows: Vec<Row<'_>>, normalize: bool) -> Vec<(usize, Fault)> {
    let mut bad = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        if let Err(fault) = pack_row(row, normalize) {
            bad.push((index, fault));
        }
    }
    bad
}

#[inline(always)]
fn pack_row(row: Row<'_>, normalize: bool) -> std::result::Result<(), Fault> {
    let (target, verdict) = match row {
        Row::Faulty(fault, target) => (target, Err(fault)),
        Row::Written(target) => {
            let verdict = vector::check(target, normalize);
            (target, verdict)
        }
        Row::Foreign(source, slot) => {
            let (columns, expected) = (source.columns, slot.len());
            if columns == expected {
                let target = source.copy_to(slot);
                let verdict = vector::check(target, normalize);
                (target, verdict)
            } else {
                (zeroed(slot), Err(Fault::Dimension { columns, expected }))
            }
        }
    };
    verdict.inspect_err(|_| target.fill(0.0))
}

/// Joins stored blobs, `dimension` columns each, into one buffer, bit for bit.
///
/// # Panics
/// Where a blob has another number of columns ([`check_blob_lengths`] comes first) or `target` has
/// another number of rows.
pub fn unpack(blobs: &[ForeignRow], dimension: usize, target: &mut Slot) {
    assert_eq!(target.len(), blobs.len() * dimension, "a slot a blob");
    for (blob, slot) in blobs.iter().zip(target.chunks_exact_mut(dimension)) {
        blob.copy_to(slot);
    }
}

/// Compares the lengths in bytes of stored blobs with their dimension.
///
/// # Errors
/// The first blob that has not four bytes a column.
pub fn check_blob_lengths(lengths: &[usize], dimension: usize) -> Result<()> {
    let expected = dimension.saturating_mul(COLUMN_BYTES);
    match lengths
        .iter()
        .enumerate()
        .find(|(_, bytes)| **bytes != expected)
    {
        Some((index, &bytes)) => Err(Error::BlobLength {
            index,
            bytes,
            dimension,
        }),
        None => Ok(()),
    }
}

/// How many bytes a result of this shape takes.
///
/// # Errors
/// A dimension of zero, and a size that no memory has.
pub fn blob_bytes(rows: usize, dimension: usize) -> Result<usize> {
    if dimension == 0 {
        return Err(Error::ZeroDimension);
    }
    rows.checked_mul(dimension)
        .and_then(|columns| columns.checked_mul(COLUMN_BYTES))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or(Error::TooLarge { rows, dimension })
}

/// Makes a slot readable by writing zeros, which a row that passes overwrites while they are in
/// the CPU's cache: cheaper than clearing the whole result first.
#[inline(always)]
pub fn zeroed(slot: &mut Slot) -> &mut [f32] {
    slot.fill(MaybeUninit::new(0.0));
    // SAFETY: every column was written in the line above.
    unsafe { written(slot) }
}

/// # Safety
/// Every column of the slot was written.
#[inline(always)]
unsafe fn written(slot: &mut Slot) -> &mut [f32] {
    let (first, columns) = (slot.as_mut_ptr().cast(), slot.len());
    // SAFETY: as the caller says, and the slice borrows the slot.
    unsafe { std::slice::from_raw_parts_mut(first, columns) }
}
