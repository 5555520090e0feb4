//! Tars of containers: all that one sees of its root, or what it has changed as a layer of an image.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, major, minor, openat, openat2, statat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::changes::{Kind, look};
use crate::copy::{attributes, names, open_regular};
use crate::error::Error;
use crate::rootfs::Rootfs;
use crate::spec::Spec;
use crate::userns;
use crate::visit::{Visited, shape, visit};

/// Bytes of the name and of the link field of a header.
const NAME_FIELD: usize = 100;
/// The largest numbers that the fields for ids, and for size and time, hold.
const LARGEST_ID: u32 = 0o7_777_777;
const LARGEST_NUMBER: u64 = 0o77_777_777_777;
/// What a layer's names begin with that mean the absence of a file.
const WHITEOUT: &[u8] = b".wh.";
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Writes what a container has below its root, without what is mounted there.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Files`].
pub fn export(container: &Visited<'_>, out: &File) -> Result<(), Error> {
    visit(container, &[out.as_raw_fd()], |root| {
        let mut archive = Archive::new(io::BufWriter::with_capacity(BUFFER, out));
        archive.tree(root.as_fd())?;
        archive.finish()
    })
}

/// Writes a directory as `name`, or what is in it, or of what is in it one file alone.
pub(crate) fn pack(root: BorrowedFd<'_>, file: Option<&OsStr>, name: Option<&OsStr>, out: &File) -> io::Result<()> {
    let mut archive = Archive::new(io::BufWriter::with_capacity(BUFFER, out));
    if let Some(file) = file {
        archive.renamed = name.map(|name| (file.into(), name.into()));
        archive.member(root, Path::new(file))?;
        return archive.finish();
    }
    archive.renamed = name.map(|name| (PathBuf::new(), name.into()));
    archive.tree(root)?;
    archive.finish()
}

/// Writes what a container has changed, as a layer. This process enters the container's user namespace, or one like it, in
/// which the files have the owners that they have inside.
///
/// # Errors
/// Those of the namespace; [`Error::Files`].
pub fn layer(rootfs: &Rootfs, spec: &Spec, out: &mut dyn Write) -> Result<(), Error> {
    if let Some(shape) = shape(spec) {
        userns::enter_as(shape)?;
    }
    write_layer(rootfs, spec, out).map_err(|error| Error::Files(error.to_string()))
}

fn write_layer(rootfs: &Rootfs, spec: &Spec, out: &mut dyn Write) -> io::Result<()> {
    let changes = look(rootfs, spec)?;
    let upper = rootfs.changed().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = rustix::fs::open(upper, flags, Mode::empty())?;
    let mut archive = Archive::new(io::BufWriter::with_capacity(BUFFER, out));
    for change in changes {
        let path = change.path.strip_prefix("/").unwrap_or(&change.path);
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name.starts_with(WHITEOUT) {
            let path = path.display();
            return Err(io::Error::other(format!("/{path}: no layer can hold a file of such a name; remove it")));
        }
        if change.kind == Kind::Deleted {
            archive.whiteout(&path.with_file_name(OsStr::from_bytes(&[WHITEOUT, name].concat())))?;
        } else {
            archive.member(upper.as_fd(), path)?;
        }
    }
    archive.finish()
}

/// A tar in the writing.
struct Archive<W: Write> {
    builder: Builder<W>,
    /// The first name of each inode that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// A path, empty for the root, and what it is called instead.
    renamed: Option<(PathBuf, PathBuf)>,
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self { builder: Builder::new(out), linked: HashMap::new(), renamed: None }
    }

    /// Writes all that is below a directory, and itself.
    fn tree(&mut self, root: BorrowedFd<'_>) -> io::Result<()> {
        let mut stack = vec![PathBuf::new()];
        while let Some(path) = stack.pop() {
            let Some(folder) = self.member(root, &path)? else { continue };
            let mut names = names(&folder)?;
            names.sort_unstable_by(|one, other| other.cmp(one));
            stack.extend(names.into_iter().map(|name| path.join(name)));
        }
        Ok(())
    }

    /// What a path is called in the tar.
    fn called(&self, path: &Path) -> Vec<u8> {
        let path = match &self.renamed {
            // Joined with nothing, a path would end with a slash.
            Some((old, new)) if path == old => new.clone(),
            Some((old, new)) => path.strip_prefix(old).map_or_else(|_| path.to_owned(), |rest| new.join(rest)),
            None => path.to_owned(),
        };
        path.as_os_str().as_bytes().to_vec()
    }

    fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }

    /// Writes what is at a path below `root`, which is empty for the root itself; the directory, if it is one to look into. What
    /// has gone meanwhile, or is mounted there, is left out.
    fn member(&mut self, root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
        let Some(name) = path.file_name() else {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(root, ".", flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&root)?;
            let mut called = self.called(Path::new(""));
            if called.is_empty() {
                called.push(b'.');
            }
            called.push(b'/');
            self.append(&stat, EntryType::Directory, &called, b"", &attributes(root.as_fd())?, None)?;
            return Ok(Some(root));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let Some(folder) = below(root, parent.unwrap_or(Path::new(".")))? else { return Ok(None) };
        let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let mut whole = self.called(path);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            whole.push(b'/');
            let entered = below(folder.as_fd(), Path::new(name))?;
            let attributes = entered.as_ref().map(|folder| attributes(folder.as_fd())).transpose()?;
            self.append(&stat, EntryType::Directory, &whole, b"", &attributes.unwrap_or_default(), None)?;
            return Ok(entered);
        }
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && kind != FileType::Symlink {
            if let Some(first) = self.linked.get(&key).cloned() {
                self.append(&stat, EntryType::Link, &whole, &first, &[], None)?;
                return Ok(None);
            }
            self.linked.insert(key, whole.clone());
        }
        match kind {
            FileType::RegularFile => {
                let Some((file, stat)) = open_on(folder.as_fd(), name)? else {
                    self.linked.remove(&key);
                    return Ok(None);
                };
                let attributes = attributes(file.as_fd())?;
                self.append(&stat, EntryType::Regular, &whole, b"", &attributes, Some(file))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                self.append(&stat, EntryType::Symlink, &whole, target.as_bytes(), &[], None)?;
            }
            FileType::Fifo => self.append(&stat, EntryType::Fifo, &whole, b"", &[], None)?,
            // What hides a file in an overlay, and is no device of anybody's.
            FileType::CharacterDevice if stat.st_rdev == 0 => drop(self.linked.remove(&key)),
            FileType::CharacterDevice => self.append(&stat, EntryType::Char, &whole, b"", &[], None)?,
            FileType::BlockDevice => self.append(&stat, EntryType::Block, &whole, b"", &[], None)?,
            // A socket, which a tar cannot hold.
            _ => drop(self.linked.remove(&key)),
        }
        Ok(None)
    }

    fn whiteout(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        let mut extensions = Vec::new();
        name_fields(&mut header, path.as_os_str().as_bytes(), b"", &mut extensions);
        self.write(&mut header, &extensions, None)
    }

    fn append(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        attributes: &[(std::ffi::CString, Vec<u8>)],
        content: Option<File>,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        let mut extensions: Vec<(String, Vec<u8>)> = Vec::new();
        let mut number = |key: &str, value: String| extensions.push((key.to_owned(), value.into_bytes()));
        for (id, key) in [(stat.st_uid, "uid"), (stat.st_gid, "gid")] {
            let field = if id <= LARGEST_ID { id } else { 0 };
            if key == "uid" {
                header.set_uid(field.into());
            } else {
                header.set_gid(field.into());
            }
            if id > LARGEST_ID {
                number(key, id.to_string());
            }
        }
        let seconds = u64::try_from(stat.st_mtime).ok().filter(|&seconds| seconds <= LARGEST_NUMBER);
        header.set_mtime(seconds.unwrap_or(0));
        if seconds.is_none() || stat.st_mtime_nsec != 0 {
            number("mtime", decimal_time(stat.st_mtime, stat.st_mtime_nsec));
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(major(stat.st_rdev))?;
            header.set_device_minor(minor(stat.st_rdev))?;
        }
        let size = if content.is_some() { stat.st_size.unsigned_abs() } else { 0 };
        header.set_size(size);
        if size > LARGEST_NUMBER {
            number("size", size.to_string());
        }
        name_fields(&mut header, path, link, &mut extensions);
        for (name, value) in attributes {
            extensions.push((format!("SCHILY.xattr.{}", name.to_string_lossy()), value.clone()));
        }
        self.write(&mut header, &extensions, content.map(|file| (file, size)))
    }

    fn write(
        &mut self,
        header: &mut Header,
        extensions: &[(String, Vec<u8>)],
        content: Option<(File, u64)>,
    ) -> io::Result<()> {
        if !extensions.is_empty() {
            let pairs = extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(pairs)?;
        }
        header.set_cksum();
        match content {
            // The header has told the size: a file that has become shorter meanwhile is filled up.
            Some((file, size)) => self.builder.append(header, file.chain(io::repeat(0)).take(size)),
            None => self.builder.append(header, io::empty()),
        }
    }
}

/// Opens a directory below another; `None` where there is none any more, or another's file system.
fn below(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
            other => return Ok(Some(other?)),
        }
    }
}

/// Opens a regular file that is not mounted there; `None` for anything else.
fn open_on(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<(File, Stat)>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(folder, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::XDEV | Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => open_regular(folder, name),
    }
}

/// Fills the fields for names; those that do not fit become extensions.
fn name_fields(header: &mut Header, path: &[u8], link: &[u8], extensions: &mut Vec<(String, Vec<u8>)>) {
    let fields = header.as_old_mut();
    for (text, field, key) in [(path, &mut fields.name, "path"), (link, &mut fields.linkname, "linkpath")] {
        let fits = text.len().min(NAME_FIELD);
        field[..fits].copy_from_slice(&text[..fits]);
        if text.len() > NAME_FIELD {
            extensions.push((key.to_owned(), text.to_vec()));
        }
    }
}

/// Seconds with a fraction, negative times as "-1.25".
fn decimal_time(seconds: i64, nanoseconds: u64) -> String {
    if seconds < 0 && nanoseconds > 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}
