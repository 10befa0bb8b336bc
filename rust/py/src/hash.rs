//! Canonical and content hashes, and their verification.

use std::ops::Range;

use fathomdb_core::hash;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert::{self, Items};
use crate::detach::detached;
use crate::error::Result;

/// Texts that are taken hold of, hashed and given back at once. What that takes beside them stays in
/// the cache and below what the allocator gives back to the system: of 20,000 texts at once 40 % of
/// the time at the border were page faults.
const TEXTS_AT_ONCE: usize = 8192;

/// The canonical hash of one chunk, lowercase hex.
#[pyfunction]
pub fn canonical_chunk_hash(
    chunk_id: &Bound<'_, PyAny>,
    text: &Bound<'_, PyAny>,
) -> Result<String> {
    let (id, body) = (
        convert::str_of("chunk_id", chunk_id)?,
        convert::str_of("text", text)?,
    );
    let digest = detached(text.py(), body.len(), || {
        hash::canonical_chunk_hash(id, body)
    })?;
    Ok(hash::hex(&digest))
}

/// The canonical hashes of many chunks; with `content` also the hash of each text alone.
#[pyfunction]
#[pyo3(signature = (chunk_ids, texts, *, content = false))]
pub fn canonical_chunk_hashes<'py>(
    py: Python<'py>,
    chunk_ids: &Bound<'py, PyAny>,
    texts: &Bound<'py, PyAny>,
    content: bool,
) -> Result<Bound<'py, PyAny>> {
    let (chunk_ids, texts) = (
        Items::of("chunk_ids", chunk_ids)?,
        Items::of("texts", texts)?,
    );
    hash::check_lengths(chunk_ids.len(), "texts", texts.len())?;
    let (canonical, contents) = (PyList::empty(py), PyList::empty(py));
    for part in parts(texts.len()) {
        let ids = chunk_ids.part_as_strs(part.clone())?;
        let bodies = texts.part_as_strs(part.clone())?;
        let (digests, of_texts) = detached(py, bytes_in(&bodies), || {
            let digests = hash::canonical_chunk_hashes(&ids, &bodies)?;
            Ok((digests, content.then(|| hash::content_hashes(&bodies))))
        })
        .map_err(|error: fathomdb_core::Error| error.counted_from(part.start))?;
        convert::append_digests(&canonical, &digests)?;
        convert::append_digests(&contents, &of_texts.unwrap_or_default())?;
    }
    with_content(canonical, content.then_some(contents))
}

/// The indices whose canonical hash is not the expected one; with `content` also the hash of each
/// text alone.
#[pyfunction]
#[pyo3(signature = (chunk_ids, texts, expected, *, content = false))]
pub fn verify_chunk_hashes<'py>(
    py: Python<'py>,
    chunk_ids: &Bound<'py, PyAny>,
    texts: &Bound<'py, PyAny>,
    expected: &Bound<'py, PyAny>,
    content: bool,
) -> Result<Bound<'py, PyAny>> {
    let (chunk_ids, texts) = (
        Items::of("chunk_ids", chunk_ids)?,
        Items::of("texts", texts)?,
    );
    let expected = Items::of("expected", expected)?;
    hash::check_lengths(chunk_ids.len(), "texts", texts.len())?;
    hash::check_lengths(chunk_ids.len(), "expected", expected.len())?;
    let (mut differing, contents) = (Vec::new(), PyList::empty(py));
    for part in parts(texts.len()) {
        let ids = chunk_ids.part_as_strs(part.clone())?;
        let bodies = texts.part_as_strs(part.clone())?;
        let hashes = expected.part_as_bytes(part.clone())?;
        let (found, of_texts) = detached(py, bytes_in(&bodies), || {
            let found = hash::verify_chunk_hashes(&ids, &bodies, &hashes)?;
            Ok((found, content.then(|| hash::content_hashes(&bodies))))
        })
        .map_err(|error: fathomdb_core::Error| error.counted_from(part.start))?;
        differing.extend(found.into_iter().map(|index| part.start + index));
        convert::append_digests(&contents, &of_texts.unwrap_or_default())?;
    }
    with_content(PyList::new(py, differing)?, content.then_some(contents))
}

/// SHA-256 of each text alone.
#[pyfunction]
pub fn content_hashes<'py>(
    py: Python<'py>,
    texts: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyList>> {
    let texts = Items::of("texts", texts)?;
    let contents = PyList::empty(py);
    for part in parts(texts.len()) {
        let bodies = texts.part_as_strs(part)?;
        let digests = detached(py, bytes_in(&bodies), || hash::content_hashes(&bodies));
        convert::append_digests(&contents, &digests)?;
    }
    Ok(contents)
}

/// The indices of a batch, [`TEXTS_AT_ONCE`] in a part.
fn parts(count: usize) -> impl Iterator<Item = Range<usize>> {
    let firsts = (0..count).step_by(TEXTS_AT_ONCE);
    firsts.map(move |first| first..count.min(first + TEXTS_AT_ONCE))
}

/// What SHA-256 takes of these texts, each with what fills its last block.
fn bytes_in(texts: &[&str]) -> usize {
    const BLOCK: usize = 64;
    texts.iter().map(|text| text.len() + BLOCK).sum()
}

fn with_content<'py>(
    result: Bound<'py, PyList>,
    contents: Option<Bound<'py, PyList>>,
) -> Result<Bound<'py, PyAny>> {
    match contents {
        None => Ok(result.into_any()),
        Some(contents) => Ok((result, contents.clone())
            .into_pyobject(contents.py())?
            .into_any()),
    }
}
