//! Files that a container finds besides those of its image, put into its upper before the overlay is mounted.
//!
//! Written through the overlay, each would first have its directory copied up: made in the working directory, given the
//! attributes of the lower one, renamed. Here the directory is made in its place. What is not plainly a directory below,
//! such as a link or one with extended attributes, is left for the overlay.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, flistxattr_query, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::target::{Root, write_anew};

/// A file of ours: absolute path in the container, content.
pub(crate) type File = (PathBuf, Vec<u8>);

/// Writes the files into `upper`, which `lower` will lie under; returns those that the overlay must be asked for.
pub(crate) fn seed<'f>(lower: &Root, upper: &Root, files: &'f [File]) -> io::Result<Vec<&'f File>> {
    let mut left = Vec::new();
    let mut folders: Vec<(&Path, Option<OwnedFd>)> = Vec::new();
    for file in files {
        let (Some(parent), Some(name)) = (file.0.parent(), file.0.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let known = folders.iter().position(|(path, _)| *path == parent);
        let index = known.unwrap_or(folders.len());
        if known.is_none() {
            folders.push((parent, folder(lower, upper, parent)?));
        }
        match &folders[index].1 {
            Some(folder) => write_anew(folder, name, &file.1)?,
            None => left.push(file),
        }
    }
    Ok(left)
}

/// The directory in the upper that stands for `path`; `None` where only the overlay can tell.
fn folder(lower: &Root, upper: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    let mut below = Some(lower.as_fd().try_clone_to_owned()?);
    let mut above = upper.as_fd().try_clone_to_owned()?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        below = match below.map(|folder| enter(folder.as_fd(), name)).transpose() {
            Ok(entered) => entered.flatten(),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        above = match enter(above.as_fd(), name) {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                if !make_like(above.as_fd(), name, below.as_ref())? {
                    return Ok(None);
                }
                enter(above.as_fd(), name)?.ok_or(io::ErrorKind::NotFound)?
            }
            // An earlier run of the container put something else there.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some(above))
}

/// Opens a directory within a directory; `None` where there is nothing, `NOTDIR` or `LOOP` for a link or a file.
fn enter(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(entered) => Ok(Some(entered)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory with the owner and mode of the one that it will cover; `false` where that has more than those.
fn make_like(folder: BorrowedFd<'_>, name: &OsStr, model: Option<&OwnedFd>) -> io::Result<bool> {
    let Some(model) = model else {
        mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
        return Ok(true);
    };
    if flistxattr_query(model)? > 0 {
        return Ok(false);
    }
    let stat = fstat(model)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    mkdirat(folder, name, mode)?;
    if (stat.st_uid, stat.st_gid) != (geteuid().as_raw(), getegid().as_raw()) {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // What the umask took, and what mkdir and a change of owner do not give.
    if mode != Mode::from_raw_mode(0o755) {
        chmodat(folder, name, mode, AtFlags::empty())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn seed<'f>(lower: &Path, upper: &Path, files: &'f [File]) -> io::Result<Vec<&'f File>> {
        super::seed(&Root::open(lower)?, &Root::open(upper)?, files)
    }

    fn layers() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let (lower, upper) = (scratch.path().join("lower"), scratch.path().join("upper"));
        fs::create_dir(&lower).unwrap();
        fs::create_dir(&upper).unwrap();
        (scratch, lower, upper)
    }

    fn file(path: &str) -> File {
        (path.into(), b"ours".to_vec())
    }

    #[test]
    fn a_directory_of_the_image_keeps_its_mode_under_a_file_of_ours() {
        let (_scratch, lower, upper) = layers();
        fs::create_dir(lower.join("etc")).unwrap();
        fs::set_permissions(lower.join("etc"), fs::Permissions::from_mode(0o1777)).unwrap();
        let files = [file("/etc/hosts"), file("/etc/hostname"), file("/run/.containerenv")];
        assert!(seed(&lower, &upper, &files).unwrap().is_empty());
        assert_eq!(fs::metadata(upper.join("etc")).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(fs::metadata(upper.join("run")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read(upper.join("etc/hostname")).unwrap(), b"ours");
        assert_eq!(fs::read_dir(lower.join("etc")).unwrap().count(), 0, "the image is as it was");
    }

    #[test]
    fn what_is_no_directory_below_is_left_for_the_overlay() {
        let (_scratch, lower, upper) = layers();
        symlink("/elsewhere", lower.join("etc")).unwrap();
        fs::write(lower.join("run"), b"a file").unwrap();
        let files = [file("/etc/hosts"), file("/run/.containerenv")];
        assert_eq!(seed(&lower, &upper, &files).unwrap(), files.iter().collect::<Vec<_>>());
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    }

    #[test]
    fn files_of_an_earlier_run_are_replaced_and_links_not_followed() {
        let (scratch, lower, upper) = layers();
        let victim = scratch.path().join("victim");
        fs::write(&victim, b"kept").unwrap();
        fs::create_dir(upper.join("etc")).unwrap();
        symlink(&victim, upper.join("etc/hosts")).unwrap();
        symlink(scratch.path(), upper.join("run")).unwrap();
        let files = [file("/etc/hosts"), file("/run/.containerenv")];
        assert_eq!(seed(&lower, &upper, &files).unwrap(), [&files[1]]);
        assert_eq!(fs::read(upper.join("etc/hosts")).unwrap(), b"ours");
        assert_eq!(fs::read(victim).unwrap(), b"kept");
    }
}
