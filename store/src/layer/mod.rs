//! A layer: an ordered list of changes, in the form of a tar stream.
//!
//! ```text
//! tar bytes → header blocks, PAX records → Entry or Whiteout ─┬→ record: every byte inline, or a part of an object
//!                                                             └→ contents → pool
//! ```

pub mod ingest;
pub mod record;
pub mod whiteout;

pub use lstore_tar::{LayerError, entry, header, member, path, pax, sparse};

#[cfg(test)]
mod tests;
