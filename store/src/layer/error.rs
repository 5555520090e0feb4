//! Why a layer cannot be read.

use std::io;

use lstore_tar::TarError;

/// A layer that is broken, hostile, or beyond what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its tar cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Writing what it holds, or reading its record, failed.
    #[error("reading a layer: {0}")]
    Io(#[from] io::Error),
    /// More than [`Limits`](super::limits::Limits) allow.
    #[error("the layer exceeds the limit of {limit} {what}; LSTORE_LIMITS can raise it")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
    /// Sparse files that are out of all proportion to the layer.
    #[error(
        "{path}: with it the files of the layer have {logical} bytes, holes counted; the limit for a layer of this size is {limit}; LSTORE_LIMITS can raise it"
    )]
    Holes {
        /// The member that is too much, escaped.
        path: String,
        /// Bytes of all files up to this one, holes counted.
        logical: u64,
        /// How many are accepted.
        limit: u64,
    },
    /// A record in the store that is damaged, or of a newer version.
    #[error("a layer record is damaged ({0}): `lstore fsck --repair`, then pull the image again")]
    Record(&'static str),
}
