//! What a container has changed of its image, by what lies in its upper.
//!
//! The overlay marks there what is gone: a character device 0/0 in place of it, or an empty file with an attribute; and a
//! directory whose lower contents are hidden as a whole is opaque. A copy of the container's own is compared with the image.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, statat};
use rustix::io::Errno;

use crate::compare;
use crate::copy::{attributes, names, open_regular};
use crate::error::Error;
use crate::rootfs::Rootfs;
use crate::spec::Spec;
use crate::userns;
use crate::visit::shape;

/// Directories within directories that are looked into. The kernel takes no longer paths, and each costs descriptors.
pub(crate) const DEEPEST: usize = 2000;
/// What every container finds mounted.
const MOUNTED: [&str; 3] = ["/dev", "/proc", "/sys"];
const OPAQUE: &str = "user.overlay.opaque";
const WHITEOUT: &str = "user.overlay.whiteout";

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image has none of this name.
    Added,
    /// The image has another.
    Changed,
    /// The image has one, the container none.
    Deleted,
}

/// A difference between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, from the root on.
    pub path: PathBuf,
    /// What.
    pub kind: Kind,
}

/// The changes of a container, each directory before what is in it. This process enters the container's user namespace, or
/// one like it, in which it can look at all.
///
/// # Errors
/// Those of the namespace; [`Error::Files`].
pub fn changes(rootfs: &Rootfs, spec: &Spec) -> Result<Vec<Change>, Error> {
    if let Some(shape) = shape(spec) {
        userns::enter_as(shape)?;
    }
    look(rootfs, spec).map_err(|error| Error::Files(error.to_string()))
}

/// As [`changes`], in a process that can look at all.
pub(crate) fn look(rootfs: &Rootfs, spec: &Spec) -> io::Result<Vec<Change>> {
    let mut changes = match rootfs {
        Rootfs::Overlay { lower, upper, .. } => {
            let mut walk = Walk { own: Own::of(spec), changes: Vec::new() };
            let (upper, lower) = (open(upper)?, open(lower)?);
            walk.directory(Path::new("/"), upper.as_fd(), Some(lower.as_fd()), false, 0)?;
            walk.changes
        }
        Rootfs::Own { lower, data, tree } => compare::changes(lower, data.as_deref(), tree, Own::of(spec))?,
        Rootfs::Directory(_) => {
            return Err(io::Error::other("a directory of the host's has no image to differ from"));
        }
    };
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

/// What is there by our doing: files for the container, and places for its mounts.
pub(crate) struct Own(BTreeSet<PathBuf>);

impl Own {
    fn of(spec: &Spec) -> Self {
        let mounts = spec.mounts.iter().map(|mount| mount.target.clone());
        let files = spec.files.iter().map(|(path, _)| path.clone());
        Self(mounts.chain(files).chain(MOUNTED.map(PathBuf::from)).collect())
    }

    /// Whether a path is ours.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    /// Whether something of ours is below it.
    pub(crate) fn is_above(&self, path: &Path) -> bool {
        self.0.range(path.to_owned()..).next().is_some_and(|own| own.starts_with(path))
    }
}

struct Walk {
    own: Own,
    changes: Vec<Change>,
}

impl Walk {
    /// `hides`: nothing that is in the lower alone is seen through.
    fn directory(
        &mut self,
        path: &Path,
        upper: BorrowedFd<'_>,
        lower: Option<BorrowedFd<'_>>,
        hides: bool,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("{}: too many directories within directories", path.display())));
        }
        let names = names(upper)?;
        if let (true, Some(lower)) = (hides, lower) {
            let present: BTreeSet<&OsString> = names.iter().collect();
            for name in self::names(lower)?.iter().filter(|name| !present.contains(name)) {
                self.changes.push(Change { path: path.join(name), kind: Kind::Deleted });
            }
        }
        for name in names {
            let whole = path.join(&name);
            if self.own.contains(&whole) {
                continue;
            }
            let stat = match statat(upper, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed meanwhile.
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let below = match lower.map(|lower| statat(lower, &name, AtFlags::SYMLINK_NOFOLLOW)).transpose() {
                Err(Errno::NOENT) => None,
                other => other?,
            };
            let kind = if below.is_some() { Kind::Changed } else { Kind::Added };
            if is_whiteout(upper, &name, &stat)? {
                if below.is_some() {
                    self.changes.push(Change { path: whole, kind: Kind::Deleted });
                }
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.entered(whole, (upper, lower), &name, (kind, below), hides, depth)?;
            } else {
                self.changes.push(Change { path: whole, kind });
            }
        }
        Ok(())
    }

    fn entered(
        &mut self,
        path: PathBuf,
        (upper, lower): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
        name: &OsStr,
        (kind, below): (Kind, Option<Stat>),
        hides: bool,
        depth: usize,
    ) -> io::Result<()> {
        let Some(upper) = enter(upper, name)? else { return Ok(()) };
        let is_directory = below.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let lower = lower.filter(|_| is_directory).map(|lower| enter(lower, name)).transpose()?.flatten();
        let before = self.changes.len();
        let hides = hides || is_opaque(&upper)?;
        self.directory(&path, upper.as_fd(), lower.as_ref().map(AsFd::as_fd), hides, depth + 1)?;
        let is_untouched = match &lower {
            Some(lower) => is_alike(&upper, lower)?,
            // Made for something of ours.
            None => below.is_none() && self.own.is_above(&path),
        };
        if self.changes.len() > before || !is_untouched {
            self.changes.push(Change { path, kind });
        }
        Ok(())
    }
}

/// Opens a directory of the store's.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory; `None` where something else is by now.
pub(crate) fn enter(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn is_whiteout(folder: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            let Some((file, _)) = open_regular(folder, name)? else { return Ok(false) };
            Ok(fgetxattr(file, WHITEOUT, &mut [0; 0][..]).is_ok())
        }
        _ => Ok(false),
    }
}

fn is_opaque(folder: &OwnedFd) -> io::Result<bool> {
    let mut value = [0_u8; 1];
    match fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether two directories have the same owner, mode and attributes.
pub(crate) fn is_alike(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let key = |folder: &OwnedFd| -> io::Result<_> {
        let stat = fstat(folder)?;
        let mut attributes = attributes(folder.as_fd())?;
        attributes.sort();
        Ok((stat.st_mode, stat.st_uid, stat.st_gid, attributes))
    };
    Ok(key(one)? == key(other)?)
}
