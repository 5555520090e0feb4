//! The pool: every distinct file content once, one inode each, in `objects/<ingest>/<sequence>`.
//!
//! An object is named by a short number, not by its hash: the name ends up in an extended attribute of every stub that
//! refers to it, and ext4 spends a block per file on one of more than 24 bytes. The index says which hash has which
//! number. Each ingest of a layer writes into a folder of its own, so that two never meet in one directory's lock, and
//! a folder with an unlocked number and no rows is known to be left over from a crash.
//!
//! An object that no checkout shows need not be a file: it can be in a pack, compressed beside others, and then is read
//! from there.

mod floor;
pub mod hash;
mod object;
mod pack;
mod packs;
mod reader;
mod writer;

pub use hash::Hash;
pub use object::{NewObject, ObjectId};
pub use pack::{Location, PackWriter, Packed};
pub use packs::Packs;
pub use reader::Pool;
pub use writer::Ingest;
