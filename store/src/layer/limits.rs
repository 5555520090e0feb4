//! How much a layer may be, so that a small one cannot cost much.

use lstore_tar::escape;

use super::LayerError;
use super::entry::{Entry, EntryKind};
use super::member::Member;

/// How much a layer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of the tar.
    pub bytes: u64,
    /// Bytes of all files together, holes counted, whatever the size of the tar. Each byte is hashed, and a hole of any
    /// size costs the tar one line.
    pub logical: u64,
    /// Bytes of all files together for each byte of the tar, beside those.
    pub ratio: u64,
    /// Bytes of names, link targets and extended attributes, and [`MEMBER_BYTES`] for each member: all that is in
    /// memory at once when layers are merged. It holds for all layers of an image together.
    pub metadata: u64,
}

/// What a member counts for among the bytes of metadata, beside its names and attributes.
pub const MEMBER_BYTES: u64 = 128;

impl Default for Limits {
    /// Ten million members, 1 TiB: beyond any image that is known, and below what fills a disk unseen. 4 GiB of holes and
    /// 64 times the tar: disk images pass that are nearly empty, and hashing takes seconds. 1 GiB of metadata.
    fn default() -> Self {
        Self { members: 10_000_000, bytes: 1 << 40, logical: 4 << 30, ratio: 64, metadata: 1 << 30 }
    }
}

impl Limits {
    /// Whether all files of a layer up to the one at `path` may have `logical` bytes when `known` of its tar are.
    ///
    /// # Errors
    /// [`LayerError::Holes`].
    pub(super) fn check_logical(&self, path: &[u8], logical: u64, known: u64) -> Result<(), LayerError> {
        let limit = self.ratio.saturating_mul(known).saturating_add(self.logical);
        if logical > limit {
            return Err(LayerError::Holes { path: escape(path), logical, limit });
        }
        Ok(())
    }
}

/// A limit that is none, in a sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no limit: give NAME=NUMBER, separated by commas, of members, bytes, logical, ratio and metadata")]
pub struct ParseLimitsError(String);

impl std::str::FromStr for Limits {
    type Err = ParseLimitsError;

    /// Reads `NAME=NUMBER,…`, names as the fields have them; those that are not named have their defaults.
    fn from_str(text: &str) -> Result<Self, ParseLimitsError> {
        let mut limits = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let bad = || ParseLimitsError(part.to_owned());
            let (name, number) = part.split_once('=').ok_or_else(bad)?;
            let field = match name {
                "members" => &mut limits.members,
                "bytes" => &mut limits.bytes,
                "logical" => &mut limits.logical,
                "ratio" => &mut limits.ratio,
                "metadata" => &mut limits.metadata,
                _ => return Err(bad()),
            };
            *field = number.parse().map_err(|_| bad())?;
        }
        Ok(limits)
    }
}

/// What was read of a layer so far, held against its limits.
pub(super) struct Counted<'l> {
    limits: &'l Limits,
    members: u64,
    logical: u64,
    metadata: u64,
}

impl<'l> Counted<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, members: 0, logical: 0, metadata: 0 }
    }

    /// Bytes of all files so far, holes counted.
    pub(super) fn logical(&self) -> u64 {
        self.logical
    }

    /// Counts a member; `known` is the bytes of the tar up to the end of its body.
    ///
    /// # Errors
    /// Which limit it goes beyond.
    pub(super) fn add(&mut self, member: &Member, known: u64) -> Result<(), LayerError> {
        self.members += 1;
        if self.members > self.limits.members {
            return Err(LayerError::Limit { what: "members", limit: self.limits.members });
        }
        let Some(entry) = &member.entry else { return Ok(()) };
        self.metadata += metadata_bytes(entry);
        if self.metadata > self.limits.metadata {
            return Err(LayerError::Limit { what: "bytes of names and metadata", limit: self.limits.metadata });
        }
        if let EntryKind::Regular { size } = entry.kind {
            self.logical = self.logical.saturating_add(size);
            // A file without holes is bounded by the tar itself.
            if member.sparse.is_some() {
                self.limits.check_logical(entry.path.as_bytes(), self.logical, known)?;
            }
        }
        Ok(())
    }
}

/// What an entry counts for among the bytes of metadata.
pub(crate) fn metadata_bytes(entry: &Entry) -> u64 {
    let link = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::Hardlink { target } => target.as_bytes().len(),
        _ => 0,
    };
    let xattrs: usize = entry.metadata.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
    MEMBER_BYTES + (entry.path.as_bytes().len() + link + xattrs) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_one_by_one() {
        let wanted = Limits { logical: 7, members: 3, ..Limits::default() };
        assert_eq!("logical=7, members=3,".parse(), Ok(wanted));
        assert_eq!("".parse(), Ok(Limits::default()));
        for bad in ["logical", "logical=", "logical=-1", "logical=1k", "LOGICAL=1", "holes=1"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }
}
