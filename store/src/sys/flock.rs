//! Locks that die with their holder (`flock(2)`): proof of life by the kernel instead of by the clock.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;

use crate::sys::dir::Dir;

/// Takes an exclusive lock on an open file or directory if nobody holds one. `false`: somebody does.
pub fn try_exclusive(fd: impl AsFd) -> io::Result<bool> {
    match flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a shared lock. Interrupted waits are resumed.
pub fn shared(fd: impl AsFd) -> io::Result<()> {
    wait(fd, FlockOperation::LockShared)
}

/// Waits for an exclusive lock. Interrupted waits are resumed.
pub fn exclusive(fd: impl AsFd) -> io::Result<()> {
    wait(fd, FlockOperation::LockExclusive)
}

fn wait(fd: impl AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match flock(&fd, operation) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// A named lock in the store's `locks/`, held until dropped; its file is removed with it.
#[derive(Debug)]
pub struct NamedLock {
    file: File,
    dir: Dir,
    name: Vec<u8>,
}

impl NamedLock {
    /// Waits for the exclusive lock `name`. Interrupted waits are resumed.
    pub fn acquire(locks: &Dir, name: &[u8]) -> io::Result<Self> {
        loop {
            let file = locks.open_lock(name)?;
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(lock) = Self::of_named(file, locks, name)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the exclusive lock `name` if nobody holds it.
    pub fn try_acquire(locks: &Dir, name: &[u8]) -> io::Result<Option<Self>> {
        let file = locks.open_lock(name)?;
        if try_exclusive(&file)? { Self::of_named(file, locks, name) } else { Ok(None) }
    }

    /// The lock on a file that still has its name. A holder before us removes the file: ours is then a lock on a
    /// nameless inode that no newcomer sees, and the name may be another's by now.
    fn of_named(file: File, locks: &Dir, name: &[u8]) -> io::Result<Option<Self>> {
        let (ours, named) = (fstat(&file)?, locks.stat(name));
        if named.is_ok_and(|named| named.st_ino == ours.st_ino) {
            return Ok(Some(Self { file, dir: locks.try_clone()?, name: name.to_vec() }));
        }
        Ok(None)
    }
}

impl Drop for NamedLock {
    fn drop(&mut self) {
        // Removed while still held, so that nobody can lock the name in between. A failure leaves an empty file that
        // the next holder uses and removes.
        let _ = self.dir.unlink(&self.name);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_lock_excludes_and_leaves_no_file() {
        let scratch = tempfile::tempdir().unwrap();
        let locks = Dir::open(scratch.path()).unwrap();
        let held = NamedLock::acquire(&locks, b"x").unwrap();
        let other = locks.open_lock(b"x").unwrap();
        assert!(!try_exclusive(&other).unwrap());
        assert!(NamedLock::try_acquire(&locks, b"x").unwrap().is_none());
        drop(held);
        assert!(try_exclusive(&other).unwrap());
        assert!(locks.entries().unwrap().is_empty());
    }

    #[test]
    fn the_file_of_a_holder_that_was_killed_goes_with_the_next_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let locks = Dir::open(scratch.path()).unwrap();
        drop(locks.open_lock(b"x").unwrap());
        drop(NamedLock::try_acquire(&locks, b"x").unwrap().unwrap());
        assert!(locks.entries().unwrap().is_empty());
    }

    #[test]
    fn many_holders_never_overlap() {
        let scratch = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let locks = Dir::open(scratch.path()).unwrap();
                    for _ in 0..200 {
                        let _held = NamedLock::acquire(&locks, b"x").unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
