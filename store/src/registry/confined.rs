//! Files of a layout on disk, found without leaving it (`openat2(2)`, `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// A folder, held open.
#[derive(Debug)]
pub(super) struct Confined(OwnedFd);

impl Confined {
    /// Opens a folder that the user named.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens a regular file below it.
    pub(super) fn file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(&self.0, path, flags, Mode::empty(), confined)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_pipes_are_not_opened() {
        let scratch = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("link")).unwrap();
        std::fs::write(scratch.path().join("file"), b"x").unwrap();
        let folder = Confined::open(scratch.path()).unwrap();
        assert!(folder.file("link").is_err());
        assert!(folder.file("../file").is_err());
        assert!(folder.file("file").is_ok());
    }
}
