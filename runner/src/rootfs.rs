//! The root file system of a container.

use std::path::PathBuf;

use crate::error::{Error, Stage};

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

    /// A failed start, with the reason where it is that an overlay does not go above another.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match (&error, self) {
            (Error::Child { stage: Stage::Rootfs, source, .. }, Self::Overlay { upper, .. })
                if source.raw_os_error() == Some(nix::libc::EINVAL) && is_on_overlay(upper) =>
            {
                let text = "cannot mount the root file system: the store is on an overlay, as the files of a container are, and the \
                            kernel puts no other above it; have the store on a volume of that container, as with -v /store and \
                            LSTORE_ROOT=/store";
                Error::Refused(text.to_owned())
            }
            _ => error,
        }
    }
}

fn is_on_overlay(path: &std::path::Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == nix::libc::OVERLAYFS_SUPER_MAGIC)
}
