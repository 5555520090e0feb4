//! The root file system of a container.

use std::path::PathBuf;

/// Where the root comes from. Paths are of the store or given by the user, never from an image; absolute,
/// since the working directory changes on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A tree, with changes above it.
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
    /// A directory as it is; changes go into it.
    Directory(PathBuf),
}

impl Rootfs {
    /// The directory that the root is mounted on before it becomes the root.
    pub fn mountpoint(&self) -> &PathBuf {
        match self {
            Self::Overlay { mountpoint, .. } => mountpoint,
            Self::Directory(directory) => directory,
        }
    }
}
