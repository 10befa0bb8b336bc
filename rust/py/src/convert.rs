//! The only room that reads Python objects: here texts, digests and integers; `memory` holds
//! buffers, `vectors` reads what an embedder returned, `columns` what Arrow exports.

use std::fmt::Write as _;
use std::ops::Range;

use fathomdb_core::hash::Digest;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString, PyTuple};

use crate::error::{Error, Result};

mod columns;
mod memory;
mod vectors;

pub use columns::Columns;
pub use memory::{Blobs, NewBlob, row_views};
pub use vectors::Vectors;

/// The items of a sequence, held by a tuple of our own.
///
/// Another thread may change the caller's list while the GIL is released; nobody can change this
/// tuple, and it keeps every item alive for as long as slices of them are in use.
pub struct Items<'py> {
    name: &'static str,
    tuple: Bound<'py, PyTuple>,
}

impl<'py> Items<'py> {
    /// Takes hold of the items of the argument called `name`.
    pub fn of(name: &'static str, sequence: &Bound<'py, PyAny>) -> Result<Self> {
        let refused = || {
            Error::InvalidInput(format!(
                "{name} must be a list, got {}",
                described(sequence)
            ))
        };
        // A lone string or blob is a sequence of its characters too, and always a mistake here.
        if sequence.is_instance_of::<PyString>() || sequence.is_instance_of::<PyBytes>() {
            return Err(refused());
        }
        let tuple = if let Ok(tuple) = sequence.cast_exact::<PyTuple>() {
            tuple.clone()
        } else if let Ok(list) = sequence.cast::<PyList>() {
            list.to_tuple()
        } else {
            let items = sequence.try_iter().map_err(|_| refused())?;
            PyTuple::new(sequence.py(), items.collect::<PyResult<Vec<_>>>()?)?
        };
        Ok(Self { name, tuple })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tuple.len()
    }

    /// The items as UTF-8, without a copy where Python has it ready (all ASCII does).
    pub fn as_strs(&self) -> Result<Vec<&str>> {
        self.part_as_strs(0..self.len())
    }

    /// Those of a part of them.
    pub fn part_as_strs(&self, part: Range<usize>) -> Result<Vec<&str>> {
        self.part(part)
            .map(|(index, item)| utf8(self.name, Some(index), item))
            .collect()
    }

    /// The items as bytes.
    pub fn as_bytes(&self) -> Result<Vec<&[u8]>> {
        self.part_as_bytes(0..self.len())
    }

    /// Those of a part of them.
    pub fn part_as_bytes(&self, part: Range<usize>) -> Result<Vec<&[u8]>> {
        self.part(part)
            .map(|(index, item)| {
                item.extract().map_err(|_| {
                    Error::InvalidInput(format!(
                        "{} at index {index} must be bytes, got {}",
                        self.name,
                        type_name(&item)
                    ))
                })
            })
            .collect()
    }

    /// The items as keys of rows.
    pub fn as_keys(&self) -> Result<Vec<i64>> {
        self.as_integers("an integer of 64 bits")
    }

    /// The items as places in a batch.
    pub fn as_places(&self) -> Result<Vec<usize>> {
        self.as_integers("an integer of 0 or more")
    }

    fn as_integers<T: for<'a> FromPyObject<'a, 'py>>(&self, what: &str) -> Result<Vec<T>> {
        self.part(0..self.len())
            .map(|(index, item)| {
                item.extract().map_err(|_| {
                    Error::InvalidInput(format!(
                        "{} at index {index} must be {what}, got {}",
                        self.name,
                        short_repr(&item)
                    ))
                })
            })
            .collect()
    }

    fn part(&self, part: Range<usize>) -> impl Iterator<Item = (usize, Borrowed<'_, 'py, PyAny>)> {
        part.map(|index| {
            let item = self.tuple.get_borrowed_item(index);
            (index, item.expect("a part is of this many items"))
        })
    }
}

/// One string argument as UTF-8.
pub fn str_of<'a>(name: &str, item: &'a Bound<'_, PyAny>) -> Result<&'a str> {
    utf8(name, None, item.as_borrowed())
}

fn utf8<'a>(name: &str, index: Option<usize>, item: Borrowed<'a, '_, PyAny>) -> Result<&'a str> {
    item.extract().map_err(|_: PyErr| {
        let place = index.map_or_else(
            || name.to_owned(),
            |index| format!("{name} at index {index}"),
        );
        Error::InvalidInput(if item.is_instance_of::<PyString>() {
            let shown = short_repr(&item);
            format!("{place} has a lone surrogate and so no UTF-8 form: {shown}; repair the text")
        } else {
            format!("{place} must be a str, got {}", type_name(&item))
        })
    })
}

/// Adds digests to a list, as bytes.
pub fn append_digests(list: &Bound<'_, PyList>, digests: &[Digest]) -> PyResult<()> {
    let mut digests = digests.iter();
    digests.try_for_each(|digest| list.append(PyBytes::new(list.py(), digest)))
}

fn short_repr(item: &Bound<'_, PyAny>) -> String {
    const SHOWN: usize = 60;
    let Ok(repr) = item.repr() else {
        return type_name(item);
    };
    let repr = repr.to_string_lossy();
    match repr.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &repr[..end]),
        None => repr.into_owned(),
    }
}

fn type_name(item: &Bound<'_, PyAny>) -> String {
    item.get_type()
        .fully_qualified_name()
        .map_or_else(|_| "object".to_owned(), |n| n.to_string())
}

/// A dimension, where one is given: any integer from 1 on, but not a bool.
pub fn dimension_of(dimension: &Bound<'_, PyAny>) -> Result<Option<usize>> {
    if dimension.is_none() {
        return Ok(None);
    }
    positive("dimension", dimension).map(Some)
}

/// A number of things that must be 1 or more.
pub fn positive(name: &str, number: &Bound<'_, PyAny>) -> Result<usize> {
    let wrong = || {
        let shown = short_repr(number);
        Error::InvalidInput(format!(
            "{name} must be an integer of 1 or more, got {shown}"
        ))
    };
    if !number.is_instance_of::<PyInt>() || number.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    number
        .extract()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(wrong)
}

/// What an object is, in the words of its own shape and dtype where it has them.
fn described(object: &Bound<'_, PyAny>) -> String {
    let mut words = type_name(object);
    for attribute in ["shape", "dtype"] {
        if let Ok(value) = object.getattr(attribute).and_then(|value| value.str()) {
            write!(words, ", {attribute} {value}").expect("a String takes every write");
        }
    }
    words
}
