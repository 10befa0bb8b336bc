//! Columns of other libraries, through Arrow's C data interface.

#![expect(
    unsafe_code,
    reason = "memory that another library owns, described by its own structs"
)]

use std::ffi::{CStr, c_char, c_void};
use std::{ptr, slice};

use fathomdb_core::record::{Bits, Column, Values};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use super::{Items, described};
use crate::error::{Error, Result};

/// `struct ArrowSchema`, as far as a column without children needs it.
#[repr(C)]
struct Schema {
    format: *const c_char,
}

/// `struct ArrowArray`, as far as a column without children needs it.
#[repr(C)]
struct Array {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const c_void,
}

/// What a column's `__arrow_c_array__` returned: the capsules keep its memory, and end it.
struct Held<'py> {
    schema: Bound<'py, PyCapsule>,
    array: Bound<'py, PyCapsule>,
}

/// Arrays of Arrow whose memory is held for as long as this is.
pub struct Columns<'py> {
    name: &'static str,
    held: Vec<Held<'py>>,
}

impl<'py> Columns<'py> {
    /// Takes hold of the arrays in the argument called `name`.
    pub fn of(name: &'static str, arrays: &Bound<'py, PyAny>) -> Result<Self> {
        let items = Items::of(name, arrays)?;
        let held = items.tuple.iter().map(|array| hold(name, &array));
        Ok(Self {
            name,
            held: held.collect::<Result<_>>()?,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// The columns, each of `rows` rows.
    pub fn columns(&self, rows: usize) -> Result<Vec<Column<'_>>> {
        let columns = self.held.iter().enumerate();
        columns
            .map(|(index, held)| {
                column(held, rows).map_err(|why| {
                    Error::InvalidInput(format!("{} at index {index} {why}", self.name))
                })
            })
            .collect()
    }
}

fn hold<'py>(name: &str, array: &Bound<'py, PyAny>) -> Result<Held<'py>> {
    let door = intern!(array.py(), "__arrow_c_array__");
    if !array.hasattr(door)? {
        let got = described(array);
        return Err(Error::InvalidInput(format!(
            "{name} must be arrays of Arrow, got {got}"
        )));
    }
    let pair = array.call_method0(door)?;
    let pair = pair.cast::<PyTuple>().map_err(PyErr::from)?;
    let capsule = |index| -> Result<Bound<'py, PyCapsule>> {
        let capsule = pair.get_item(index)?.cast_into::<PyCapsule>();
        Ok(capsule.map_err(PyErr::from)?)
    };
    Ok(Held {
        schema: capsule(0)?,
        array: capsule(1)?,
    })
}

fn column<'a>(held: &'a Held<'_>, rows: usize) -> std::result::Result<Column<'a>, String> {
    let schema = pointer::<Schema>(&held.schema, c"arrow_schema")?;
    let array = pointer::<Array>(&held.array, c"arrow_array")?;
    // SAFETY: by the interface a capsule of that name has a schema.
    let schema = unsafe { &*schema };
    // SAFETY: by the interface its format is a string that ends.
    let format = unsafe { CStr::from_ptr(schema.format) }.to_bytes();
    // SAFETY: by the interface a capsule of that name has an array.
    let array = unsafe { &*array };
    let size = |number: i64| usize::try_from(number).map_err(|_| "has a size below 0".to_owned());
    let (length, first) = (size(array.length)?, size(array.offset)?);
    if length != rows {
        return Err(format!("has {length} rows, and the table has {rows}"));
    }
    let count = size(array.n_buffers)?;
    let buffer = |index: usize| {
        if index < count {
            // SAFETY: the array says that it has more buffers than that.
            let place = unsafe { array.buffers.add(index) };
            // SAFETY: as above.
            unsafe { *place }
        } else {
            ptr::null()
        }
    };
    let bits = |index: usize| {
        // SAFETY: a buffer of bits has one for each row after the first ones that are skipped.
        let bytes = unsafe { memory::<u8>(buffer(index), 0, (first + rows).div_ceil(8)) }?;
        Ok::<_, String>(Bits { bytes, first })
    };
    let values = match format {
        b"n" => Values::Null,
        b"b" => Values::Bools(bits(1)?),
        // SAFETY: a buffer of numbers has one for each row; so in the next two.
        b"l" => Values::Ints(unsafe { memory(buffer(1), first, rows) }?),
        // SAFETY: as above.
        b"L" => Values::Naturals(unsafe { memory(buffer(1), first, rows) }?),
        // SAFETY: as above.
        b"g" => Values::Floats(unsafe { memory(buffer(1), first, rows) }?),
        b"U" if rows == 0 => Values::Null,
        b"U" => {
            // SAFETY: a buffer of offsets has one more than there are rows.
            let offsets: &[i64] = unsafe { memory(buffer(1), first, rows + 1) }?;
            let end = size(offsets[rows])?;
            // SAFETY: the last offset is where the texts end.
            let bytes = unsafe { memory(buffer(2), 0, end) }?;
            Values::Texts { offsets, bytes }
        }
        _ => {
            let format = String::from_utf8_lossy(format);
            return Err(format!("has the format {format:?}, which is not read"));
        }
    };
    let has_gaps = array.null_count != 0 && !buffer(0).is_null() && format != b"n";
    Ok(Column {
        values,
        valid: if has_gaps { Some(bits(0)?) } else { None },
    })
}

fn pointer<T>(
    capsule: &Bound<'_, PyCapsule>,
    name: &CStr,
) -> std::result::Result<*const T, String> {
    let found = capsule.pointer_checked(Some(name));
    let found = found.map_err(|_| format!("exports no capsule of the name {name:?}"))?;
    Ok(found.as_ptr().cast_const().cast())
}

/// # Safety
/// Where it is not null, `start` has `first + count` values, which stay as they are for `'a`.
unsafe fn memory<'a, T>(
    start: *const c_void,
    first: usize,
    count: usize,
) -> std::result::Result<&'a [T], String> {
    let start = start.cast::<T>();
    if count == 0 {
        return Ok(&[]);
    }
    if start.is_null() || !start.is_aligned() {
        return Err("has no buffer of values, or one that is not aligned".to_owned());
    }
    // SAFETY: the caller's promise.
    let start = unsafe { start.add(first) };
    // SAFETY: the caller's promise.
    Ok(unsafe { slice::from_raw_parts(start, count) })
}
