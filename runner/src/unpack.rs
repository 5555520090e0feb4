//! A tar taken apart below a directory of a container: names in directories that were opened from there, none followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, mknodat, openat, openat2, symlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType, Header};

use crate::copy::{Owner, clear_for_directory, make_way};

/// Unpacks all that comes into a directory.
pub(crate) fn unpack(archive: impl Read, into: &OwnedFd, owner: Owner, overwrite: bool) -> io::Result<()> {
    let mut archive = Archive::new(archive);
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = inner(&entry.path()?)?;
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let Some(name) = path.file_name() else { continue };
        let parent = ensure(into, path.parent().unwrap_or(Path::new(""))).map_err(told)?;
        if one(&mut entry, into, &parent, name, owner, overwrite).map_err(told)? {
            folders.push((path.clone(), entry.header().clone()));
        }
    }
    // Inner ones first: what is put into a directory changes its time.
    for (path, header) in folders.iter().rev() {
        dress(ensure(into, path)?.as_fd(), header, owner)?;
    }
    Ok(())
}

/// A path without what leads nowhere.
///
/// # Errors
/// It leads out.
fn inner(path: &Path) -> io::Result<PathBuf> {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!("{}: the archive names a place outside of it", path.display())));
            }
        }
    }
    Ok(inner)
}

/// Opens a directory below another; missing ones are made.
fn ensure(base: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut folder = base.try_clone()?;
    for name in path.components() {
        match mkdirat(&folder, name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, name.as_os_str(), flags, Mode::empty())?;
    }
    Ok(folder)
}

/// Makes what an entry describes; whether it is a directory, which is dressed in the end.
fn one(
    entry: &mut Entry<'_, impl Read>,
    base: &OwnedFd,
    parent: &OwnedFd,
    name: &OsStr,
    owner: Owner,
    overwrite: bool,
) -> io::Result<bool> {
    let header = entry.header().clone();
    let link = entry.link_name()?.map(|link| OsString::from(link.into_owned()));
    let target = || link.clone().ok_or_else(|| io::Error::other("a link that leads nowhere"));
    match header.entry_type() {
        EntryType::Directory => {
            if overwrite {
                clear_for_directory(parent.as_fd(), name)?;
            }
            ensure(parent, Path::new(name))?;
            return Ok(true);
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            make_way(parent.as_fd(), name, overwrite)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            io::copy(entry, &mut file)?;
            dress(file.as_fd(), &header, owner)?;
        }
        EntryType::Symlink => {
            make_way(parent.as_fd(), name, overwrite)?;
            symlinkat(target()?, parent, name)?;
            let (uid, gid) = ids(&header, owner)?;
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            utimensat(parent, name, &times(&header)?, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        EntryType::Link => {
            let first = inner(Path::new(&target()?))?;
            let (folder, first) = (first.parent().unwrap_or(Path::new("")), first.file_name().unwrap_or_default());
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat2(base, folder, flags, Mode::empty(), resolve)?;
            make_way(parent.as_fd(), name, overwrite)?;
            linkat(folder, first, parent, name, AtFlags::empty())?;
        }
        EntryType::Fifo => {
            make_way(parent.as_fd(), name, overwrite)?;
            let mode = Mode::from_raw_mode(header.mode()? & 0o777);
            mknodat(parent, name, FileType::Fifo, mode, 0)?;
            let (uid, gid) = ids(&header, owner)?;
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // Devices are the host's, and what is not known is not guessed at.
        EntryType::Char | EntryType::Block | EntryType::XGlobalHeader => {}
        kind => return Err(io::Error::other(format!("an entry of an unknown kind, {:?}", char::from(kind.as_byte())))),
    }
    Ok(false)
}

/// The owner first, whose change clears what must come after.
fn dress(file: BorrowedFd<'_>, header: &Header, owner: Owner) -> io::Result<()> {
    let (uid, gid) = ids(header, owner)?;
    fchown(file, Some(uid), Some(gid))?;
    fchmod(file, Mode::from_raw_mode(header.mode()? & 0o7777))?;
    Ok(futimens(file, &times(header)?)?)
}

fn ids(header: &Header, owner: Owner) -> io::Result<(Uid, Gid)> {
    let number = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(io::ErrorKind::InvalidData);
    Ok(match owner {
        Owner::Given(uid, gid) => (Uid::from_raw(uid), Gid::from_raw(gid)),
        Owner::Kept => (Uid::from_raw(number(header.uid()?)?), Gid::from_raw(number(header.gid()?)?)),
    })
}

fn times(header: &Header) -> io::Result<Timestamps> {
    let seconds = i64::try_from(header.mtime()?).map_err(|_| io::ErrorKind::InvalidData)?;
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(Timestamps { last_access: time, last_modification: time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn into(members: &[(&str, EntryType, &str, &[u8])], overwrite: bool, folder: &Path) -> io::Result<()> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, link, body) in members {
            let mut header = Header::new_ustar();
            // By hand: the crate refuses to write what leads out.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(body.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(7);
            header.set_cksum();
            builder.append(&header, *body).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let own = Owner::Given(rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        unpack(tar.as_slice(), &File::open(folder)?.into(), own, overwrite)
    }

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let scratch = tempfile::tempdir().unwrap();
        let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("f"), "old").unwrap();
        let away = outside.to_str().unwrap();
        assert!(into(&[("../out/f", EntryType::Regular, "", b"new")], false, &inside).is_err());
        assert!(
            into(&[("l", EntryType::Symlink, away, b""), ("l/f", EntryType::Regular, "", b"new")], false, &inside)
                .is_err()
        );
        assert!(into(&[("h", EntryType::Link, "l/f", b"")], false, &inside).is_err());
        into(&[("/abs/f", EntryType::Regular, "", b"new"), ("l", EntryType::Regular, "", b"file")], false, &inside)
            .unwrap();
        assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(inside.join("abs/f")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(inside.join("l")).unwrap(), "file", "a link is replaced");
    }

    #[test]
    fn a_directory_is_replaced_only_where_that_is_asked_for() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("d/e")).unwrap();
        std::fs::write(scratch.path().join("f"), "file").unwrap();
        let members: &[(&str, EntryType, &str, &[u8])] =
            &[("d", EntryType::Regular, "", b"new"), ("f/", EntryType::Directory, "", b"")];
        assert!(into(members, false, scratch.path()).is_err());
        into(members, true, scratch.path()).unwrap();
        assert!(scratch.path().join("d").is_file() && scratch.path().join("f").is_dir());
    }
}
