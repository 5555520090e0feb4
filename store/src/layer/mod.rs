//! A layer: an ordered list of changes, in the form of a tar stream.
//!
//! ```text
//! tar bytes → header blocks, PAX records → Entry or Whiteout ─┬→ record: every byte inline, or a part of an object
//!                                                             └→ contents → pool
//! ```

mod error;

pub mod entry;
pub mod header;
pub mod ingest;
pub mod member;
pub mod path;
pub mod pax;
pub mod record;
pub mod sparse;
pub mod whiteout;

pub use error::LayerError;

#[cfg(test)]
mod tests;
