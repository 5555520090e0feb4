//! Files in and out of a container: `cp`, with podman's rules of what goes where.
//!
//! A source that is a directory is copied *as* the destination where that is not there yet, *into* it where it is, and its
//! contents alone where it was written with `/.` at its end. A file goes into a directory under its own name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::archive::pack;
use crate::attach;
use crate::copy::{Copier, Owner, clear_for_directory, open_regular};
use crate::error::{Action, Error};
use crate::identity;
use crate::rights::add_root_to;
use crate::sys::mount::map_ids;
use crate::target::{Root, file_type};
use crate::unpack::unpack;
use crate::visit::{Visited, visit, visit_to_take};

/// How many links may lead from one to the next, as in the kernel.
const LINKS: usize = 40;

/// What is copied.
#[derive(Debug)]
enum Source {
    File(File),
    Directory(OwnedFd),
}

impl Source {
    /// Its descriptor.
    fn number(&self) -> RawFd {
        match self {
            Self::File(file) => file.as_raw_fd(),
            Self::Directory(directory) => directory.as_raw_fd(),
        }
    }
}

/// What is copied, and the name that it has where it is copied into a directory; `None` for its contents alone.
#[derive(Debug)]
pub struct Original {
    source: Source,
    name: Option<OsString>,
}

/// How something is put into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether it stays whose it is; else it becomes the container's user's.
    pub keeps_owners: bool,
    /// Whether directories give way to what is none, and the other way round.
    pub overwrite: bool,
}

impl Manner {
    fn owner(self, container: &Visited<'_>, root: &Root) -> io::Result<Owner> {
        if self.keeps_owners {
            return Ok(Owner::Kept);
        }
        let identity = identity::look_up(root, &container.spec().user, &[])?;
        Ok(Owner::Given(identity.uid, identity.gid))
    }
}

/// Where to.
#[derive(Debug)]
pub enum Place {
    /// Into a directory that is there.
    Into(OwnedFd),
    /// To a name in a directory, where something other than a directory may be.
    As(OwnedFd, OsString),
}

impl Original {
    /// Opens what is at a path of the host's, which is the caller's own to resolve. Nothing is waited for.
    ///
    /// # Errors
    /// Those of the file system; it is neither a file nor a directory.
    pub fn of_host(path: &Path) -> io::Result<Self> {
        let whole = std::fs::canonicalize(path)?;
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Ok(Self { source: Source::Directory(open_directory(&whole)?), name: None });
        };
        let is_directory = std::fs::symlink_metadata(&whole)?.is_dir();
        if !is_directory && ends_as_directory(path) {
            return Err(Errno::NOTDIR.into());
        }
        let source = if is_directory {
            Source::Directory(open_directory(&whole)?)
        } else {
            let folder = open_directory(parent)?;
            Source::File(open_regular(folder.as_fd(), name)?.ok_or_else(special)?.0)
        };
        // The name that was written, not that of what a link leads to.
        let name = path.file_name().unwrap_or(name).to_owned();
        Ok(Self { source, name: (!is_contents(path)).then_some(name) })
    }

    /// The same with the ids of a container, which has power over what is in a directory by that alone.
    fn shown_within(self, namespace: &File) -> io::Result<Self> {
        let Source::Directory(directory) = &self.source else { return Ok(self) };
        let tree = attach::copy_tree(directory)?;
        map_ids(&tree, namespace, true, nix::libc::MS_PRIVATE).map_err(|error| {
            let way = "the file system does not show it with the container's ids; stop the container first";
            io::Error::other(format!("{way} ({error})"))
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let source = Source::Directory(openat(tree, ".", flags, Mode::empty())?);
        Ok(Self { source, ..self })
    }

    fn of_container(root: &Root, path: &Path) -> io::Result<Self> {
        let place = root.place(path)?;
        let source = match file_type(&place)? {
            FileType::Directory => Source::Directory(root.directory(path)?),
            _ if ends_as_directory(path) => return Err(Errno::NOTDIR.into()),
            FileType::RegularFile => {
                let (folder, name) = end_of_links(root, path)?;
                Source::File(open_regular(folder.as_fd(), &name)?.ok_or_else(special)?.0)
            }
            _ => return Err(special()),
        };
        let name = clean(path).file_name().map(OsStr::to_owned);
        Ok(Self { source, name: name.filter(|_| !is_contents(path)) })
    }
}

impl Place {
    /// The directory's descriptor.
    fn number(&self) -> RawFd {
        match self {
            Self::Into(folder) | Self::As(folder, _) => folder.as_raw_fd(),
        }
    }

    /// Opens the place at a path of the host's.
    ///
    /// # Errors
    /// Those of the file system; the directory around it is missing.
    pub fn of_host(path: &Path) -> io::Result<Self> {
        match std::fs::canonicalize(path) {
            Ok(whole) if whole.is_dir() => Ok(Self::Into(open_directory(&whole)?)),
            Ok(_) if ends_as_directory(path) => Err(Errno::NOTDIR.into()),
            // The link, not what it leads to: it may have come out of a container before.
            Ok(_) => Self::beside(&std::path::absolute(path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ends_as_directory(path) => {
                Self::beside(&std::path::absolute(path)?)
            }
            Err(error) => Err(error),
        }
    }

    fn beside(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Self::As(open_directory(parent)?, name.to_owned()))
    }

    fn of_container(root: &Root, path: &Path) -> io::Result<Self> {
        match root.place(path).and_then(|place| file_type(&place)) {
            Ok(FileType::Directory) => Ok(Self::Into(root.directory(path)?)),
            Ok(_) if ends_as_directory(path) => Err(Errno::NOTDIR.into()),
            Ok(_) => end_of_links(root, path).map(|(folder, name)| Self::As(folder, name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ends_as_directory(path) => {
                let whole = clean(path);
                let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else { return Err(error) };
                Ok(Self::As(root.directory(parent)?, name.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies from a container to the host. The copies are the caller's, without set-id bits.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Files`].
pub fn copy_out(container: &Visited<'_>, from: &Path, to: Place, overwrite: bool) -> Result<(), Error> {
    let ((uid, gid), caller) = (container.caller(), container.other_than_root());
    visit_to_take(container, &[to.number()], |root| {
        add_root_to(caller)?;
        let original = Original::of_container(root, from).map_err(|error| about(from, &error))?;
        place(&mut Copier::new(Owner::Given(uid, gid), true, overwrite), original, to)
    })
}

/// Copies from the host into a container. The copies are the container's user's, or, where `manner` says so, whose the
/// originals are, as far as they exist inside.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Files`].
pub fn copy_in(container: &Visited<'_>, original: Original, to: &Path, manner: Manner) -> Result<(), Error> {
    let original = match container.other_ids().action("look up the container's user namespace")? {
        Some(namespace) => original.shown_within(&namespace).map_err(|error| Error::Files(error.to_string()))?,
        None => original,
    };
    let caller = container.other_than_root();
    visit(container, &[original.source.number()], |root| {
        let owner = manner.owner(container, root)?;
        let target = Place::of_container(root, to).map_err(|error| about(to, &error))?;
        let copier = Copier::new(owner, false, manner.overwrite);
        place(&mut copier.reading_as(caller), original, target)
    })
}

/// Writes what is at a path of a container as a tar, under its own name, or for `/.` at its end what is in it.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Files`].
pub fn pack_out(container: &Visited<'_>, from: &Path, out: &File) -> Result<(), Error> {
    visit(container, &[out.as_raw_fd()], |root| {
        let found = root.place(from).map_err(|error| about(from, &error))?;
        let name = clean(from).file_name().map(OsStr::to_owned).filter(|_| !is_contents(from));
        if file_type(&found)? == FileType::Directory {
            let folder = root.directory(from).map_err(|error| about(from, &error))?;
            return pack(folder.as_fd(), None, name.as_deref(), out);
        }
        if ends_as_directory(from) {
            return Err(about(from, &Errno::NOTDIR));
        }
        let (folder, end) = end_of_links(root, from)?;
        pack(folder.as_fd(), Some(&end), name.as_deref(), out)
    })
}

/// Unpacks a tar into a directory of a container.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Files`].
pub fn unpack_in(container: &Visited<'_>, archive: &File, to: &Path, manner: Manner) -> Result<(), Error> {
    visit(container, &[archive.as_raw_fd()], |root| {
        let owner = manner.owner(container, root)?;
        let folder = root.directory(to).map_err(|error| about(to, &error))?;
        unpack(io::BufReader::new(archive), &folder, owner, manner.overwrite)
    })
}

/// The rules of what goes where.
fn place(copier: &mut Copier, original: Original, to: Place) -> io::Result<()> {
    match (original.source, original.name, to) {
        (Source::Directory(from), None, Place::Into(to)) => copier.contents(from, to, false),
        (Source::Directory(from), Some(name), Place::Into(to)) => new_directory(copier, from, &to, &name),
        (Source::Directory(from), _, Place::As(folder, name)) => {
            match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => new_directory(copier, from, &folder, &name),
                Ok(_) if copier.overwrites() => {
                    clear_for_directory(folder.as_fd(), &name)?;
                    new_directory(copier, from, &folder, &name)
                }
                _ => Err(about(Path::new(&name), &"a directory cannot be copied to what is no directory")),
            }
        }
        (Source::File(_), None, _) => Err(Errno::NOTDIR.into()),
        (Source::File(from), Some(name), Place::Into(to)) => copier.file(from, to.as_fd(), &name),
        (Source::File(from), _, Place::As(folder, name)) => copier.file(from, folder.as_fd(), &name),
    }
}

/// A directory as a name in another; one that is there takes the contents in.
fn new_directory(copier: &mut Copier, from: OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let is_new = match mkdirat(to, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, Mode::empty()).map_err(|error| about(Path::new(name), &error))?;
    if (fstat(&copy)?.st_dev, fstat(&copy)?.st_ino) == (fstat(&from)?.st_dev, fstat(&from)?.st_ino) {
        return Err(about(Path::new(name), &"source and destination are the same"));
    }
    copier.contents(from, copy, is_new)
}

/// The directory and the name that a path ends at when its last links are followed, each below the root.
fn end_of_links(root: &Root, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let mut path = clean(path);
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR.into());
        };
        let (parent, name) = (parent.to_owned(), name.to_owned());
        let folder = root.directory(&parent)?;
        match rustix::fs::readlinkat(&folder, &name, Vec::new()) {
            // Not cleaned: what ".." means is the kernel's to tell.
            Ok(target) => path = parent.join(OsStr::from_bytes(target.as_bytes())),
            Err(Errno::INVAL) => return Ok((folder, name)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::LOOP.into())
}

/// A path from the root on, without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Whether a path asks for what is in a directory, not for the directory.
fn is_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.") || clean(path) == Path::new("/") && bytes.starts_with(b"/")
}

/// Whether a path can only mean a directory.
fn ends_as_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || is_contents(path)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn special() -> io::Error {
    io::Error::other("it is neither a file nor a directory")
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_whether_it_means_a_directory_or_what_is_in_it() {
        for (path, contents, directory) in [
            ("/a", false, false),
            ("/a/", false, true),
            ("/a/.", true, true),
            (".", true, true),
            ("/", true, true),
            ("/a/..", true, true),
            ("a/..", false, false),
            ("/.a", false, false),
        ] {
            let path = Path::new(path);
            assert_eq!((is_contents(path), ends_as_directory(path)), (contents, directory), "{}", path.display());
        }
        assert_eq!(clean(Path::new("/a/./../../b//c/")), Path::new("/b/c"));
    }
}
