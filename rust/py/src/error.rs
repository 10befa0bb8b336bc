//! One exhaustive map from what the Rust side refuses to the classes of `fathomdb.errors`.

use std::fmt;

use fathomdb_core::Error as Kernel;
use pyo3::PyErr;

mod classes {
    //! The taxonomy is Python's; these are its classes, looked up where they are raised first.
    use pyo3::import_exception;
    import_exception!(fathomdb.errors, CorruptDatabaseError);
    import_exception!(fathomdb.errors, DimensionMismatchError);
    import_exception!(fathomdb.errors, EmbedderContractError);
    import_exception!(fathomdb.errors, InvalidInputError);
}

/// What a function of the border returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong at the border.
#[derive(Debug)]
pub enum Error {
    /// A kernel refused its input.
    Kernel(Kernel),
    /// An argument is not what the function takes.
    InvalidInput(String),
    /// What an embedder returned is not an array of vectors.
    Contract(String),
    /// Python itself raised.
    Python(PyErr),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::InvalidInput(message) | Self::Contract(message) => message.fmt(f),
            Self::Python(error) => error.fmt(f),
        }
    }
}

impl From<Kernel> for Error {
    fn from(error: Kernel) -> Self {
        Self::Kernel(error)
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Kernel(
                Kernel::EmptyChunkId { .. }
                | Kernel::NulInChunkId { .. }
                | Kernel::LengthsDiffer { .. }
                | Kernel::DigestLength { .. }
                | Kernel::ZeroDimension
                | Kernel::TooLarge { .. }
                | Kernel::ZeroChunkChars,
            )
            | Error::InvalidInput(_) => classes::InvalidInputError::new_err(message),
            Error::Kernel(Kernel::BlobLength { .. }) => {
                classes::DimensionMismatchError::new_err(message)
            }
            Error::Kernel(Kernel::BlockShape { .. } | Kernel::NotFinite { .. }) => {
                classes::CorruptDatabaseError::new_err(message)
            }
            Error::Contract(_) => classes::EmbedderContractError::new_err(message),
            Error::Python(error) => error,
        }
    }
}
