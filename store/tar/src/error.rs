//! Why an archive cannot be read.

use std::io;

/// An archive that is broken, hostile, or beyond what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading the stream failed.
    #[error("reading the archive: {0}")]
    Io(#[from] io::Error),
    /// The stream ended within a header or a file.
    #[error("the archive ends in the middle of {0}: it was cut short")]
    Truncated(&'static str),
    /// A header block whose checksum does not fit it.
    #[error("not a tar archive, or a damaged one: bad header checksum at byte {0}")]
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
    /// A PAX key in a global header that only the header of one member may have.
    #[error("a global PAX header has the key {0}, which may stand before one member only")]
    Global(String),
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
    /// A device that no file system of Linux can hold: cut to size, its numbers would be those of another device.
    #[error("{path}: refused: device {major}:{minor} is beyond the kernel's numbers, which end at 4095:1048575")]
    Device {
        /// Member, escaped.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
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
    #[error("the archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
}

/// Bytes of an archive as text that a terminal can show.
pub fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
