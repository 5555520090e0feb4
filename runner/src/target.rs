//! Places inside of the new root, found without ever leaving it: `openat2(2)` with `RESOLVE_IN_ROOT`. The image decides
//! what its paths lead to; here they can lead to nothing but the image.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

const CONFINED: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The new root, held open.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// What a place is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else: a bind needs only something to be there.
    File,
}

impl Root {
    /// Opens a directory that was given by the caller or is our own.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// The root of this process, once it is the container's.
    pub(crate) fn own() -> io::Result<Self> {
        Self::open(Path::new("/"))
    }

    /// Opens what is at a path, as a place (`O_PATH`).
    pub(crate) fn place(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH)
    }

    /// Opens what is at a path, be it a symbolic link; `None` where there is nothing.
    pub(crate) fn unfollowed(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Opens a directory for working in it.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Reads a regular file of at most `most` bytes; `None` where there is none.
    pub(crate) fn read(&self, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
        use std::io::Read;
        let file = match self.open_with(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => std::fs::File::from(other?),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > most {
            return Err(io::Error::other(format!("{}: not a regular file of reasonable size", path.display())));
        }
        let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
        file.take(most).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Opens a place, making it and the directories before it where they are missing.
    pub(crate) fn ensure(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        let place = match self.place(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(path, kind)?,
            other => other?,
        };
        let is_directory = file_type(&place)? == FileType::Directory;
        if is_directory == (kind == Kind::Directory) {
            return Ok(place);
        }
        Err(Errno::from_raw_os_error(if is_directory { nix::libc::EISDIR } else { nix::libc::ENOTDIR }).into())
    }

    /// Makes a path that is missing, and opens it.
    fn make(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        let mut here = self.0.as_fd().try_clone_to_owned()?;
        let mut walked = PathBuf::from("/");
        let mut names = path
            .components()
            .filter_map(|component| if let Component::Normal(name) = component { Some(name) } else { None })
            .peekable();
        while let Some(name) = names.next() {
            walked.push(name);
            let kind = if names.peek().is_some() { Kind::Directory } else { kind };
            here = match self.place(&walked) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_in(&here, name, kind)?,
                other => other?,
            };
        }
        Ok(here)
    }

    /// Writes a file anew, mode 0644: what has the name is replaced, a symbolic link not followed.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        write_anew(self.ensure(parent, Kind::Directory)?, name, content)
    }

    /// Writes to a file of the kernel's parameters; one of another file system, which only looks like it, is refused.
    pub(crate) fn set_parameter(&self, path: &Path, value: &str) -> io::Result<()> {
        let file = self.open_with(path, OFlags::WRONLY | OFlags::NOFOLLOW)?;
        if rustix::fs::fstatfs(&file)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(io::Error::other("it is no file of the kernel's"));
        }
        io::Write::write_all(&mut std::fs::File::from(file), value.as_bytes())
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), CONFINED) {
                // Something was renamed meanwhile: the kernel asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl From<OwnedFd> for Root {
    /// A directory that is open as a place.
    fn from(place: OwnedFd) -> Self {
        Self(place)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes what is not in an open directory, and opens it.
fn make_in(folder: impl AsFd, name: &OsStr, kind: Kind) -> io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if kind == Kind::File {
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        return Ok(openat(folder, name, flags, Mode::from_raw_mode(0o644))?);
    }
    mkdirat(&folder, name, Mode::from_raw_mode(0o755))?;
    Ok(openat(folder, name, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?)
}

/// Writes a file into an open directory, in place of what has its name; a link is not followed.
pub(crate) fn write_anew(folder: impl AsFd, name: &OsStr, content: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(file), content)
}

/// What an open place is.
pub(crate) fn file_type(place: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_out_stay_inside() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), scratch.path().join("abs")).unwrap();
        symlink("../../../../../..", scratch.path().join("up")).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        root.write(Path::new("/up/etc/hosts"), b"x").unwrap();
        assert_eq!(std::fs::read(scratch.path().join("etc/hosts")).unwrap(), b"x");
        assert!(root.ensure(Path::new("/abs/made"), Kind::Directory).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_replaced_and_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let victim = scratch.path().join("victim");
        std::fs::write(&victim, b"kept").unwrap();
        std::fs::create_dir(scratch.path().join("etc")).unwrap();
        symlink("/victim", scratch.path().join("etc/resolv.conf")).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        root.write(Path::new("/etc/resolv.conf"), b"new").unwrap();
        assert_eq!(std::fs::read(victim).unwrap(), b"kept");
    }

    #[test]
    fn pipes_and_large_files_are_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&scratch.path().join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(scratch.path().join("group"), vec![b'x'; 100]).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        assert!(root.read(Path::new("/passwd"), 10).is_err());
        assert!(root.read(Path::new("/group"), 10).is_err());
        assert_eq!(root.read(Path::new("/missing"), 10).unwrap(), None);
    }
}
