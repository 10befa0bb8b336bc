//! Canonical and content hashes, and their verification.

use fathomdb_core::hash;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert::{self, Items};
use crate::detach::detached;
use crate::error::Result;

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
    let (ids, bodies) = (chunk_ids.as_strs()?, texts.as_strs()?);
    let (canonical, contents) = detached(py, bytes_in(&bodies), || {
        let canonical = hash::canonical_chunk_hashes(&ids, &bodies)?;
        fathomdb_core::Result::Ok((canonical, content.then(|| hash::content_hashes(&bodies))))
    })?;
    with_content(convert::digests_out(py, &canonical)?, contents.as_deref())
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
    let (ids, bodies, hashes) = (chunk_ids.as_strs()?, texts.as_strs()?, expected.as_bytes()?);
    let (differing, contents) = detached(py, bytes_in(&bodies), || {
        let differing = hash::verify_chunk_hashes(&ids, &bodies, &hashes)?;
        fathomdb_core::Result::Ok((differing, content.then(|| hash::content_hashes(&bodies))))
    })?;
    with_content(PyList::new(py, differing)?, contents.as_deref())
}

/// SHA-256 of each text alone.
#[pyfunction]
pub fn content_hashes<'py>(
    py: Python<'py>,
    texts: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyList>> {
    let texts = Items::of("texts", texts)?;
    let bodies = texts.as_strs()?;
    let digests = detached(py, bytes_in(&bodies), || hash::content_hashes(&bodies));
    Ok(convert::digests_out(py, &digests)?)
}

fn bytes_in(texts: &[&str]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

fn with_content<'py>(
    result: Bound<'py, PyList>,
    contents: Option<&[hash::Digest]>,
) -> Result<Bound<'py, PyAny>> {
    let py = result.py();
    match contents {
        None => Ok(result.into_any()),
        Some(contents) => Ok((result, convert::digests_out(py, contents)?)
            .into_pyobject(py)?
            .into_any()),
    }
}
