//! Judges one row of numbers, and scales it to unit length where the profile asks for it.

#![expect(
    clippy::inline_always,
    reason = "compiled once for each instruction set by `blob::pack`"
)]

use std::fmt;

/// What is wrong with a row. `column` counts from zero.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The row does not have the dimension of its profile.
    Dimension {
        /// How many columns it has.
        columns: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A number is NaN or infinite, or became infinite as a 32-bit float.
    NotFinite {
        /// The first such column.
        column: usize,
        /// The number as a 32-bit float.
        value: f32,
    },
    /// Every number is zero as a 32-bit float: the row has no direction.
    Zero,
    /// The row, or a column of it, is not made of numbers.
    NotNumeric {
        /// The first such column; `None` where the row is no vector at all.
        column: Option<usize>,
        /// What stands there instead.
        what: String,
    },
}

impl Fault {
    /// The stable word for programs.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Dimension { .. } => "dimension",
            Self::NotFinite { .. } => "not_finite",
            Self::Zero => "zero",
            Self::NotNumeric { .. } => "not_numeric",
        }
    }

    /// The column to blame, where there is one.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::NotFinite { column, .. } => Some(*column),
            Self::NotNumeric { column, .. } => *column,
            Self::Dimension { .. } | Self::Zero => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimension { columns, expected } => {
                write!(f, "it has {columns} columns, expected {expected}")
            }
            Self::NotFinite { column, value } => {
                write!(f, "column {column} is {value} as a 32-bit float")
            }
            Self::Zero => write!(f, "every column is zero as a 32-bit float"),
            Self::NotNumeric {
                column: Some(column),
                what,
            } => {
                write!(f, "column {column} is {what}, not a number")
            }
            Self::NotNumeric { column: None, what } => write!(f, "it is {what}, not a vector"),
        }
    }
}

/// Checks a row and, with `normalize`, scales it to unit length (L2) in place.
///
/// # Errors
/// The first [`Fault`] of the row.
#[inline(always)]
pub fn check(row: &mut [f32], normalize: bool) -> Result<(), Fault> {
    // On the bits and without a branch: the compiler turns this into a few vector instructions,
    // and no floating-point option can optimize it away.
    let (mut any_bit, mut overflow) = (0, 0);
    for value in row.iter() {
        let magnitude = value.to_bits() & !SIGN;
        any_bit |= magnitude;
        // NaN and infinity have all bits of the exponent set: one more carries into the sign.
        overflow |= magnitude + SMALLEST_EXPONENT;
    }
    if overflow & SIGN != 0 {
        let column = row
            .iter()
            .position(|value| !value.is_finite())
            .unwrap_or_default();
        return Err(Fault::NotFinite {
            column,
            value: row[column],
        });
    }
    if any_bit == 0 {
        return Err(Fault::Zero);
    }
    if normalize {
        scale_to_unit_length(row);
    }
    Ok(())
}

const SIGN: u32 = 1 << 31;
const SMALLEST_EXPONENT: u32 = 1 << 23;

/// The squares of all finite f32, from 1e-90 to 1e77, are ordinary numbers in f64, so that nothing
/// overflows, and nothing that is not zero vanishes.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a coordinate of a unit vector fits into f32"
)]
fn scale_to_unit_length(row: &mut [f32]) {
    let inverse = 1.0 / squares(row).sqrt();
    for value in row {
        *value = (f64::from(*value) * inverse) as f32;
    }
}

/// The sum of squares, in a fixed number of lanes and a fixed order: every CPU computes the same
/// bits, so that projection digests can be compared between machines.
#[inline(always)]
fn squares(row: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let blocks = row.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*value) * f64::from(*value);
    }
    sums.iter().sum()
}
