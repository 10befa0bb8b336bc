//! Texts to pieces.

use fathomdb_core::split;
use pyo3::prelude::*;

use crate::convert;
use crate::detach::detached;
use crate::error::Result;

/// A byte takes about as long to split as this many take to hash: 2 where there are paragraphs,
/// 60 and more where there is not even a line.
const WORK_PER_BYTE: usize = 16;

/// Cuts a text into pieces: (start, end, piece), offsets in bytes of UTF-8.
#[pyfunction]
pub fn split_text<'a>(
    text: &'a Bound<'_, PyAny>,
    chunk_chars: &Bound<'_, PyAny>,
) -> Result<Vec<(usize, usize, &'a str)>> {
    let body = convert::str_of("text", text)?;
    let chunk_chars = convert::positive("chunk_chars", chunk_chars)?;
    let work = body.len().saturating_mul(WORK_PER_BYTE);
    let pieces = detached(text.py(), work, || split::split(body, chunk_chars))?;
    Ok(pieces
        .into_iter()
        .map(|at| (at.start, at.end, &body[at]))
        .collect())
}
