//! What a kernel refuses. The border maps each variant to a Python class, one by one.

use std::fmt;

/// What a kernel returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An input that a kernel refuses. `index` is the place in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A `chunk_id` without a character.
    EmptyChunkId {
        /// Place in the batch.
        index: usize,
    },
    /// A `chunk_id` with a NUL, which is the separator of the canonical framing.
    NulInChunkId {
        /// Place in the batch.
        index: usize,
        /// The id.
        chunk_id: String,
    },
    /// Sequences that belong together item by item, but differ in length.
    LengthsDiffer {
        /// The name of the other sequence.
        other: &'static str,
        /// How many ids there are.
        chunk_ids: usize,
        /// How many items the other sequence has.
        others: usize,
    },
    /// A stored hash that is not 32 bytes.
    DigestLength {
        /// Place in the batch.
        index: usize,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A vector dimension of zero.
    ZeroDimension,
    /// More bytes than memory can address.
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        dimension: usize,
    },
    /// A stored vector whose length is not four bytes a dimension.
    BlobLength {
        /// Place in the batch.
        index: usize,
        /// Its length in bytes.
        bytes: usize,
        /// The dimension that was asked for.
        dimension: usize,
    },
    /// A piece length of zero characters.
    ZeroChunkChars,
    /// A block of stored vectors whose parts do not fit together.
    BlockShape {
        /// Bytes that say which rows are there.
        validity: usize,
        /// Bytes of keys.
        keys: usize,
        /// Bytes of vectors.
        vectors: usize,
        /// The numbers of a vector.
        dimension: usize,
    },
    /// A stored vector with a number that is none.
    NotFinite {
        /// Its key.
        key: i64,
    },
}

impl Error {
    /// The same error of a whole batch, where this was of its part from `first` on.
    #[must_use]
    pub fn counted_from(mut self, first: usize) -> Self {
        if let Self::EmptyChunkId { index }
        | Self::NulInChunkId { index, .. }
        | Self::DigestLength { index, .. } = &mut self
        {
            *index += first;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyChunkId { index } => {
                write!(
                    f,
                    "chunk_id at index {index} is empty; give every chunk an id"
                )
            }
            Self::NulInChunkId { index, chunk_id } => write!(
                f,
                "chunk_id at index {index} contains a NUL character: {}; remove it",
                shortened(chunk_id)
            ),
            Self::LengthsDiffer {
                other,
                chunk_ids,
                others,
            } => write!(
                f,
                "chunk_ids has {chunk_ids} items and {other} has {others}; they must be as many"
            ),
            Self::DigestLength { index, bytes } => write!(
                f,
                "expected hash at index {index} has {bytes} bytes; a canonical hash has 32"
            ),
            Self::ZeroDimension => write!(f, "dimension must be 1 or more, got 0"),
            Self::TooLarge { rows, dimension } => {
                write!(
                    f,
                    "{rows} rows of dimension {dimension} do not fit into memory"
                )
            }
            Self::BlobLength {
                index,
                bytes,
                dimension,
            } => write!(
                f,
                "vector blob at index {index} has {bytes} bytes; dimension {dimension} takes 4 \
                 bytes a column"
            ),
            Self::ZeroChunkChars => write!(f, "chunk_chars must be 1 or more, got 0"),
            Self::BlockShape {
                validity,
                keys,
                vectors,
                dimension,
            } => write!(
                f,
                "a block of stored vectors has {validity} bytes of flags, {keys} of keys and \
                 {vectors} of vectors, which do not fit together at dimension {dimension}"
            ),
            Self::NotFinite { key } => write!(
                f,
                "the stored vector of chunk_key {key} has a number that is not finite"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// A value as a message shows it: quoted, escaped, and short enough for a log line.
#[must_use]
pub fn shortened(value: &str) -> String {
    const SHOWN: usize = 60;
    let head: String = value.chars().take(SHOWN).collect();
    let more = if head.len() < value.len() { "..." } else { "" };
    format!("{head:?}{more}")
}
