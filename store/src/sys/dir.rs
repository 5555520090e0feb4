//! A directory held open, and the verbs on the names in it.
//!
//! No function takes a path of several components from an image: names are single components, symbolic links are
//! never followed, so nothing that an image contains can lead out of the directory that is held open (the
//! confinement of `openat2(2)` `RESOLVE_BENEATH`, reached by construction).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lstore_tar::member::{MOST_MAJOR, MOST_MINOR};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn single(name: &[u8]) -> io::Result<&OsStr> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a single path component"));
    }
    Ok(OsStr::from_bytes(name))
}

impl Dir {
    /// Opens a directory by a path that the user gave, following symbolic links.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// A second descriptor of the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?))
    }

    /// Opens the directory `name`, which must not be a symbolic link.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, single(name)?, flags, Mode::empty())?))
    }

    /// Makes the directory `name`; fails with `AlreadyExists` where something has that name.
    pub fn make_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, single(name)?, Mode::from_raw_mode(mode))?)
    }

    /// Makes the directory `name` where it is missing, and opens it.
    pub fn ensure_dir(&self, name: &[u8], mode: u32) -> io::Result<Self> {
        match self.make_dir(name, mode) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.open_dir(name),
        }
    }

    /// Creates the regular file `name`, which must not exist, for writing.
    pub fn create_new(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, single(name)?, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Opens the regular file `name` for reading; a symbolic link, FIFO or device is refused without being opened
    /// for good (`O_NONBLOCK` keeps a FIFO from blocking).
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = rustix::fs::openat(&self.0, single(name)?, flags, Mode::empty())?.into();
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    /// Opens `name` for reading and writing, creating it where it is missing; for lock files.
    pub fn open_lock(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, single(name)?, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// A nameless file in this directory (`O_TMPFILE`), readable and writable, gone when closed.
    pub fn nameless(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0, ".", flags, Mode::from_raw_mode(0o600)) {
            // NFS and FUSE make none, and neither did the overlay before Linux 6.1.
            Err(Errno::OPNOTSUPP) => self.unnamed(),
            other => Ok(other?.into()),
        }
    }

    /// The same by a name that is taken away at once.
    fn unnamed(&self) -> io::Result<File> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("unnamed-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&self.0, name.as_str(), flags, Mode::from_raw_mode(0o600)) {
                // Of a process that was killed.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
                Ok(file) => match self.unlink(name.as_bytes()) {
                    // A collector has taken it for a left-over.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => return Ok(file.into()),
                },
            }
        }
    }

    /// What `name` is, without following a symbolic link.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, single(name)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What the directory itself is.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Whether something has the name.
    pub fn exists(&self, name: &[u8]) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Target of the symbolic link `name`.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, single(name)?, Vec::new())?.into_bytes())
    }

    /// Makes the symbolic link `name` to `target`, whose bytes are stored as they are.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), &self.0, single(name)?)?)
    }

    /// Gives the file `name` of this directory a second name in `to`.
    pub fn link(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.0, single(name)?, &to.0, single(new_name)?, AtFlags::empty())?)
    }

    /// Makes a FIFO or a device.
    ///
    /// # Errors
    /// Numbers that would be cut to those of another device, and a character device 0:0, which an overlay takes for the
    /// absence of a file; those of `mknod(2)`.
    pub fn make_node(&self, name: &[u8], kind: FileType, mode: u32, (major, minor): (u32, u32)) -> io::Result<()> {
        let is_whiteout = kind == FileType::CharacterDevice && (major, minor) == (0, 0);
        if is_whiteout || major > MOST_MAJOR || minor > MOST_MINOR {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{major}:{minor} is no device")));
        }
        let device = rustix::fs::makedev(major, minor);
        Ok(rustix::fs::mknodat(&self.0, single(name)?, kind, Mode::from_raw_mode(mode), device)?)
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, single(name)?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, single(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Moves `name` to `new_name` in `to`, replacing what is there.
    pub fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, single(name)?, &to.0, single(new_name)?)?)
    }

    /// Sets owner, without following a symbolic link.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(rustix::fs::chownat(&self.0, single(name)?, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permission bits (0o7777) of something that is not a symbolic link.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::chmodat(&self.0, single(name)?, Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    /// Sets the modification time (seconds, nanoseconds), and the access time to the same, without following links.
    pub fn set_mtime(&self, name: &[u8], seconds: i64, nanoseconds: u32) -> io::Result<()> {
        let times = timestamps(seconds, nanoseconds);
        Ok(rustix::fs::utimensat(&self.0, single(name)?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The names in the directory but "." and "..", with their types where the file system tells.
    pub fn entries(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let fresh =
            rustix::fs::openat(&self.0, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut reader = RawDir::new(fresh, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = reader.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(entries)
    }
}

impl From<OwnedFd> for Dir {
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}

/// Access and modification time from one pair.
pub fn timestamps(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_several_components_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            let error = dir.make_dir(name.as_bytes(), 0o755).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn nameless_files_leave_no_name_behind() {
        use std::io::{Read, Seek, Write};
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        for mut file in [dir.nameless().unwrap(), dir.unnamed().unwrap()] {
            file.write_all(b"kept").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), dir.entries().unwrap().len()), ("kept", 0));
        }
    }

    #[test]
    fn symbolic_links_are_never_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        dir.symlink(b"/etc", b"d").unwrap();
        dir.symlink(b"/etc/hostname", b"f").unwrap();
        assert!(dir.open_dir(b"d").is_err());
        assert!(dir.open_file(b"f").is_err());
        assert!(dir.create_new(b"f", 0o644).is_err());
    }
}
