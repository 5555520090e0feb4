//! The root file system of a container.

use std::path::{Path, PathBuf};

use crate::own;

/// Where the root comes from. Paths are of the store or given by the user, never from an image; absolute,
/// since the working directory changes on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A tree, with changes above it. Where the kernel refuses that, [`Rootfs::Own`].
    Overlay {
        /// The checkout's root.
        lower: PathBuf,
        /// The pool, for a checkout of stubs.
        data: Option<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// The overlay's working directory, on the same file system.
        work: PathBuf,
        /// An empty directory to mount on.
        mountpoint: PathBuf,
    },
    /// A copy of a tree, which changes go into. An earlier start has made it.
    Own {
        /// The checkout's root, of which it is a copy.
        lower: PathBuf,
        /// The pool, for a checkout of stubs.
        data: Option<PathBuf>,
        /// The copy.
        tree: PathBuf,
    },
    /// A directory as it is; changes go into it.
    Directory(PathBuf),
}

impl Rootfs {
    /// The directory that the root is mounted on before it becomes the root.
    pub fn mountpoint(&self) -> &PathBuf {
        match self {
            Self::Overlay { mountpoint, .. } => mountpoint,
            Self::Own { tree, .. } => tree,
            Self::Directory(directory) => directory,
        }
    }

    /// As an earlier start of the container has left it: a copy, if it had to make one.
    #[must_use]
    pub fn as_left(self) -> Self {
        match self.beside() {
            Some(own) if own::is_made(own.mountpoint()) => own,
            _ => self,
        }
    }

    /// The copy that an overlay is replaced by, beside the folder for its changes; `None` for what is none.
    pub(crate) fn beside(&self) -> Option<Self> {
        let Self::Overlay { lower, data, upper, .. } = self else { return None };
        Some(Self::Own { lower: lower.clone(), data: data.clone(), tree: upper.with_file_name(own::TREE) })
    }

    /// Where what a container has changed lies; `None` for a directory that is no image's.
    pub(crate) fn changed(&self) -> Option<&Path> {
        match self {
            Self::Overlay { upper, .. } => Some(upper),
            Self::Own { tree, .. } => Some(tree),
            Self::Directory(_) => None,
        }
    }
}
