//! A container's folder in the store: its changes, and the lock that says whether it lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A folder that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
    is_ephemeral: bool,
}

impl Folder {
    /// Makes the folder of a container. Folders of ephemeral containers whose runner was killed are swept on the way.
    ///
    /// # Errors
    /// `AlreadyExists` for a name that is taken.
    pub(super) fn make(store: &Path, name: &str, is_ephemeral: bool) -> io::Result<Self> {
        let containers = store.join("containers");
        let path = containers.join(name);
        std::fs::create_dir(&path)?;
        for part in ["upper", "work", "root"] {
            std::fs::create_dir(path.join(part))?;
        }
        if is_ephemeral {
            File::create(path.join("ephemeral"))?;
        }
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, lock, is_ephemeral })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is to go with its container.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    /// Its lock: held until the last copy of the descriptor is closed.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Folders of ephemeral containers that nobody holds: their runner was killed.
    pub(super) fn left_over(store: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(store.join("containers")) else { return Vec::new() };
        let is_left_over = |path: &PathBuf| {
            path.join("ephemeral").exists()
                && File::open(path).is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok())
        };
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_left_over).collect()
    }
}
