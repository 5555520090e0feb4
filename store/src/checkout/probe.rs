//! What this kernel and this file system can do, found by doing it once in a scratch folder.

use std::io::{self, Read, Write};

use rustix::fs::{Mode, OFlags, XattrFlags, fsetxattr, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsmount, fsopen,
};

use super::{METACOPY, REDIRECT};
use crate::sys::dir::Dir;

/// What works here: `None`, or the reason why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// Stubs over a data-only layer.
    pub stub: Option<String>,
    /// A second link to a file.
    pub hardlink: Option<String>,
    /// Extents shared between files (`FICLONE`).
    pub reflink: Option<String>,
}

impl Support {
    /// Tries each in `scratch`, an empty folder on the store's file system. The mount is never attached to a path.
    ///
    /// # Errors
    /// Only where the scratch folder itself cannot be written.
    pub fn probe(scratch: &Dir) -> io::Result<Self> {
        let mut file = scratch.create_new(b"object", 0o444)?;
        file.write_all(b"probe")?;
        let reason = |result: io::Result<()>| result.err().map(|error| error.to_string());
        Ok(Self {
            stub: reason(stub(scratch)),
            hardlink: reason(scratch.link(b"object", scratch, b"link")),
            reflink: reason(reflink(scratch)),
        })
    }

    /// Why a placement does not work here, `None` where it does.
    pub fn refusal(&self, placement: super::Placement) -> Option<&str> {
        match placement {
            super::Placement::Stub => self.stub.as_deref(),
            super::Placement::Hardlink => self.hardlink.as_deref(),
            super::Placement::Reflink => self.reflink.as_deref(),
            super::Placement::Copy => None,
        }
    }
}

fn reflink(scratch: &Dir) -> io::Result<()> {
    let clone = scratch.create_new(b"clone", 0o644)?;
    rustix::fs::ioctl_ficlone(&clone, scratch.open_file(b"object")?)
        .map_err(|errno| explain(errno, "the file system shares no extents between files"))
}

fn stub(scratch: &Dir) -> io::Result<()> {
    let pool = scratch.ensure_dir(b"pool", 0o700)?;
    let tree = scratch.ensure_dir(b"tree", 0o700)?;
    scratch.link(b"object", &pool, b"o")?;
    let stub = tree.create_new(b"stub", 0o644)?;
    stub.set_len(5)?;
    let no_xattr = "the file system keeps no user.* attributes";
    fsetxattr(&stub, METACOPY, &[], XattrFlags::empty()).map_err(|errno| explain(errno, no_xattr))?;
    fsetxattr(&stub, REDIRECT, b"/o", XattrFlags::empty()).map_err(|errno| explain(errno, no_xattr))?;

    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| explain(errno, "no overlay file system for this user"))?;
    let too_old = "the kernel cannot stack data-only layers for users (Linux 6.16 can)";
    fsconfig_set_flag(&overlay, "userxattr").map_err(|errno| explain(errno, too_old))?;
    fsconfig_set_fd(&overlay, "lowerdir+", &tree).map_err(|errno| explain(errno, too_old))?;
    fsconfig_set_fd(&overlay, "datadir+", &pool).map_err(|errno| explain(errno, too_old))?;
    fsconfig_create(&overlay).map_err(|errno| explain(errno, too_old))?;
    let mount = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
        .map_err(|errno| explain(errno, too_old))?;
    let seen = openat(&mount, "stub", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| explain(errno, too_old))?;
    let mut content = Vec::new();
    std::fs::File::from(seen).read_to_end(&mut content)?;
    if content == b"probe" { Ok(()) } else { Err(io::Error::other("the overlay does not follow redirects")) }
}

fn explain(errno: Errno, meaning: &str) -> io::Error {
    io::Error::other(format!("{meaning}: {}", io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_file_systems_can_link() {
        let scratch = tempfile::tempdir().unwrap();
        let support = Support::probe(&Dir::open(scratch.path()).unwrap()).unwrap();
        assert_eq!(support.hardlink, None);
        // The other two depend on the machine; a refusal has a reason to show.
        assert!(support.stub.is_none_or(|reason| reason.contains(':')));
        assert!(support.reflink.is_none_or(|reason| reason.contains(':')));
    }
}
