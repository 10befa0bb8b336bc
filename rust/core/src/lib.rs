//! The pure kernels of `FathomDB`. They know nothing of Python, SQL or threads of others.
//!
//! One file an idea: [`hash`] names a text, [`vector`] judges a row of numbers, [`blob`] brings
//! rows from foreign memory into one buffer and back, [`split`] cuts a text into pieces, [`content`] finds one again,
//! [`record`] reads tables, [`codes`] tells which vectors are worth a look.

pub mod blob;
pub mod codes;
pub mod content;
pub mod error;
pub mod hash;
pub mod record;
mod sha256;
pub mod split;
pub mod vector;

pub use error::{Error, Result};

/// Blobs are little-endian and are written as the CPU's own floats, as sqlite-vec reads them.
#[cfg(target_endian = "big")]
compile_error!("FathomDB stores vectors as the CPU's own floats and needs a little-endian target");
