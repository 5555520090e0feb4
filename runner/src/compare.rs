//! What a container has changed in a copy of its own: its tree held against that of the image.
//!
//! Owner, mode, size and time are compared always; contents and attributes only of what was touched since the copy was made,
//! which the change time tells: no program can set that.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat};
use rustix::io::Errno;

use crate::changes::{Change, DEEPEST, Kind, Own, enter, is_alike, open};
use crate::copy::{attributes, content, names, open_regular};
use crate::own;

/// Bytes that are compared at once.
const BUFFER: u64 = 64 << 10;

/// The changes, in no order.
pub(crate) fn changes(lower: &Path, data: Option<&Path>, tree: &Path, own: Own) -> io::Result<Vec<Change>> {
    let data = data.map(open).transpose()?;
    let mut walk = Walk { own, data, made: own::made(tree)?, changes: Vec::new() };
    let (tree, lower) = (open(tree)?, open(lower)?);
    walk.directory(Path::new("/"), tree.as_fd(), Some(lower.as_fd()), 0)?;
    Ok(walk.changes)
}

struct Walk {
    own: Own,
    data: Option<OwnedFd>,
    made: (i64, u64),
    changes: Vec<Change>,
}

impl Walk {
    fn directory(
        &mut self,
        path: &Path,
        tree: BorrowedFd<'_>,
        lower: Option<BorrowedFd<'_>>,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("{}: too many directories within directories", path.display())));
        }
        let present: BTreeSet<_> = names(tree)?.into_iter().collect();
        for name in lower.map(names).transpose()?.unwrap_or_default() {
            let whole = path.join(&name);
            if !present.contains(&name) && !self.own.contains(&whole) {
                self.changes.push(Change { path: whole, kind: Kind::Deleted });
            }
        }
        for name in present {
            let whole = path.join(&name);
            if self.own.contains(&whole) {
                continue;
            }
            // Removed meanwhile.
            let Some(stat) = look(tree, &name)? else { continue };
            let below = lower.map(|lower| look(lower, &name)).transpose()?.flatten();
            let kind = if below.is_some() { Kind::Changed } else { Kind::Added };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.entered(whole, (tree, lower), &name, (kind, below), depth)?;
                continue;
            }
            let is_same = match (lower, below) {
                (Some(lower), Some(below)) => self.is_same((tree, &stat), (lower, &below), &name)?,
                _ => false,
            };
            if !is_same {
                self.changes.push(Change { path: whole, kind });
            }
        }
        Ok(())
    }

    fn entered(
        &mut self,
        path: PathBuf,
        (tree, lower): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
        name: &OsStr,
        (kind, below): (Kind, Option<Stat>),
        depth: usize,
    ) -> io::Result<()> {
        let Some(tree) = enter(tree, name)? else { return Ok(()) };
        let is_directory = below.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let lower = lower.filter(|_| is_directory).map(|lower| enter(lower, name)).transpose()?.flatten();
        let before = self.changes.len();
        self.directory(&path, tree.as_fd(), lower.as_ref().map(AsFd::as_fd), depth + 1)?;
        let is_untouched = match &lower {
            Some(lower) => is_alike(&tree, lower)?,
            // Made for something of ours.
            None => below.is_none() && self.own.is_above(&path),
        };
        if self.changes.len() > before || !is_untouched {
            self.changes.push(Change { path, kind });
        }
        Ok(())
    }

    /// Whether what is no directory is as in the image.
    fn is_same(
        &self,
        (tree, stat): (BorrowedFd<'_>, &Stat),
        (lower, below): (BorrowedFd<'_>, &Stat),
        name: &OsStr,
    ) -> io::Result<bool> {
        let key = |stat: &Stat| {
            let owner = (stat.st_uid, stat.st_gid);
            (stat.st_mode, owner, stat.st_size, stat.st_rdev, (stat.st_mtime, stat.st_mtime_nsec))
        };
        if key(stat) != key(below) {
            return Ok(false);
        }
        if (stat.st_ctime, stat.st_ctime_nsec) < self.made {
            return Ok(true);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Ok(readlinkat(tree, name, Vec::new())? == readlinkat(lower, name, Vec::new())?),
            FileType::RegularFile => {
                let (Some((mine, _)), Some((its, _))) = (open_regular(tree, name)?, open_regular(lower, name)?) else {
                    return Ok(false);
                };
                let of = |file: &File| -> io::Result<_> {
                    let mut attributes = attributes(file.as_fd())?;
                    attributes.sort();
                    Ok(attributes)
                };
                Ok(of(&mine)? == of(&its)? && is_equal(mine, content(its, self.data.as_ref())?)?)
            }
            _ => Ok(true),
        }
    }
}

/// `None` where there is nothing.
fn look(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Whether two files hold the same bytes.
fn is_equal(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    loop {
        first.clear();
        second.clear();
        let length = one.by_ref().take(BUFFER).read_to_end(&mut first)?;
        other.by_ref().take(BUFFER).read_to_end(&mut second)?;
        if first != second || length == 0 {
            return Ok(first == second);
        }
    }
}
