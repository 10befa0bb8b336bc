//! Batches of rows to checked f32 blobs.

#![expect(
    unsafe_code,
    reason = "vouches that the new blob is written to its end"
)]

use fathomdb_core::vector::Fault;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{self, NewBlob, Vectors};
use crate::detach::detached;
use crate::error::Result;

/// Rows are read and packed by about this many columns (4 MB), so that a list of lists, which
/// needs the GIL to be read, gives it away at least every few milliseconds.
const COLUMNS_AT_ONCE: usize = 1 << 20;

/// Checked vectors in one buffer, ready to be stored.
#[pyclass(frozen, module = "fathomdb._native")]
pub struct PackedVectors {
    /// How many rows there are, bad ones included.
    #[pyo3(get)]
    count: usize,
    /// How many columns each has.
    #[pyo3(get)]
    dimension: usize,
    /// All rows, one after the other, as little-endian f32.
    #[pyo3(get)]
    blob: Py<PyBytes>,
    bad: Vec<(usize, Fault)>,
}

#[pymethods]
impl PackedVectors {
    /// The rows that must not be stored: (row, column, cause, detail).
    #[getter]
    fn bad(&self) -> Vec<(usize, Option<usize>, &'static str, String)> {
        let told = |(row, fault): &(usize, Fault)| {
            (*row, fault.column(), fault.cause(), fault.to_string())
        };
        self.bad.iter().map(told).collect()
    }

    /// One view a row into `blob`.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        convert::row_views(self.blob.bind(py), self.dimension)
    }

    fn __len__(&self) -> usize {
        self.count
    }

    fn __repr__(&self) -> String {
        let (count, dimension, bad) = (self.count, self.dimension, self.bad.len());
        format!("PackedVectors(count={count}, dimension={dimension}, bad={bad})")
    }
}

/// Copies rows into one buffer of f32, checks the copy, and normalizes it where asked.
#[pyfunction]
#[pyo3(signature = (rows, dimension, *, normalize = false))]
pub fn pack_vectors(
    py: Python<'_>,
    rows: &Bound<'_, PyAny>,
    dimension: &Bound<'_, PyAny>,
    normalize: bool,
) -> Result<PackedVectors> {
    let given = convert::dimension_of(dimension)?;
    let vectors = Vectors::of(rows)?;
    let dimension = given.map_or_else(|| vectors.learn_dimension(), Ok)?;
    let count = vectors.count();
    let mut blob = NewBlob::new(py, count, dimension)?;
    let mut bad = Vec::new();
    let rows_at_once = (COLUMNS_AT_ONCE / dimension).max(1);
    for (block, slots) in blob
        .slots()
        .chunks_mut(rows_at_once * dimension)
        .enumerate()
    {
        let (first, bytes) = (block * rows_at_once, size_of_val(slots));
        let mut batch = vectors.batch(first, dimension, slots)?;
        let faults = detached(py, bytes, || batch.pack(normalize));
        bad.extend(faults.into_iter().map(|(row, fault)| (first + row, fault)));
    }
    // SAFETY: the blocks cover all slots, and `pack` writes every slot of its rows.
    let blob = unsafe { blob.finish() }.unbind();
    Ok(PackedVectors {
        count,
        dimension,
        blob,
        bad,
    })
}
