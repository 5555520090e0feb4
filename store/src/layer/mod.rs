//! A layer: an ordered list of changes, in the form of a tar stream.
//!
//! ```text
//! tar bytes → header blocks, PAX records → Entry or Whiteout ─┬→ record: every byte inline, or a part of an object
//!                                                             └→ contents → pool
//! ```

mod error;

pub mod ingest;
pub mod limits;
pub mod record;
pub mod whiteout;

pub use error::LayerError;
pub use lstore_tar::{TarError, entry, header, member, path, pax, sparse};

#[cfg(test)]
mod tests;
