//! Columns of Arrow to records.

use fathomdb_core::record::{self, Layout, Property, Record};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::convert::{self, Columns, Items};
use crate::detach::detached;
use crate::error::{Error, Result};

/// The records of a table by column: (ids, texts, properties, chunk ids, sizes, hashes), or None.
#[pyfunction]
#[pyo3(signature = (rows, *, kind, ids, id_is_optional, texts, keys, properties, are_json, id_bytes, text_bytes, chunk_chars))]
#[expect(
    clippy::too_many_arguments,
    reason = "what of a table is what of a record"
)]
pub fn read_records<'py>(
    py: Python<'py>,
    rows: usize,
    kind: &Bound<'py, PyAny>,
    ids: &Bound<'py, PyAny>,
    id_is_optional: bool,
    texts: &Bound<'py, PyAny>,
    keys: &Bound<'py, PyAny>,
    properties: &Bound<'py, PyAny>,
    are_json: Vec<bool>,
    id_bytes: usize,
    text_bytes: usize,
    chunk_chars: &Bound<'py, PyAny>,
) -> Result<Option<Bound<'py, PyTuple>>> {
    let (ids, texts) = (Columns::of("ids", ids)?, Columns::of("texts", texts)?);
    let properties = Columns::of("properties", properties)?;
    let keys = Items::of("keys", keys)?;
    let keys = keys.as_strs()?;
    if keys.len() != properties.count() || are_json.len() != properties.count() {
        let (keys, columns) = (keys.len(), properties.count());
        return Err(Error::InvalidInput(format!(
            "keys and are_json must have one item for each of the {columns} columns of \
             properties, got {keys} and {}",
            are_json.len()
        )));
    }
    let columns = properties.columns(rows)?;
    let layout = Layout {
        kind: convert::str_of("kind", kind)?,
        ids: ids.columns(rows)?,
        id_is_optional,
        texts: texts.columns(rows)?,
        properties: keys
            .iter()
            .zip(columns)
            .zip(are_json)
            .map(|((key, column), is_json)| Property {
                key: (*key).to_owned(),
                column,
                is_json,
            })
            .collect(),
        id_bytes,
        text_bytes,
        chunk_chars: convert::positive("chunk_chars", chunk_chars)?,
    };
    // All of a table is worth it: a row is some hundred bytes to check, to write and to hash.
    let Some(records) = detached(py, usize::MAX, || record::records(&layout, rows))? else {
        return Ok(None);
    };
    Ok(Some(lists(py, &records)?))
}

fn lists<'py>(py: Python<'py>, records: &[Record]) -> PyResult<Bound<'py, PyTuple>> {
    let string = |text: &str| PyString::new(py, text);
    let chunks = || records.iter().map(|record| record.chunk.as_ref());
    let columns = [
        PyList::new(py, records.iter().map(|record| string(&record.id)))?,
        PyList::new(
            py,
            records
                .iter()
                .map(|record| record.text.as_deref().map(string)),
        )?,
        PyList::new(
            py,
            records
                .iter()
                .map(|record| record.properties.as_deref().map(string)),
        )?,
        PyList::new(py, chunks().map(|chunk| chunk.map(|(id, _)| string(id))))?,
        PyList::new(
            py,
            records
                .iter()
                .map(|record| record.text.as_ref().map_or(0, String::len)),
        )?,
        PyList::new(
            py,
            chunks().map(|chunk| chunk.map(|(_, hash)| PyBytes::new(py, hash))),
        )?,
    ];
    PyTuple::new(py, columns)
}
