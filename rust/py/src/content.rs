//! The index of texts that have a vector.

use fathomdb_core::content;
use pyo3::prelude::*;

use crate::convert::{self, Items};
use crate::error::{Error, Result};

/// The chunks that had a vector of a text, by the first bytes of its hash.
#[pyclass(module = "fathomdb._native")]
#[derive(Default)]
pub struct ContentIndex {
    index: content::ContentIndex,
}

#[pymethods]
impl ContentIndex {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __len__(&self) -> usize {
        self.index.len()
    }

    /// Notes that these chunks have vectors of the texts of these hashes.
    fn add(&mut self, hashes: &Bound<'_, PyAny>, keys: &Bound<'_, PyAny>) -> Result<()> {
        let (hashes, keys) = (Items::of("hashes", hashes)?, Items::of("keys", keys)?);
        let (hashes, keys) = (hashes.as_bytes()?, keys.as_keys()?);
        if hashes.len() != keys.len() {
            return Err(Error::InvalidInput(format!(
                "hashes and keys must be equally many, got {} and {}",
                hashes.len(),
                keys.len()
            )));
        }
        for (hash, key) in hashes.into_iter().zip(keys) {
            self.index.add(hash, key);
        }
        Ok(())
    }

    /// At most `most` chunks for each of these hashes, all in one list, of each hash the newest first.
    fn find(&self, hashes: &Bound<'_, PyAny>, most: &Bound<'_, PyAny>) -> Result<Vec<i64>> {
        let hashes = Items::of("hashes", hashes)?;
        let most = convert::positive("most", most)?;
        let found = hashes.as_bytes()?.into_iter();
        Ok(found.flat_map(|hash| self.index.find(hash, most)).collect())
    }
}
