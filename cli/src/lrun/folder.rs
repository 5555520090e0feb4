//! A container's folder in the store: its changes, and the lock that says whether it lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Marks the folder of a container that stays when it has ended.
const KEPT: &str = "kept";
/// How often a sweeper may take a folder in the instant between its making and its locking.
const ATTEMPTS: usize = 100;

/// A folder that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
    is_ephemeral: bool,
}

impl Folder {
    /// Makes the folder of a container.
    ///
    /// # Errors
    /// `AlreadyExists` for a name that is taken.
    pub(super) fn make(store: &Path, name: &str, is_ephemeral: bool) -> io::Result<Self> {
        let path = store.join("containers").join(name);
        for attempt in 0..ATTEMPTS {
            match std::fs::create_dir(&path) {
                // A sweeper holds what was ours a moment ago.
                Err(error) if attempt > 0 && error.kind() == io::ErrorKind::AlreadyExists => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                other => other?,
            }
            let Ok(lock) = File::open(&path) else { continue };
            let is_locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            let is_there =
                std::fs::metadata(&path).is_ok_and(|now| lock.metadata().is_ok_and(|locked| locked.ino() == now.ino()));
            if !is_locked || !is_there {
                continue;
            }
            if !is_ephemeral {
                File::create(path.join(KEPT))?;
            }
            for part in ["upper", "work"] {
                std::fs::create_dir(path.join(part))?;
            }
            return Ok(Self { path, lock, is_ephemeral });
        }
        Err(io::Error::other(format!("{}: removed by another process again and again", path.display())))
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

    /// Folders of ephemeral containers that nobody holds, each locked: their runner and keeper were killed.
    pub(super) fn left_over(store: &Path) -> Vec<(PathBuf, File)> {
        let Ok(entries) = std::fs::read_dir(store.join("containers")) else { return Vec::new() };
        let left_over = |path: PathBuf| {
            let lock = File::open(&path).ok()?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
            // Looked for under the lock: a folder in the making has it before its mark.
            (!path.join(KEPT).exists()).then_some((path, lock))
        };
        entries.filter_map(|entry| left_over(entry.ok()?.path())).collect()
    }
}
