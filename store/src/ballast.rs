//! A file of nothing that takes some disk, for the time when there is no other left. Where not a block is free the index
//! cannot even be opened, so that nothing could be removed: whoever opens a store then gives the ballast up first. The next
//! command that finds room, or a collection that made some, makes it again.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::store::Store;
use crate::sys::dir::Dir;

/// Name of the file.
pub(crate) const BALLAST: &str = "ballast";
/// Bytes that it takes: the index's log and shared memory for a collection, and the folders of a container.
const SIZE: u64 = 2 << 20;
/// It is given up where fewer bytes are free.
const LOW: u64 = SIZE / 2;
/// It is made where so many bytes are free.
const ROOM: u64 = 16 * SIZE;
/// A layer is read no further where fewer bytes are free: what others do in the store needs some.
pub(crate) const FLOOR: u64 = 2 * SIZE;

/// Bytes that the caller may still write to the file system of an open file. One that tells no sizes at all has room.
pub(crate) fn free(file: impl AsFd) -> io::Result<u64> {
    let told = rustix::fs::fstatvfs(file)?;
    Ok(if told.f_blocks == 0 { u64::MAX } else { told.f_bavail.saturating_mul(told.f_frsize) })
}

/// Gives the ballast of the store at `path` up, if its file system is as good as full. Whether there is room now that was not
/// there before.
///
/// # Errors
/// Those of the file system.
pub fn give_up_ballast(path: &Path) -> io::Result<bool> {
    give_up(&Dir::open(path)?)
}

pub(crate) fn give_up(root: &Dir) -> io::Result<bool> {
    if free(root)? >= LOW {
        return Ok(false);
    }
    match root.unlink(BALLAST.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Makes the ballast, unless there is too little room for it, or the file system cannot set disk apart.
fn keep(root: &Dir) -> io::Result<()> {
    let is_whole = |stat: rustix::fs::Stat| stat.st_size.unsigned_abs() >= SIZE;
    if root.stat(BALLAST.as_bytes()).is_ok_and(is_whole) || free(root)? < ROOM {
        return Ok(());
    }
    let file = root.open_lock(BALLAST.as_bytes())?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
        Ok(()) => Ok(()),
        Err(error) => {
            root.unlink(BALLAST.as_bytes())?;
            // Filled meanwhile; or a file system that cannot.
            if matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::OPNOTSUPP) { Ok(()) } else { Err(error.into()) }
        }
    }
}

impl Store {
    /// Makes the ballast where it is missing and there is room.
    pub(crate) fn keep_ballast(&self) -> Result<()> {
        let root = Dir::open(self.path()).context("open the store at", self.path())?;
        keep(&root).context("set disk apart in", self.path().join(BALLAST))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::index::Durability;

    #[test]
    fn a_store_sets_disk_apart_and_keeps_it_while_there_is_room() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("store");
        drop(Store::open(&path, Durability::Consistent).unwrap());
        if free(Dir::open(&path).unwrap()).unwrap() < ROOM {
            return;
        }
        assert!(path.join(BALLAST).metadata().unwrap().blocks() * 512 >= SIZE);
        assert!(!give_up_ballast(&path).unwrap());
        assert!(path.join(BALLAST).exists());
    }
}
