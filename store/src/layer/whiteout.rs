//! Whiteouts: names by which a layer removes what lower layers have (OCI image specification, "Whiteouts").

use super::TarError;
use super::entry::Entry;
use super::path::EntryPath;
use crate::pool::ObjectId;
use lstore_tar::escape;

const PREFIX: &[u8] = b".wh.";
/// Names with this prefix are for the layer format's own use; all but the opaque mark are left-overs of aufs.
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// One change that a layer makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds an entry, or replaces one; with its content, where it has any.
    Add(Entry, Option<ObjectId>),
    /// Removes what lower layers have at a path.
    Whiteout(EntryPath),
    /// Removes what lower layers have within a directory.
    Opaque(EntryPath),
}

/// What the name of an entry means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// An entry like any other.
    Plain,
    /// See [`Change::Whiteout`].
    Whiteout(EntryPath),
    /// See [`Change::Opaque`].
    Opaque(EntryPath),
    /// Nothing to a reader of today.
    Ignored,
}

/// Reads the meaning of a path's last component.
///
/// # Errors
/// [`TarError::Path`] for a whiteout of nothing, of "." or of "..", and for names below a whiteout.
pub fn meaning(path: &EntryPath) -> Result<Meaning, TarError> {
    let Some((parent, name)) = path.split_last() else { return Ok(Meaning::Plain) };
    let refuse = |reason| TarError::Path { path: escape(path.as_bytes()), reason };
    if parent.components().any(|component| component.starts_with(META_PREFIX)) {
        return Ok(Meaning::Ignored);
    }
    if parent.components().any(|component| component.starts_with(PREFIX)) {
        return Err(refuse("it lies below a whiteout"));
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(parent));
    }
    if name.starts_with(META_PREFIX) {
        return Ok(Meaning::Ignored);
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Meaning::Plain),
        Some(b"" | b"." | b"..") => Err(refuse("a whiteout must name a file")),
        Some(hidden) => Ok(Meaning::Whiteout(parent.join(hidden)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_mean_what_the_specification_says() {
        assert_eq!(meaning(&path("a/.wh.b")).unwrap(), Meaning::Whiteout(path("a/b")));
        assert_eq!(meaning(&path("a/.wh..wh..opq")).unwrap(), Meaning::Opaque(path("a")));
        assert_eq!(meaning(&path(".wh..wh.plnk/12.34")).unwrap(), Meaning::Ignored);
        assert_eq!(meaning(&path("a/.whatever")).unwrap(), Meaning::Plain);
    }

    #[test]
    fn whiteouts_of_nothing_and_upwards_are_refused() {
        for name in ["a/.wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
            assert!(meaning(&path(name)).is_err(), "{name}");
        }
    }
}
