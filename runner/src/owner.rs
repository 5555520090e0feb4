//! Gives what is mounted somewhere to the container's user, by open directories: nothing is followed, and no further file
//! system is entered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat, statat};
use rustix::io::Errno;

use crate::copy::names;
use crate::target::{Root, file_type};

/// Changes the owner of all that is at a place of the root.
pub(crate) fn give(root: &Root, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    give_place(&root.place(path)?, uid, gid)
}

/// Changes the owner of what is open as a place, and of all that is in it.
pub(crate) fn give_place(place: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(place, "", uid, gid, AtFlags::EMPTY_PATH).map_err(explain)?;
    if file_type(place)? != FileType::Directory {
        return Ok(());
    }
    let device = fstat(place)?.st_dev;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(place, ".", flags, Mode::empty())?;
    let entries = names(&folder)?;
    // A stack instead of recursion: the depth is that of what the caller mounts.
    let mut stack = vec![(folder, entries)];
    while let Some((folder, entries)) = stack.last_mut() {
        let Some(name) = entries.pop() else {
            stack.pop();
            continue;
        };
        let stat = match statat(&*folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if stat.st_dev != device {
            continue;
        }
        chownat(&*folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(explain)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let deeper = openat(folder.as_fd(), &name, flags, Mode::empty())?;
            let entries = names(&deeper)?;
            stack.push((deeper, entries));
        }
    }
    Ok(())
}

/// Gives a control group to root inside, as far as groups are handed down: the folder, and the files by which processes and
/// controllers are moved (kernel documentation, `cgroup-v2.rst`, "Model of Delegation"). Its limits stay the caller's.
pub(crate) fn delegate(root: &Root) -> io::Result<()> {
    let group = root.directory(Path::new("/sys/fs/cgroup"))?;
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        chownat(&group, file, Some(Uid::ROOT), Some(Gid::ROOT), flags)?;
    }
    Ok(())
}

fn explain(errno: Errno) -> io::Error {
    match errno {
        Errno::PERM => io::Error::other("what is there belongs to somebody whose files are not yours to give away"),
        other => other.into(),
    }
}
