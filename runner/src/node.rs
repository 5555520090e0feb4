//! Devices for a container of real root whose ids are not the host's. Bound, a node of the host's is nobody's inside, and the
//! file system of `/dev` cannot show it with other ids. So there is another node for the same device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid, chmodat, chownat, mknodat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use crate::attach;
use crate::idmapped::Waiting;
use crate::userns::Maps;

/// Its name in the file system that it alone is in.
const NAME: &str = "node";

/// A node, in a file system that is attached nowhere yet.
#[derive(Debug)]
pub(crate) struct Node {
    workshop: OwnedFd,
    /// Whose the host's node is.
    owner: (u32, u32),
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.workshop.as_fd()
    }
}

/// Whether something is a device.
pub(crate) fn is_device(stat: &Stat) -> bool {
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice)
}

impl Node {
    /// Makes one like a node of the host's.
    pub(crate) fn like(model: &Stat) -> io::Result<Self> {
        // All may come to the node, which has an owner and a mode.
        let options = [("mode".to_owned(), "711".to_owned()), ("size".to_owned(), "64k".to_owned())];
        let workshop = attach::detached("tmpfs", &options, MountAttrFlags::empty())?;
        let mode = Mode::from_raw_mode(model.st_mode & 0o777);
        mknodat(&workshop, NAME, FileType::from_raw_mode(model.st_mode), Mode::empty(), model.st_rdev)?;
        chmodat(&workshop, NAME, mode, AtFlags::empty())?;
        Ok(Self { workshop, owner: (model.st_uid, model.st_gid) })
    }

    /// Gives it to whom has the same ids inside; those of an id that is not there stay the host's.
    pub(crate) fn give(&self, maps: &Maps) -> io::Result<()> {
        let (uid, gid) = (maps.users.outside(self.owner.0, 1), maps.groups.outside(self.owner.1, 1));
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(chownat(&self.workshop, NAME, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// A mount of it, in the child.
    pub(crate) fn bind(&self) -> io::Result<OwnedFd> {
        // Attached, since of what is not there can be no further mount before Linux 6.15.
        attach::attach(&self.workshop, Waiting::Source.place()?)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(self.workshop.as_fd(), NAME, flags)?)
    }
}
