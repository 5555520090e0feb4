//! The ways to make a tree real, and how one is chosen.

use std::fmt;
use std::str::FromStr;

use super::Support;
use crate::error::{Error, Result};

/// How a checkout's regular files come by their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Sparse stubs that carry metadata and point into the pool; seen through overlay with the pool as data-only layer
    /// (unprivileged since Linux 6.16). One inode per content, whatever its owners, modes and times.
    Stub,
    /// Links to inodes that carry content and metadata.
    Hardlink,
    /// Inodes of their own that share extents with the pool (btrfs, XFS).
    Reflink,
    /// Inodes and bytes of their own.
    Copy,
}

/// A word that names no placement.
#[derive(Debug, thiserror::Error)]
#[error("{0}: not a placement: stub, hardlink, reflink or copy")]
pub struct UnknownPlacement(String);

impl Placement {
    /// All, in the order in which they are preferred.
    pub const ALL: [Self; 4] = [Self::Stub, Self::Hardlink, Self::Reflink, Self::Copy];

    /// Its word in options and in the index.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stub => "stub",
            Self::Hardlink => "hardlink",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }

    /// The best that works here, or the one that is forced.
    ///
    /// # Errors
    /// [`Error::PlacementUnavailable`] where the forced one does not work: there is no silent second choice.
    pub fn choose(support: &Support, forced: Option<Self>) -> Result<Self> {
        match forced {
            Some(placement) => match support.refusal(placement) {
                None => Ok(placement),
                Some(reason) => {
                    Err(Error::PlacementUnavailable { placement: placement.name(), reason: reason.to_owned() })
                }
            },
            None => {
                Ok(Self::ALL.into_iter().find(|&placement| support.refusal(placement).is_none()).unwrap_or(Self::Copy))
            }
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Placement {
    type Err = UnknownPlacement;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownPlacement> {
        Self::ALL
            .into_iter()
            .find(|placement| placement.name() == word)
            .ok_or_else(|| UnknownPlacement(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support(stub: bool, reflink: bool) -> Support {
        let answer = |works: bool| if works { None } else { Some("refused in this test".to_owned()) };
        Support { stub: answer(stub), hardlink: None, reflink: answer(reflink) }
    }

    #[test]
    fn the_first_that_works_is_chosen() {
        assert_eq!(Placement::choose(&support(true, true), None).unwrap(), Placement::Stub);
        assert_eq!(Placement::choose(&support(false, true), None).unwrap(), Placement::Hardlink);
    }

    #[test]
    fn a_forced_placement_that_cannot_work_is_an_error_with_the_reason() {
        let error = Placement::choose(&support(true, false), Some(Placement::Reflink)).unwrap_err().to_string();
        assert!(error.contains("reflink") && error.contains("refused in this test"), "{error}");
        assert_eq!(Placement::choose(&support(true, false), Some(Placement::Copy)).unwrap(), Placement::Copy);
    }
}
