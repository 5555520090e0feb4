//! A container's folder in the store: its changes, and the lock that says whether it lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lrun::state::STATE;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};

/// Marks the folder of a container that stays when it has ended.
const KEPT: &str = "kept";
/// All that is ever in a container's folder; drafts and older files have a dot and more after such a name.
const OWN: [&str; 14] = [
    "upper",
    "work",
    "lower",
    KEPT,
    STATE,
    "log",
    "attach",
    "health",
    "amendment",
    "again",
    "stopped",
    "own",
    "copied",
    "images",
];
/// How often a sweeper may take a folder in the instant between its making and its locking.
const ATTEMPTS: usize = 100;
/// How often a lock that is held is tried before it is taken for that of a container in use; 2 ms lie between.
const PATIENCE: usize = 1000;

/// A folder that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    lock: File,
    is_ephemeral: bool,
}

impl Folder {
    /// Where the folder of a container with such a name is.
    pub(super) fn place(store: &Path, name: &str) -> PathBuf {
        store.join("containers").join(name)
    }

    /// Makes the folder of a container.
    ///
    /// # Errors
    /// `AlreadyExists` for a name that is taken.
    pub(super) fn make(store: &Path, name: &str, is_ephemeral: bool) -> io::Result<Self> {
        let path = Self::place(store, name);
        for attempt in 0..ATTEMPTS {
            match std::fs::create_dir(&path) {
                // Tried again with what the store has set apart.
                Err(error) if error.kind() == io::ErrorKind::StorageFull && lstore::give_up_ballast(store)? => continue,
                // A sweeper holds what was ours a moment ago.
                Err(error) if attempt > 0 && error.kind() == io::ErrorKind::AlreadyExists => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                other => other?,
            }
            // One who only looks whether it is locked lets go at once, a sweeper takes it away.
            let Some(folder) = Self::lock_at(&path, FlockOperation::LockExclusive, is_ephemeral)? else { continue };
            if !is_ephemeral {
                folder.keep(true)?;
            }
            for part in ["upper", "work"] {
                std::fs::create_dir(path.join(part))?;
            }
            return Ok(folder);
        }
        Err(io::Error::other(format!("{}: removed by another process again and again", path.display())))
    }

    /// Takes the folder of a container that nobody answers for; `None` if somebody does, or it has gone.
    pub(super) fn take(path: &Path, is_ephemeral: bool) -> io::Result<Option<Self>> {
        for _ in 0..PATIENCE {
            match Self::lock_at(path, FlockOperation::NonBlockingLockExclusive, is_ephemeral) {
                // Perhaps by one who only looks, or by a keeper that is about to end.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => return other,
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(None)
    }

    /// Opens and locks; `None` if it is another's or nobody's by then.
    fn lock_at(path: &Path, how: FlockOperation, is_ephemeral: bool) -> io::Result<Option<Self>> {
        let lock = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        flock(&lock, how)?;
        let own = lock.metadata()?.ino();
        let is_there = std::fs::metadata(path).is_ok_and(|now| now.ino() == own);
        Ok(is_there.then_some(Self { lock, is_ephemeral }))
    }

    /// Sets whether it stays when nobody holds it.
    pub(super) fn keep(&self, kept: bool) -> io::Result<()> {
        if kept {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            rustix::fs::openat(&self.lock, KEPT, flags, Mode::RUSR | Mode::WUSR)?;
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.lock, KEPT, AtFlags::empty()) {
            Err(error) if error != rustix::io::Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Where it is now: a container can be renamed while it runs.
    pub(super) fn path(&self) -> PathBuf {
        let link = format!("/proc/self/fd/{}", self.lock.as_raw_fd());
        // Without /proc no container was started.
        std::fs::read_link(link).unwrap_or_default()
    }

    /// Whether it is to go with its container.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    /// Its lock: held until the last copy of the descriptor is closed.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Folders of ours that nobody holds of ephemeral containers, or of ones that were never finished, each locked: those who were to
    /// finish or remove them were killed.
    pub(super) fn left_over(store: &Path) -> Vec<(PathBuf, File)> {
        let Ok(entries) = std::fs::read_dir(store.join("containers")) else { return Vec::new() };
        let left_over = |path: PathBuf| {
            let lock = File::open(&path).ok()?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
            // Looked for under the lock: a folder in the making has it before its mark.
            let is_kept = path.join(KEPT).exists() && path.join(STATE).exists();
            (!is_kept && is_own(&path).ok()?).then_some((path, lock))
        };
        entries.filter_map(|entry| left_over(entry.ok()?.path())).collect()
    }
}

/// Whether there is nothing in a folder but what containers have in theirs. Another one is the user's, whatever its place.
fn is_own(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.split('.').next());
        if !stem.is_some_and(|stem| OWN.contains(&stem)) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_container_left_behind_is_swept() {
        let store = tempfile::tempdir().unwrap();
        let at = |path: &str| store.path().join("containers").join(path);
        for folder in ["dead/upper", "dead/work", "empty", "thesis/images", "thesis/.git", "half/own"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["half/log.1", "half/state.new", "thesis/log", "notes"] {
            std::fs::write(at(file), "").unwrap();
        }
        let mut swept: Vec<_> = Folder::left_over(store.path()).into_iter().map(|(path, _)| path).collect();
        swept.sort();
        assert_eq!(swept, [at("dead"), at("empty"), at("half")]);
    }
}
