//! The border between Python and the kernels: the table of contents of `fathomdb._native`.
//!
//! Every function has one shape: convert under the GIL, work detached, convert out.

mod blob;
mod codes;
mod content;
mod convert;
mod detach;
mod error;
mod hash;
mod record;
mod split;
mod vector;

use pyo3::prelude::*;

/// The hot path of `FathomDB`: hashes, vectors, blobs and splitting, with the GIL released.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::blob::unpack_vectors;
    #[pymodule_export]
    use crate::codes::CodeIndex;
    #[pymodule_export]
    use crate::content::ContentIndex;
    #[pymodule_export]
    use crate::hash::{
        canonical_chunk_hash, canonical_chunk_hashes, content_hashes, verify_chunk_hashes,
    };

    #[pymodule_export]
    use crate::record::read_records;
    #[pymodule_export]
    use crate::split::split_text;
    #[pymodule_export]
    use crate::vector::{PackedVectors, pack_vectors};

    /// The rules by which `split_text` cuts.
    #[pymodule_export]
    const SPLITTER_VERSION: &str = fathomdb_core::split::SPLITTER_VERSION;

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's own name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// How the module was built; benches refuse `"debug"`.
    #[pymodule_export]
    const BUILD: &str = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
}
