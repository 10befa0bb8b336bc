//! Memory of Python objects: arrays to read from, blobs to write to.

#![expect(
    unsafe_code,
    reason = "memory that Python owns: arrays to read from, and a new bytes object to write to"
)]

use std::mem::MaybeUninit;
use std::{ptr, slice};

use fathomdb_core::blob::{COLUMN_BYTES, Element, ForeignRow, Slot, blob_bytes};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice, PyType};
use pyo3::{ffi, intern};

use super::{Items, described};
use crate::error::{Error, Result};

/// An array of floats, of any number of dimensions, whose memory is held for as long as this is.
pub struct Array {
    buffer: PyUntypedBuffer,
    element: Element,
}

impl Array {
    /// Takes hold of the memory of an object; the inner error says why it cannot be read.
    pub fn of(object: &Bound<'_, PyAny>) -> Result<std::result::Result<Self, String>> {
        let held = Self::hold(object)?;
        // Tensors of other libraries have no buffer, but one door to NumPy where they can be read
        // at all. A masked array has it too, and would come out of it without its mask.
        let door = intern!(object.py(), "__array__");
        if held.is_ok() || is_masked(object)? || !object.get_type().hasattr(door)? {
            return Ok(held);
        }
        match object.call_method0(door) {
            Ok(array) => Self::hold(&array),
            Err(error) => Ok(Err(told(error, object.py())?)),
        }
    }

    fn hold(object: &Bound<'_, PyAny>) -> Result<std::result::Result<Self, String>> {
        if is_masked(object)? {
            return Ok(Err(
                "is masked, and a masked number is none; fill it".to_owned()
            ));
        }
        let buffer = match PyUntypedBuffer::get(object) {
            Ok(buffer) => buffer,
            Err(error) => return Ok(Err(told(error, object.py())?)),
        };
        let format = buffer.format().to_bytes();
        let native = format
            .strip_prefix(b"@")
            .or_else(|| format.strip_prefix(b"="));
        let element = match native
            .or_else(|| format.strip_prefix(b"<"))
            .unwrap_or(format)
        {
            b"e" => Element::F16,
            b"f" => Element::F32,
            b"d" => Element::F64,
            _ => {
                let format = buffer.format().to_string_lossy().into_owned();
                return Ok(Err(format!("has elements of the buffer format {format:?}")));
            }
        };
        if buffer.suboffsets().is_some() {
            return Ok(Err("has its rows behind pointers".to_owned()));
        }
        Ok(Ok(Self { buffer, element }))
    }

    pub fn shape(&self) -> &[usize] {
        self.buffer.shape()
    }

    /// A row of a matrix, or all of an array of one dimension.
    pub fn row(&self, index: usize) -> ForeignRow {
        let (shape, strides) = (self.buffer.shape(), self.buffer.strides());
        let (columns, stride) = (shape[shape.len() - 1], strides[strides.len() - 1]);
        let offset = if shape.len() == 1 {
            0
        } else {
            index as isize * strides[0]
        };
        let first = self
            .buffer
            .buf_ptr()
            .cast::<u8>()
            .cast_const()
            .wrapping_offset(offset);
        // SAFETY: shape and strides are the exporter's own description of the memory that it keeps
        // in place until the buffer is released, and whoever uses the row holds this array.
        unsafe { ForeignRow::new(first, columns, stride, self.element) }
    }
}

fn is_masked(object: &Bound<'_, PyAny>) -> Result<bool> {
    static PLAIN: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static MASKED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = object.py();
    // Almost every row is a plain array, and its type answers at once.
    Ok(!object.get_type().is(PLAIN.import(py, "numpy", "ndarray")?)
        && object.is_instance(MASKED.import(py, "numpy.ma", "MaskedArray")?)?)
}

/// The words of an exception; what is none (an interrupt, an exit) goes on.
fn told(error: PyErr, py: Python<'_>) -> Result<String> {
    if error.is_instance_of::<PyException>(py) {
        Ok(format!("cannot be read as an array ({error})"))
    } else {
        Err(error.into())
    }
}

/// Asks Linux to back a big blob, not written yet, with pages of 2 MB, as `NumPy` does for its arrays:
/// of 30 MB that is 7,000 page faults less, three quarters of the time that it takes to pack f64.
///
/// A wish: where huge pages are switched off, the memory is as it was.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(slots: &mut Slot) {
    const FROM_BYTES: usize = 4 << 20;
    /// Advice begins where a page does, of whatever size that is.
    const PAGE: usize = 64 << 10;
    if size_of_val(slots) < FROM_BYTES {
        return;
    }
    let skipped = slots.as_ptr().align_offset(PAGE);
    let (first, bytes) = (&raw mut slots[skipped], size_of_val(&slots[skipped..]));
    // SAFETY: it begins at a page and ends in memory that is ours; the advice, for the rest of the
    // last page too, changes neither what is there nor whether it can be written.
    unsafe { libc::madvise(first.cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// A bytes object that nobody else has seen yet, and so may still be written.
pub struct NewBlob<'py>(Bound<'py, PyBytes>);

impl<'py> NewBlob<'py> {
    /// Memory for `rows` rows of `dimension` columns.
    pub fn new(py: Python<'py>, rows: usize, dimension: usize) -> Result<Self> {
        let length = blob_bytes(rows, dimension)? as isize;
        // SAFETY: without a source, Python allocates the bytes and leaves them unwritten.
        let made = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), length) };
        // SAFETY: a new reference, or null with an exception set.
        let bytes = unsafe { Bound::from_owned_ptr_or_err(py, made) }?;
        Ok(Self(bytes.cast_into::<PyBytes>().map_err(PyErr::from)?))
    }

    /// The memory, one slot a column.
    pub fn slots(&mut self) -> &mut Slot {
        let slots = self.0.len().unwrap_or_default() / COLUMN_BYTES;
        // SAFETY: the object is a bytes object.
        let first = unsafe { ffi::PyBytes_AsString(self.0.as_ptr()) };
        #[expect(clippy::cast_ptr_alignment, reason = "asserted in the next line")]
        let first = first.cast::<MaybeUninit<f32>>();
        assert!(
            first.is_aligned(),
            "Python aligns the content of bytes to a pointer's size"
        );
        // SAFETY: aligned memory of that length, which nobody else can reach before `finish`.
        let slots = unsafe { slice::from_raw_parts_mut(first, slots) };
        #[cfg(target_os = "linux")]
        ask_for_huge_pages(slots);
        slots
    }

    /// The finished object.
    ///
    /// # Safety
    /// Every slot was written.
    pub unsafe fn finish(self) -> Bound<'py, PyBytes> {
        self.0
    }
}

/// Stored blobs: bytes, or anything else with contiguous memory.
pub struct Blobs<'py> {
    rows: Vec<ForeignRow>,
    lengths: Vec<usize>,
    /// Keeps the memory of `rows` readable.
    _items: Items<'py>,
    _held: Vec<PyUntypedBuffer>,
}

impl<'py> Blobs<'py> {
    /// Takes hold of the blobs.
    pub fn of(blobs: &Bound<'py, PyAny>) -> Result<Self> {
        let items = Items::of("blobs", blobs)?;
        let count = items.tuple.len();
        let (mut rows, mut lengths) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut held = Vec::new();
        for (index, item) in items.tuple.iter_borrowed().enumerate() {
            let (first, bytes) = if let Ok(bytes) = item.cast::<PyBytes>() {
                (bytes.as_bytes().as_ptr(), bytes.as_bytes().len())
            } else {
                let buffer = PyUntypedBuffer::get(&item).ok();
                let buffer = buffer
                    .filter(PyUntypedBuffer::is_c_contiguous)
                    .ok_or_else(|| {
                        let got = described(&item);
                        Error::InvalidInput(format!(
                            "blobs at index {index} must be bytes, got {got}"
                        ))
                    })?;
                let memory = (
                    buffer.buf_ptr().cast::<u8>().cast_const(),
                    buffer.len_bytes(),
                );
                held.push(buffer);
                memory
            };
            let (columns, stride) = (bytes / COLUMN_BYTES, COLUMN_BYTES as isize);
            // SAFETY: contiguous memory of that many bytes, which `self` keeps in place.
            rows.push(unsafe { ForeignRow::new(first, columns, stride, Element::F32) });
            lengths.push(bytes);
        }
        Ok(Self {
            rows,
            lengths,
            _items: items,
            _held: held,
        })
    }

    /// The blobs as rows of as many columns as fit into them.
    pub fn rows(&self) -> &[ForeignRow] {
        &self.rows
    }

    /// How many bytes each has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// One view a row into the blob.
pub fn row_views<'py>(
    blob: &Bound<'py, PyBytes>,
    dimension: usize,
) -> PyResult<Bound<'py, PyList>> {
    let view = PyMemoryView::from(blob.as_any())?;
    let bytes = (dimension * COLUMN_BYTES) as isize;
    let starts = (0..blob.as_bytes().len() as isize).step_by(dimension * COLUMN_BYTES);
    let rows = starts.map(|start| view.get_item(PySlice::new(blob.py(), start, start + bytes, 1)));
    PyList::new(blob.py(), rows.collect::<PyResult<Vec<_>>>()?)
}
