//! Gives an open file or directory the metadata of its entry.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Uid, XattrFlags, fchmod, fchown, fsetxattr, futimens};
use rustix::io::Errno;

use super::Lost;
use crate::layer::entry::Metadata;
use crate::sys::dir::timestamps;
use crate::sys::kernel::MappedIds;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Whose the files of a checkout can be.
#[derive(Debug)]
pub enum Owners {
    /// Their true owners, as far as this user namespace maps them.
    True {
        /// User ids that exist here.
        users: MappedIds,
        /// Group ids that exist here.
        groups: MappedIds,
    },
    /// The caller, for want of a subordinate range.
    Caller,
}

/// An owner that this user namespace does not map.
#[derive(Debug)]
pub struct Unmapped;

impl Owners {
    /// Reads what this process can give files to.
    pub fn of_this_process() -> io::Result<Self> {
        let (users, groups) = (MappedIds::users()?, MappedIds::groups()?);
        // Without privileges over the range, as outside of a namespace of our own, no owner can be set either.
        let privileged = rustix::process::geteuid().is_root();
        if privileged && users.count() > 1 && groups.count() > 1 {
            Ok(Self::True { users, groups })
        } else {
            Ok(Self::Caller)
        }
    }

    /// The owner to set, if any, and the mode to set; counts what is lost.
    ///
    /// # Errors
    /// [`Unmapped`]: never is an owner replaced by another in silence.
    pub fn decide(&self, metadata: &Metadata, lost: &mut Lost) -> Result<(Option<(u32, u32)>, u32), Unmapped> {
        let (uid, gid) = (metadata.uid, metadata.gid);
        match self {
            Self::True { users, groups } if users.contains(uid) && groups.contains(gid) => {
                Ok((((uid, gid) != (0, 0)).then_some((uid, gid)), metadata.mode))
            }
            Self::True { .. } => Err(Unmapped),
            Self::Caller => {
                lost.owners += u64::from((uid, gid) != (0, 0));
                // A foreign setuid file would lend the caller's identity instead of its owner's.
                let off = if uid == 0 { 0 } else { SETUID } | if gid == 0 { 0 } else { SETGID };
                lost.setid += u64::from(metadata.mode & off != 0);
                Ok((None, metadata.mode & !off))
            }
        }
    }
}

/// Sets owner, mode, attributes and times of an open file or directory.
///
/// The order matters: `user.*` attributes while the file is still ours to write, then the owner, which clears set-id bits
/// and file capabilities, then these, and the time last.
pub fn apply(
    fd: impl AsFd,
    metadata: &Metadata,
    owner: Option<(u32, u32)>,
    mode: u32,
    lost: &mut Lost,
) -> io::Result<()> {
    let fd = fd.as_fd();
    let (early, late): (Vec<_>, Vec<_>) = metadata.xattrs.iter().partition(|(name, _)| name.starts_with(b"user."));
    for (name, value) in early {
        set_xattr(fd, name, value, lost)?;
    }
    if let Some((uid, gid)) = owner {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(fd, Mode::from_raw_mode(mode))?;
    for (name, value) in late {
        set_xattr(fd, name, value, lost)?;
    }
    futimens(fd, &timestamps(metadata.mtime.seconds, metadata.mtime.nanoseconds))?;
    Ok(())
}

fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8], lost: &mut Lost) -> io::Result<()> {
    match fsetxattr(fd, name, value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        // Labels of a security module that is not here, or attributes that only the host's root may set.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::ACCESS) => {
            lost.xattrs += 1;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::Timestamp;

    fn metadata(mode: u32, uid: u32) -> Metadata {
        Metadata {
            mode,
            uid,
            gid: 0,
            mtime: Timestamp { seconds: 0, nanoseconds: 0 },
            xattrs: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn without_a_range_a_foreign_setuid_bit_is_left_off_and_counted() {
        let mut lost = Lost::default();
        assert_eq!(Owners::Caller.decide(&metadata(0o4755, 33), &mut lost).unwrap().1, 0o755);
        assert_eq!(Owners::Caller.decide(&metadata(0o4755, 0), &mut lost).unwrap().1, 0o4755);
        assert_eq!((lost.owners, lost.setid), (1, 1));
    }
}
