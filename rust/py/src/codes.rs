//! The codes of an index's vectors.

use fathomdb_core::codes;
use pyo3::prelude::*;

use crate::convert::{self, Items};
use crate::detach::detached;
use crate::error::{Error, Result};

/// The codes of the vectors of one index, by key.
#[pyclass(frozen, module = "fathomdb._native")]
pub struct CodeIndex {
    index: codes::CodeIndex,
}

#[pymethods]
impl CodeIndex {
    #[new]
    #[pyo3(signature = (dimension, *, int8))]
    fn new(dimension: &Bound<'_, PyAny>, int8: bool) -> Result<Self> {
        let dimension = convert::positive("dimension", dimension)?;
        let index = codes::CodeIndex::new(dimension, int8)?;
        Ok(Self { index })
    }

    fn __len__(&self) -> usize {
        self.index.len()
    }

    /// The memory that it holds, in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.index.bytes()
    }

    /// All keys, in no order.
    fn keys(&self, py: Python<'_>) -> Vec<i64> {
        detached(py, self.index.bytes(), || self.index.keys())
    }

    /// Adds what blocks of sqlite-vec's own table have, but for keys that changed since.
    fn load(
        &self,
        py: Python<'_>,
        validity: &Bound<'_, PyAny>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let validity = Items::of("validity", validity)?;
        let keys = Items::of("keys", keys)?;
        let vectors = Items::of("vectors", vectors)?;
        let (validity, keys) = (validity.as_bytes()?, keys.as_bytes()?);
        let vectors = vectors.as_bytes()?;
        if validity.len() != keys.len() || keys.len() != vectors.len() {
            return Err(Error::InvalidInput(format!(
                "validity, keys and vectors must be equally many, got {}, {} and {}",
                validity.len(),
                keys.len(),
                vectors.len()
            )));
        }
        let bytes = vectors.iter().map(|block| block.len()).sum();
        Ok(detached(py, bytes, || {
            let blocks = validity.iter().zip(&keys).zip(&vectors);
            blocks
                .into_iter()
                .try_for_each(|((validity, keys), vectors)| {
                    self.index.load(validity, keys, vectors)
                })
        })?)
    }

    /// Ends loading.
    fn finish_loading(&self) {
        self.index.finish_loading();
    }

    /// How many rows have signs as near as those of a row that is truly near, at worst.
    fn candidates_needed(
        &self,
        py: Python<'_>,
        samples: &Bound<'_, PyAny>,
        nearest: &Bound<'_, PyAny>,
    ) -> Result<usize> {
        let samples = convert::positive("samples", samples)?;
        let nearest = convert::positive("nearest", nearest)?;
        Ok(detached(py, self.index.bytes(), || {
            self.index.candidates_needed(samples, nearest)
        }))
    }

    /// Stores the codes of vectors: of each key the row of `blob` at its place.
    fn put(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        blob: &[u8],
        places: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let (keys, places) = (Items::of("keys", keys)?, Items::of("places", places)?);
        let (keys, places) = (keys.as_keys()?, places.as_places()?);
        if keys.len() != places.len() {
            return Err(Error::InvalidInput(format!(
                "keys and places must be equally many, got {} and {}",
                keys.len(),
                places.len()
            )));
        }
        Ok(detached(py, blob.len(), || {
            self.index.put(&keys, blob, &places)
        })?)
    }

    /// Forgets the codes of these keys.
    fn remove(&self, keys: &Bound<'_, PyAny>) -> Result<()> {
        self.index.remove(&Items::of("keys", keys)?.as_keys()?);
        Ok(())
    }

    /// At most `most` keys, the nearest first, of the `candidates` whose signs are nearest.
    #[pyo3(signature = (query, candidates, most, within = None))]
    fn search(
        &self,
        py: Python<'_>,
        query: &[u8],
        candidates: &Bound<'_, PyAny>,
        most: &Bound<'_, PyAny>,
        within: Option<&Bound<'_, PyAny>>,
    ) -> Result<Vec<i64>> {
        let candidates = convert::positive("candidates", candidates)?;
        let most = convert::positive("most", most)?;
        let within = within
            .map(|keys| Items::of("within", keys)?.as_keys())
            .transpose()?;
        Ok(detached(py, self.index.bytes(), || {
            let within = within.map(codes::KeySet::of);
            self.index.search(query, candidates, most, within.as_ref())
        })?)
    }
}
