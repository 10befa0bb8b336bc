//! What an embedder returned, read row by row.

#![expect(
    unsafe_code,
    reason = "a list of floats is read by the C interface, without an object for each"
)]

use fathomdb_core::blob::{Row, Slot, pack, zeroed};
use fathomdb_core::vector::Fault;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::memory::Array;
use super::{described, short_repr, type_name};
use crate::error::{Error, Result};

/// What an embedder returned.
pub enum Vectors<'py> {
    /// One array of two dimensions.
    Matrix(Array),
    /// A list of rows, held by a tuple of our own (see [`Items`]).
    Rows(Bound<'py, PyTuple>),
}

impl<'py> Vectors<'py> {
    /// Takes hold of the rows, or says why there are none.
    pub fn of(object: &Bound<'py, PyAny>) -> Result<Self> {
        if let Some(rows) = own_tuple(object) {
            return Ok(Self::Rows(rows));
        }
        let why = match Array::of(object)? {
            Ok(array) if array.shape().len() == 2 => return Ok(Self::Matrix(array)),
            Ok(array) => format!("has {} dimensions", array.shape().len()),
            Err(why) => why,
        };
        Err(not_vectors(object, &why))
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Matrix(array) => array.shape()[0],
            Self::Rows(rows) => rows.len(),
        }
    }

    /// The number of columns of the first row that is a vector.
    pub fn learn_dimension(&self) -> Result<usize> {
        let learned = match self {
            Self::Matrix(array) => array.shape()[1],
            Self::Rows(rows) => {
                let mut columns = rows.iter_borrowed().map(|row| columns_of(&row));
                columns
                    .find(|columns| !matches!(columns, Ok(0)))
                    .unwrap_or(Ok(0))?
            }
        };
        if learned == 0 {
            return Err(Error::Contract(format!(
                "a dimension cannot be learned from {} rows without a single column",
                self.count()
            )));
        }
        Ok(learned)
    }

    /// Reads the rows from `first` on, one for each `dimension` slots. Numbers in Python objects
    /// are written at once, since to read them takes the GIL; those in memory are left for later.
    pub fn batch<'a>(
        &'a self,
        first: usize,
        dimension: usize,
        slots: &'a mut Slot,
    ) -> Result<Batch<'a>> {
        let mut batch = Batch {
            rows: Vec::with_capacity(slots.len() / dimension),
            held: vec![],
        };
        for (index, slot) in slots.chunks_exact_mut(dimension).enumerate() {
            let row = match self {
                Self::Matrix(array) => Row::Foreign(array.row(first + index), slot),
                Self::Rows(rows) => {
                    let row = rows.get_borrowed_item(first + index)?;
                    read_row(&row, slot, &mut batch.held)?
                }
            };
            batch.rows.push(row);
        }
        Ok(batch)
    }
}

/// Rows that are ready to be packed without the GIL.
pub struct Batch<'a> {
    rows: Vec<Row<'a>>,
    /// Keeps the memory of `rows` readable.
    held: Vec<Array>,
}

impl Batch<'_> {
    /// Copies, judges and normalizes (`fathomdb_core::blob::pack`).
    pub fn pack(&mut self, normalize: bool) -> Vec<(usize, Fault)> {
        pack(std::mem::take(&mut self.rows), normalize)
    }
}

const NUMBER_FOR_ROW: &str = "stands in the place of a row";

/// One row of a list: a list or tuple of numbers, or an array of one dimension.
fn read_row<'a>(
    object: &Bound<'_, PyAny>,
    slot: &'a mut Slot,
    held: &mut Vec<Array>,
) -> Result<Row<'a>> {
    if let Some(numbers) = Numbers::of(object) {
        let target = zeroed(slot);
        return Ok(match numbers.write_to(target)? {
            None => Row::Written(target),
            Some(fault) => Row::Faulty(fault, target),
        });
    }
    match Array::of(object)? {
        Ok(array) if array.shape().len() == 1 => {
            let row = Row::Foreign(array.row(0), slot);
            held.push(array);
            Ok(row)
        }
        _ if is_number(object)? => Err(not_vectors(object, NUMBER_FOR_ROW)),
        _ => {
            let fault = Fault::NotNumeric {
                column: None,
                what: described(object),
            };
            Ok(Row::Faulty(fault, zeroed(slot)))
        }
    }
}

/// A list or tuple that should be a row of numbers.
struct Numbers<'a, 'py> {
    row: &'a Bound<'py, PyAny>,
    columns: usize,
    /// Borrows an item by its index, or raises where it has none.
    borrow: unsafe extern "C" fn(*mut ffi::PyObject, ffi::Py_ssize_t) -> *mut ffi::PyObject,
}

impl<'a, 'py> Numbers<'a, 'py> {
    fn of(row: &'a Bound<'py, PyAny>) -> Option<Self> {
        if let Ok(list) = row.cast::<PyList>() {
            Some(Self {
                row,
                columns: list.len(),
                borrow: ffi::PyList_GetItem,
            })
        } else {
            let tuple = row.cast::<PyTuple>().ok()?;
            Some(Self {
                row,
                columns: tuple.len(),
                borrow: ffi::PyTuple_GetItem,
            })
        }
    }

    fn write_to(&self, target: &mut [f32]) -> Result<Option<Fault>> {
        let (columns, expected) = (self.columns, target.len());
        if columns != expected {
            return Ok(Some(Fault::Dimension { columns, expected }));
        }
        for (column, target) in target.iter_mut().enumerate() {
            let number = match self.plain_float(column) {
                Some(number) => number,
                None => match self.other_number(column)? {
                    Ok(number) => number,
                    Err(fault) => return Ok(Some(fault)),
                },
            };
            #[expect(clippy::cast_possible_truncation, reason = "judged after the cast")]
            (*target = number as f32);
        }
        Ok(None)
    }

    /// The float in a column, where it is exactly that. Millions of them pass here, so their
    /// reference counts, each in a cache line of its own, are left alone.
    fn plain_float(&self, column: usize) -> Option<f64> {
        // SAFETY: the GIL is held, and `of` chose the function by the type of the row.
        let item = unsafe { (self.borrow)(self.row.as_ptr(), column as isize) };
        if item.is_null() {
            // The list shrank while an item before this one was read; `other_number` says so.
            // SAFETY: the GIL is held.
            unsafe { ffi::PyErr_Clear() };
            return None;
        }
        // SAFETY: the row keeps the item alive, since nothing here runs any code of Python.
        let is_plain = unsafe { ffi::PyFloat_CheckExact(item) } != 0;
        // SAFETY: as above, and of a float this cannot fail.
        is_plain.then(|| unsafe { ffi::PyFloat_AsDouble(item) })
    }

    #[cold]
    fn other_number(&self, column: usize) -> Result<std::result::Result<f64, Fault>> {
        let item = self.row.get_item(column)?;
        if !is_number(&item)? {
            let what = format!("{} ({})", short_repr(&item), type_name(&item));
            return Ok(Err(Fault::NotNumeric {
                column: Some(column),
                what,
            }));
        }
        match item.extract() {
            Ok(number) => Ok(Ok(number)),
            Err(error) => Ok(Ok(overflowed(error, item.py())?)),
        }
    }
}

/// A Python integer may have more digits than any float: it is infinite, as 1e300 is in f32.
fn overflowed(error: PyErr, py: Python<'_>) -> PyResult<f64> {
    if error.is_instance_of::<PyOverflowError>(py) {
        Ok(f64::INFINITY)
    } else {
        Err(error)
    }
}

/// Whether an object is a number on the real line: a float, an int, or a scalar of `NumPy`. A
/// bool is a yes or a no.
fn is_number(item: &Bound<'_, PyAny>) -> Result<bool> {
    // NumPy's scalars are no Python floats, except for float64.
    static SCALAR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if item.is_instance_of::<PyFloat>() || item.is_instance_of::<PyInt>() {
        return Ok(!item.is_instance_of::<PyBool>());
    }
    if !item.is_instance(SCALAR.import(item.py(), "numpy", "generic")?)? {
        return Ok(false);
    }
    let kind: char = item
        .getattr(intern!(item.py(), "dtype"))?
        .getattr("kind")?
        .extract()?;
    Ok(matches!(kind, 'f' | 'i' | 'u'))
}

/// The columns of a row; none where it is no vector, which `read_row` says in its place.
fn columns_of(row: &Bound<'_, PyAny>) -> Result<usize> {
    if let Some(numbers) = Numbers::of(row) {
        return Ok(numbers.columns);
    }
    match Array::of(row)? {
        Ok(array) if array.shape().len() == 1 => Ok(array.shape()[0]),
        _ if is_number(row)? => Err(not_vectors(row, NUMBER_FOR_ROW)),
        _ => Ok(0),
    }
}

/// The items of a list or tuple, held by a tuple of our own.
fn own_tuple<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyTuple>> {
    match object.cast::<PyTuple>() {
        Ok(tuple) => Some(tuple.clone()),
        Err(_) => object.cast::<PyList>().ok().map(PyListMethods::to_tuple),
    }
}

fn not_vectors(object: &Bound<'_, PyAny>, why: &str) -> Error {
    Error::Contract(format!(
        "the embedder returned {}, which {why}; return one row a text: a NumPy array of shape \
         (n, dimension) and dtype float16, float32 or float64 in native byte order, or a list of \
         rows",
        described(object)
    ))
}
