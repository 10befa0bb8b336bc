//! Stored f32 blobs back to one buffer.

#![expect(
    unsafe_code,
    reason = "vouches that the new blob is written to its end"
)]

use fathomdb_core::blob;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{self, Blobs, NewBlob};
use crate::detach::detached;
use crate::error::Result;

/// Joins stored vectors into one buffer, bit for bit.
#[pyfunction]
pub fn unpack_vectors<'py>(
    py: Python<'py>,
    blobs: &Bound<'py, PyAny>,
    dimension: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyBytes>> {
    let dimension = convert::positive("dimension", dimension)?;
    let blobs = Blobs::of(blobs)?;
    let rows = blobs.rows();
    blob::check_blob_lengths(blobs.lengths(), dimension)?;
    let mut joined = NewBlob::new(py, rows.len(), dimension)?;
    let slots = joined.slots();
    detached(py, size_of_val(slots), || {
        blob::unpack(rows, dimension, slots);
    });
    // SAFETY: `unpack` writes a row for each blob, and there are as many rows as blobs.
    Ok(unsafe { joined.finish() })
}
