//! Reads tar archives that strangers wrote: ustar, PAX and GNU headers, sparse files. Below both the store, which reads
//! layers, and the runner, which unpacks archives into containers.
//!
//! ```text
//! tar bytes → header blocks, PAX records, sparse maps → Member: an Entry, and how its body is to be read
//! ```

mod error;

pub mod entry;
pub mod header;
pub mod member;
pub mod path;
pub mod pax;
pub mod reader;
pub mod sparse;

pub use error::{TarError, escape};
