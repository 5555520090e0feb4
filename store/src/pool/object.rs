//! The number of an object.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

use super::Hash;

/// Number of one file content: the ingest that wrote it, shifted left by 24 bits, and its sequence therein.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

impl ObjectId {
    /// Bits of the sequence.
    const SEQUENCE_BITS: u32 = 24;
    /// The largest sequence within one ingest: the most contents that one layer can bring.
    pub const LAST_SEQUENCE: u64 = (1 << Self::SEQUENCE_BITS) - 1;

    /// The object `sequence` of an ingest.
    pub const fn new(ingest: u64, sequence: u64) -> Self {
        Self(ingest << Self::SEQUENCE_BITS | sequence)
    }

    /// Number of the ingest that wrote it, which names its folder.
    pub const fn directory(self) -> u64 {
        self.0 >> Self::SEQUENCE_BITS
    }

    /// Its number within the ingest, which names its file.
    pub const fn sequence(self) -> u64 {
        self.0 & Self::LAST_SEQUENCE
    }

    /// Path under the pool's root as an overlay redirect (`user.overlay.redirect`): `/<ingest>/<sequence>`, hexadecimal.
    /// At most 18 bytes, as numbers of ingests are below 2^39.
    pub fn name(self) -> String {
        format!("/{:x}/{:x}", self.directory(), self.sequence())
    }
}

impl ToSql for ObjectId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for ObjectId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u64::column_result(value).map(Self)
    }
}

/// An object that an ingest wrote and that the index does not know yet.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its number.
    pub id: ObjectId,
    /// BLAKE3 of its content.
    pub hash: Hash,
    /// Bytes of content.
    pub size: u64,
    /// Bytes that the file system allots to it.
    pub disk: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_inode() {
        assert_eq!(ObjectId::new(0x3f, 0x1a).name(), "/3f/1a");
        // The first content of a store with the prefix 0x5a3f, and the last that any store can have.
        assert_eq!(ObjectId::new(0x5a3f << 24 | 1, 0).name(), "/5a3f000001/0");
        let last = ObjectId::new((1 << 39) - 1, ObjectId::LAST_SEQUENCE);
        assert_eq!((last.name().as_str(), last.name().len()), ("/7fffffffff/ffffff", 18));
        assert!(i64::try_from(last.0).is_ok(), "the index keeps numbers with a sign");
    }

    #[test]
    fn numbers_split_as_they_were_joined() {
        let id = ObjectId::new(77, 12_345);
        assert_eq!((id.directory(), id.sequence()), (77, 12_345));
    }
}
