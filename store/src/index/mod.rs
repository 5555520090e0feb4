//! The index: what the files of the store mean. SQLite in WAL mode, short transactions only, never one held across
//! network or bulk file work.

pub mod garbage;
pub mod images;
pub mod layers;
pub mod objects;
pub mod packed;
pub mod trees;
pub mod usage;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, Transaction, TransactionBehavior, params};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};

/// Version of the schema, kept in `PRAGMA user_version`.
const SCHEMA: i64 = 2;
/// `PRAGMA application_id`: "lsto".
const APPLICATION: i64 = 0x6c73_746f;
/// Bytes of the header of an SQLite file.
pub(crate) const HEADER: usize = 100;
/// Its first bytes.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where in it the application id is, big endian.
const APPLICATION_AT: usize = 68;
/// The numbers of a store's ingests begin at a random multiple of this, below 2^15 times it: the names of contents differ
/// between stores, and stay short (`FORMAT.md`).
const INGESTS: u64 = 1 << 24;
/// The first SQLite whose WAL reset cannot lose commits of concurrent processes.
const SAFE_SQLITE: i32 = 3_051_003;
/// How long a statement waits for another process's transaction.
const BUSY: Duration = Duration::from_mins(1);

/// Version of the SQLite that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// Whether a file that begins so is one of SQLite's.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether it is also an index, by its application id.
pub(crate) fn is_header_of_ours(bytes: &[u8]) -> bool {
    let id = bytes.get(APPLICATION_AT..).and_then(|bytes| bytes.first_chunk::<4>());
    is_header(bytes) && id.is_some_and(|id| i64::from(u32::from_be_bytes(*id)) == APPLICATION)
}

/// Whether a file of SQLite's is an index, as its log has it. One that cannot be read is none.
pub(crate) fn is_ours(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let id = Connection::open_with_flags(path, flags)
        .and_then(|connection| connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0)));
    id.is_ok_and(|id| id == APPLICATION)
}

/// A random first number for a store's ingests, less one.
fn first_ingest() -> Result<u64> {
    let mut bytes = [0; 2];
    loop {
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let filled = filled.context("read random bytes from", "the kernel")?;
        // Zero is what stores have that were made before there were prefixes.
        let prefix = u64::from(u16::from_le_bytes(bytes) & 0x7fff);
        if filled == bytes.len() && prefix != 0 {
            return Ok(prefix * INGESTS);
        }
    }
}

/// An open index. Each thread has its own.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_string()))
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// Whether a commit survives a power cut once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The newest commits may be lost, never torn (`synchronous=NORMAL`).
    Consistent,
    /// Every commit is on disk when it returns (`synchronous=FULL`).
    Synced,
}

impl Index {
    /// Opens the index for reading and writing; makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::NewerSchema`], [`Error::UnsafeSqlite`], or SQLite's.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        if rusqlite::version_number() < SAFE_SQLITE {
            return Err(Error::UnsafeSqlite(rusqlite::version()));
        }
        let connection = Connection::open_with_flags(path, OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
        let mut index = Self { connection };
        index.connection.busy_timeout(BUSY)?;
        index.connection.set_prepared_statement_cache_capacity(64);
        index.connection.pragma_update(None, "foreign_keys", true)?;
        index.connection.pragma_update(None, "synchronous", if durability == Durability::Synced { 2 } else { 1 })?;
        if index.version()? != SCHEMA {
            index.create()?;
        }
        Ok(index)
    }

    /// Opens an index that exists, for reading alone.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let index = Self { connection: Connection::open_with_flags(path, flags)? };
        index.connection.busy_timeout(BUSY)?;
        match index.version()? {
            SCHEMA => Ok(index),
            1 => {
                drop(Self::open(path, Durability::Consistent)?);
                Ok(index)
            }
            found => Err(Error::NewerSchema { found, known: SCHEMA }),
        }
    }

    fn version(&self) -> Result<i64> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    fn create(&mut self) -> Result<()> {
        // Two first processes may both come here: the journal mode and the schema are set by whoever is first.
        self.connection.pragma_update(None, "journal_mode", "wal")?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => {
                transaction.execute_batch(include_str!("schema.sql"))?;
                transaction.execute_batch(include_str!("packed.sql"))?;
                transaction.execute("UPDATE counter SET value = ?1 WHERE name = 'ingest'", [first_ingest()?])?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                transaction.pragma_update(None, "user_version", SCHEMA)?;
            }
            1 => {
                transaction.execute_batch(include_str!("packed.sql"))?;
                transaction.pragma_update(None, "user_version", SCHEMA)?;
            }
            SCHEMA => {}
            found => return Err(Error::NewerSchema { found, known: SCHEMA }),
        }
        Ok(transaction.commit()?)
    }

    /// Runs `work` in one write transaction: all of it, or nothing.
    pub fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Runs `work` on one snapshot of the index.
    pub fn read<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        work(&transaction)
    }

    /// Next value of a counter; no value is ever handed out twice.
    pub fn next(&mut self, counter: Counter) -> Result<u64> {
        self.write(|index| {
            let sql = "UPDATE counter SET value = value + 1 WHERE name = ?1 RETURNING value";
            Ok(index.prepare_cached(sql)?.query_row([counter.name()], |row| row.get(0))?)
        })
    }

    /// Next value of a counter that is not among `taken`; those that are passed over are never handed out.
    pub fn next_but(&mut self, counter: Counter, taken: &HashSet<u64>) -> Result<u64> {
        self.write(|index| {
            let sql = "SELECT value + 1 FROM counter WHERE name = ?1";
            let mut value: u64 = index.query_row(sql, [counter.name()], |row| row.get(0))?;
            while taken.contains(&value) {
                value += 1;
            }
            index.execute("UPDATE counter SET value = ?2 WHERE name = ?1", params![counter.name(), value])?;
            Ok(value)
        })
    }

    /// SQLite's own check of the file; the problems that it tells, none where it is sound.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check(20)")?;
        let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }
}

/// What the index numbers.
#[derive(Debug, Clone, Copy)]
pub enum Counter {
    /// One reading of one layer: names a folder of objects and a layer record.
    Ingest,
    /// One pull or import.
    Session,
    /// One checkout.
    Tree,
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Session => "session",
            Self::Tree => "tree",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index.db");
        drop(Index::open(&path, Durability::Consistent).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        assert!(matches!(Index::open(&path, Durability::Consistent), Err(Error::NewerSchema { .. })));
        assert!(matches!(Index::open_read_only(&path), Err(Error::NewerSchema { .. })));
    }

    #[test]
    fn a_store_of_the_first_version_becomes_one_of_this() {
        for read_only in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("index.db");
            let old = Connection::open(&path).unwrap();
            old.execute_batch(include_str!("schema.sql")).unwrap();
            old.pragma_update(None, "user_version", 1).unwrap();
            old.execute("INSERT INTO object (id, hash, size, disk) VALUES (5, zeroblob(32), 3, 4096)", []).unwrap();
            drop(old);
            let index = if read_only {
                Index::open_read_only(&path).unwrap()
            } else {
                Index::open(&path, Durability::Consistent).unwrap()
            };
            assert!(index.all_packed().unwrap().is_empty());
            assert_eq!(index.objects().unwrap().len(), 1);
            assert_eq!(index.version().unwrap(), SCHEMA);
        }
    }

    #[test]
    fn counters_never_repeat_across_openings() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index.db");
        let first = Index::open(&path, Durability::Consistent).unwrap().next(Counter::Ingest).unwrap();
        let second = Index::open(&path, Durability::Consistent).unwrap().next(Counter::Ingest).unwrap();
        assert!(second > first);
    }

    #[test]
    fn numbers_that_are_taken_are_passed_over_for_good() {
        let scratch = tempfile::tempdir().unwrap();
        let mut index = Index::open(&scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let taken = HashSet::from([1, 2, 4, u64::MAX]);
        assert_eq!(index.next_but(Counter::Tree, &taken).unwrap(), 3);
        assert_eq!(index.next_but(Counter::Tree, &taken).unwrap(), 5);
        assert_eq!(index.next(Counter::Tree).unwrap(), 6);
    }

    #[test]
    fn each_store_numbers_its_contents_apart() {
        let mut prefixes = HashSet::new();
        for _ in 0..8 {
            let scratch = tempfile::tempdir().unwrap();
            let mut index = Index::open(&scratch.path().join("index.db"), Durability::Consistent).unwrap();
            let first = index.next(Counter::Ingest).unwrap();
            assert_eq!((first % INGESTS, (1..1 << 15).contains(&(first / INGESTS))), (1, true), "{first:x}");
            prefixes.insert(first / INGESTS);
        }
        assert!(prefixes.len() > 4, "{prefixes:?}");
    }
}
