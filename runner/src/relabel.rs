//! SELinux labels on disk of what a container mounts from the host: `z` and `Z` among the options of a mount.
//!
//! A name in a directory is labelled from within that directory, so that no link is followed, and nothing is opened but
//! directories: neither a device nor a FIFO does anything.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, lgetxattr, lsetxattr, openat, setxattr, statat,
};
use rustix::io::Errno;

use crate::copy::names;
use crate::spec::Relabel;
use crate::target::file_type;

/// Where the kernel keeps a file's label (`xattr(7)`).
const ATTRIBUTE: &str = "security.selinux";
/// Most bytes of a label that is looked at; a longer one is another than ours.
const LARGEST: usize = 4096;

/// Gives all of an open tree, a mount that is attached nowhere, the label of the container's files: for this container
/// alone, or for all. Changes the working directory.
///
/// # Errors
/// Those of the file system; one that keeps no labels is left as it is.
pub(crate) fn relabel(tree: &OwnedFd, label: &str, relabel: Relabel) -> io::Result<()> {
    let label = match relabel {
        Relabel::Private => label.to_owned(),
        Relabel::Shared => shared(label),
    };
    let label = label.as_bytes();
    if file_type(tree)? != FileType::Directory {
        // The kernel's own link, which leads to the file and no further.
        let place = format!("/proc/self/fd/{}", tree.as_raw_fd());
        return unless_unknown(setxattr(place, ATTRIBUTE, label, XattrFlags::empty()), Path::new(""));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(tree, ".", flags, Mode::empty())?;
    if !has(|value| fgetxattr(&root, ATTRIBUTE, value), label) {
        unless_unknown(fsetxattr(&root, ATTRIBUTE, label, XattrFlags::empty()), Path::new(""))?;
    }
    let entries = names(&root)?;
    // A stack instead of recursion: the depth is that of what the caller mounts.
    let mut stack = vec![(root, entries)];
    while let Some((folder, entries)) = stack.last_mut() {
        let Some(name) = entries.pop() else {
            stack.pop();
            if let Some((above, _)) = stack.last() {
                rustix::process::fchdir(above)?;
            }
            continue;
        };
        rustix::process::fchdir(&*folder)?;
        if let Some(deeper) = one(folder, &name, label)? {
            let entries = names(&deeper)?;
            stack.push((deeper, entries));
        }
    }
    Ok(())
}

/// Labels a name in the working directory, which is open as `folder`; the directory that it is of, if it is.
fn one(folder: &OwnedFd, name: &OsStr, label: &[u8]) -> io::Result<Option<OwnedFd>> {
    let gone = |error: Errno| error == Errno::NOENT;
    if !has(|value| lgetxattr(name, ATTRIBUTE, value), label) {
        match lsetxattr(name, ATTRIBUTE, label, XattrFlags::empty()) {
            Err(error) if gone(error) => return Ok(None),
            set => unless_unknown(set, Path::new(name))?,
        }
    }
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
        Err(error) if !gone(error) => return Err(error.into()),
        _ => return Ok(None),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder.as_fd(), name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(about(Path::new(name), error)),
        Ok(deeper) => Ok(Some(deeper)),
    }
}

/// The label that all containers of the policy may reach: without categories.
fn shared(label: &str) -> String {
    let mut parts = label.splitn(4, ':');
    let own: Vec<&str> = parts.by_ref().take(3).collect();
    match parts.next() {
        Some(level) => format!("{}:{}", own.join(":"), level.split(':').next().unwrap_or_default()),
        None => own.join(":"),
    }
}

/// Whether a file has that very label: what is so already need not be the caller's to change.
fn has(read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>, label: &[u8]) -> bool {
    let mut value = [0; LARGEST];
    read(&mut value).is_ok_and(|length| value[..length].strip_suffix(b"\0").unwrap_or(&value[..length]) == label)
}

/// Where no labels are kept there is none to be changed.
fn unless_unknown(set: rustix::io::Result<()>, name: &Path) -> io::Result<()> {
    match set {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(about(name, error)),
    }
}

fn about(name: &Path, error: Errno) -> io::Error {
    let why = match error {
        Errno::PERM => "its label is not yours to change; leave out z and Z, or have root run chcon".to_owned(),
        Errno::INVAL => "the policy of this machine has no such label".to_owned(),
        other => other.to_string(),
    };
    let error = io::Error::from(error);
    if name.as_os_str().is_empty() {
        io::Error::new(error.kind(), why)
    } else {
        io::Error::new(error.kind(), format!("{}: {why}", name.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_label_has_no_categories() {
        assert_eq!(shared("system_u:object_r:container_file_t:s0:c1,c2"), "system_u:object_r:container_file_t:s0");
        assert_eq!(shared("system_u:object_r:container_file_t:s0"), "system_u:object_r:container_file_t:s0");
        assert_eq!(shared("a:b:c"), "a:b:c");
    }
}
