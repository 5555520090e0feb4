//! Paths in a layer.

use std::fmt;

use crate::TarError;
use crate::error::escape;

/// Longest path that is accepted, in bytes.
const LONGEST: usize = 16 * 1024;
/// Longest component, `NAME_MAX` of every common file system.
const LONGEST_COMPONENT: usize = 255;

/// A path relative to the image's root: components of any bytes but NUL and "/", none of them empty, "." or "..". The
/// root itself is the empty path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Normalises a name from an archive: "./a", "/a", "a//b/" lose what is superfluous.
    ///
    /// # Errors
    /// [`TarError::Path`] for "..", NUL, and what is too long.
    pub fn parse(name: &[u8]) -> Result<Self, TarError> {
        let refuse = |reason| TarError::Path { path: escape(&name[..name.len().min(256)]), reason };
        if name.len() > LONGEST {
            return Err(refuse("the path is too long"));
        }
        if name.contains(&0) {
            return Err(refuse("the path holds a NUL byte"));
        }
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(refuse("the path leads upwards")),
                _ if component.len() > LONGEST_COMPONENT => return Err(refuse("a component is longer than 255 bytes")),
                _ => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        Ok(Self(path))
    }

    /// Its bytes, components joined by "/".
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the image's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The path without its last component, and that component; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::default(), &self.0),
        })
    }

    /// This path with a further component, which must be a valid one.
    pub fn join(&self, component: &[u8]) -> Result<Self, TarError> {
        Self::parse(&[&self.0, component].join(&b'/'))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (name, path) in [("./a", "a"), ("/a", "a"), ("a//b/", "a/b"), ("./", ""), ("a/./b", "a/b")] {
            assert_eq!(EntryPath::parse(name.as_bytes()).unwrap().as_bytes(), path.as_bytes(), "{name}");
        }
        assert_eq!(EntryPath::parse(b"caf\xe9/\xff").unwrap().as_bytes(), b"caf\xe9/\xff");
    }

    #[test]
    fn what_leads_out_or_cannot_be_a_file_is_refused() {
        let long = vec![b'x'; 256];
        for name in [b"../x".as_slice(), b"a/../../x", b"a/..", b"a\0b", &long] {
            assert!(EntryPath::parse(name).is_err(), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_path_splits_into_parent_and_name() {
        let path = EntryPath::parse(b"a/b/c").unwrap();
        let (parent, name) = path.split_last().unwrap();
        assert_eq!((parent.as_bytes(), name), (b"a/b".as_slice(), b"c".as_slice()));
        assert!(EntryPath::default().split_last().is_none());
    }
}
