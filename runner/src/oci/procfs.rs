//! The kernel's files about this process and its namespaces (`proc(5)`), whatever a container has at `/proc`.
//!
//! A label that is written to a volume's file confines nobody, and the command would run all the same (CVE-2019-16884). So
//! what is written goes through a descriptor of a procfs, of which nothing is reached that is mounted over or below it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, open, openat2};

use crate::child::{During, Failure};
use crate::error::Stage;
use crate::target::Root;

/// The number of the root's inode, in every procfs (`linux/proc_fs.h`, `PROC_ROOT_INO`).
const ROOT: u64 = 1;

/// A procfs, by its root.
#[derive(Debug)]
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    /// That of the mount namespace where this process is: to be called before it joins another's, or mounts anything for a
    /// container. It shows this process under `self` afterwards too.
    ///
    /// # Errors
    /// There is none, or something else is in its place.
    pub(super) fn here() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::checked(open("/proc", flags, Mode::empty())?)
    }

    /// That of a container.
    ///
    /// # Errors
    /// As for [`Self::here`].
    pub(super) fn of(root: &Root) -> io::Result<Self> {
        Self::checked(root.unfollowed(Path::new("/proc"))?.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Says how soon the kernel is to end this process, and what it makes, where memory is short. To be called before it
    /// joins a container or hides: then the file is its own, and the kernel's.
    pub(super) fn set_score(score: Option<i32>) -> Result<(), Failure> {
        let Some(score) = score.map(|score| score.to_string()) else { return Ok(()) };
        let procfs = Self::here().during(Stage::OomScore, &score)?;
        procfs.write("self/oom_score_adj", &score).during(Stage::OomScore, &score)
    }

    fn checked(place: OwnedFd) -> io::Result<Self> {
        if is_procfs(&place)? { Ok(Self(place)) } else { Err(io::Error::other("/proc is not the kernel's")) }
    }

    /// Opens a file for writing, by its path from the root.
    ///
    /// # Errors
    /// Those of `openat2(2)`, of which `EXDEV` says that something is mounted over it.
    pub(super) fn writer(&self, file: impl AsRef<Path>) -> io::Result<File> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.0, file.as_ref(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), within) {
                // The kernel asks to try again.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::XDEV) => {
                    return Err(io::Error::other("something is mounted over the kernel's file"));
                }
                opened => return Ok(opened?.into()),
            }
        }
    }

    /// Writes to a file, as [`Self::writer`] opens it.
    ///
    /// # Errors
    /// Those of opening and writing.
    pub(super) fn write(&self, file: impl AsRef<Path>, value: &str) -> io::Result<()> {
        self.writer(file)?.write_all(value.as_bytes())
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a place is the root of a procfs.
pub(super) fn is_procfs(place: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(&place)?.f_type == PROC_SUPER_MAGIC && fstat(&place)?.st_ino == ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_root_of_a_procfs_is_one() {
        let procfs = Procfs::here().unwrap();
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        procfs.write("self/oom_score_adj", own.trim()).unwrap();
        for folder in ["/proc/self", "/proc/sys", "/sys", "/"] {
            assert!(Procfs::checked(File::open(folder).unwrap().into()).is_err(), "{folder}");
        }
    }

    #[test]
    fn no_way_leads_out_of_it() {
        let procfs = Procfs::here().unwrap();
        let scratch = tempfile::NamedTempFile::new().unwrap();
        let opened = std::os::fd::AsRawFd::as_raw_fd(scratch.as_file());
        for path in [format!("self/fd/{opened}"), "self/root/dev/null".to_owned(), "../dev/null".to_owned()] {
            assert!(procfs.writer(&path).is_err(), "{path}");
        }
    }
}
