//! Why a layer cannot be read.

use std::io;

/// A layer that is broken, hostile, or beyond what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Reading the stream, or writing what it holds, failed.
    #[error("reading a layer: {0}")]
    Io(#[from] io::Error),
    /// The stream ended within a header or a file.
    #[error("the layer ends in the middle of {0}: it was cut short")]
    Truncated(&'static str),
    /// A header block whose checksum does not fit it.
    #[error("the layer is not a tar archive, or damaged: bad header checksum at byte {0}")]
    Checksum(u64),
    /// A number field that is none.
    #[error("{path}: bad {field} in the tar header")]
    Number {
        /// Member, escaped.
        path: String,
        /// Header field.
        field: &'static str,
    },
    /// A PAX extended header that breaks its own length rules.
    #[error("malformed PAX header before byte {0}")]
    Pax(u64),
    /// A PAX key whose value is not usable.
    #[error("bad value of the PAX key {0}")]
    PaxValue(String),
    /// Two ways of naming that contradict each other.
    #[error("a member is named both by a PAX header and by a GNU long name: the archive is ambiguous")]
    Ambiguous,
    /// A name that leads out of the root, or that no file can have.
    #[error("{path}: refused: {reason}")]
    Path {
        /// The name, escaped.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An extended attribute by which an image could make the overlay read what is not its own.
    #[error("{path}: refused: extended attribute {name} would forge what the overlay file system trusts")]
    ForgedXattr {
        /// Member, escaped.
        path: String,
        /// Attribute, escaped.
        name: String,
    },
    /// A sparse map that is inconsistent.
    #[error("{path}: bad sparse map")]
    Sparse {
        /// Member, escaped.
        path: String,
    },
    /// More than the limits allow.
    #[error("the layer exceeds the limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
    /// A record in the store that is damaged, or of a newer version.
    #[error("a layer record is damaged ({0}): `lstore fsck --repair`, then pull the image again")]
    Record(&'static str),
}

/// Bytes of an image as text that a terminal can show.
pub fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
