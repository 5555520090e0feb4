//! Copies files from one tree into another: names in open directories, none followed, nothing waited for.
//!
//! Either tree may be a container's, which changes it meanwhile: each thing is opened, looked at, and read no further than
//! it was long then.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fgetxattr, flistxattr, flistxattr_query, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat,
    openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::rights::{Caller, as_caller};

/// Attributes of the overlay's own: with them a file would mean something else to the next mount.
const OVERLAY: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];
/// Where in the pool the content of a stub is (kernel documentation, `overlayfs.rst`).
const REDIRECT: &str = "user.overlay.redirect";
/// Most bytes of that: two numbers in hexadecimal, and a slash before each.
const LONGEST_REDIRECT: usize = 64;
/// Most bytes of an extended attribute, and of the list of their names (`xattr(7)`).
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whose the originals are.
    Kept,
    /// This user's and group's.
    Given(u32, u32),
}

/// One copying.
#[derive(Debug)]
pub(crate) struct Copier {
    owner: Owner,
    /// Whether set-id bits, file capabilities and devices are left off.
    harmless: bool,
    /// Whether directories give way to what is none, and the other way round.
    overwrite: bool,
    /// By whose rights the originals are reached.
    reads_as: Caller,
    /// The first copy of each original that has several names, by its path from where the copying began: a descriptor for
    /// each would be too many.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Of what is copied out of the store.
    checkout: Option<Checkout>,
}

/// A checkout that is copied from.
#[derive(Debug)]
struct Checkout {
    /// The pool, which the contents of stubs are in.
    data: Option<OwnedFd>,
    /// Bytes of contents so far.
    bytes: u64,
    /// Whether all of them share their extents with the store.
    are_shared: bool,
}

/// A directory in the middle of being copied.
struct Level {
    /// Path of the copy from where the copying began.
    path: PathBuf,
    from: OwnedFd,
    to: OwnedFd,
    names: Vec<OsString>,
    /// Of a copy that is new: what it gets when it is filled.
    stat: Option<Stat>,
}

impl Copier {
    pub(crate) fn new(owner: Owner, harmless: bool, overwrite: bool) -> Self {
        Self { owner, harmless, overwrite, reads_as: None, linked: HashMap::new(), checkout: None }
    }

    /// The originals are the caller's to reach, not root's.
    pub(crate) fn reading_as(self, caller: Caller) -> Self {
        Self { reads_as: caller, ..self }
    }

    /// Copies from a checkout of the store's, stubs by what they stand for in the pool. Extents are shared where they can be.
    pub(crate) fn of_checkout(self, data: Option<OwnedFd>) -> Self {
        Self { checkout: Some(Checkout { data, bytes: 0, are_shared: true }), ..self }
    }

    /// How many bytes of contents were copied from a checkout, and whether all share their extents with it.
    pub(crate) fn contents_of_checkout(&self) -> (u64, bool) {
        self.checkout.as_ref().map_or((0, false), |checkout| (checkout.bytes, checkout.are_shared))
    }

    /// See there.
    pub(crate) fn overwrites(&self) -> bool {
        self.overwrite
    }

    /// Copies what is in a directory into another, which gets its metadata too where `with_own` asks for it.
    pub(crate) fn contents(&mut self, from: OwnedFd, to: OwnedFd, with_own: bool) -> io::Result<()> {
        let stat = if with_own { Some(fstat(&from)?) } else { None };
        let (names, base) = (self.read(|| names(&from))?, to.try_clone()?);
        self.levels(vec![Level { path: PathBuf::new(), from, to, names, stat }], base.as_fd())
    }

    /// Gives a directory the metadata of another.
    pub(crate) fn metadata(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        self.dress(to, Some(from), &fstat(from)?)
    }

    /// Copies an open regular file to a name in a directory, in place of what is there unless that is a directory.
    pub(crate) fn file(&mut self, original: File, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let stat = fstat(&original)?;
        if is_same(&stat, to, name) {
            return Err(in_the_way(name, "source and destination are the same"));
        }
        make_way(to, name, self.overwrite)?;
        self.opened(original, &stat, to, name)
    }

    fn read<T>(&self, work: impl FnOnce() -> T) -> T {
        as_caller(self.reads_as, work)
    }

    /// A stack instead of recursion: the depth is the container's choice.
    fn levels(&mut self, mut stack: Vec<Level>, base: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(level) = stack.last_mut() {
            let Some(name) = level.names.pop() else {
                if let Some(Level { from, to, stat: Some(stat), .. }) = stack.pop() {
                    self.dress(to.as_fd(), Some(from.as_fd()), &stat)?;
                }
                continue;
            };
            let path = level.path.join(&name);
            let deeper = match self.one(level.from.as_fd(), &name, (level.to.as_fd(), &name), (base, path)) {
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => other?,
            };
            stack.extend(deeper);
        }
        Ok(())
    }

    /// Copies one name; a directory is only made, for its contents to follow.
    fn one(
        &mut self,
        from: BorrowedFd<'_>,
        name: &OsStr,
        (to, new_name): (BorrowedFd<'_>, &OsStr),
        (base, path): (BorrowedFd<'_>, PathBuf),
    ) -> io::Result<Option<Level>> {
        let stat = self.read(|| statat(from, name, AtFlags::SYMLINK_NOFOLLOW))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.harmless && matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Ok(None);
        }
        if kind == FileType::Directory {
            return self.directory(from, name, (to, new_name), path).map(Some);
        }
        make_way(to, new_name, self.overwrite)?;
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&key)
            && link(base, first, to, new_name).is_ok()
        {
            return Ok(None);
        }
        match kind {
            FileType::RegularFile => self.regular(from, name, to, new_name)?,
            FileType::Symlink => {
                let target = self.read(|| rustix::fs::readlinkat(from, name, Vec::new()))?;
                symlinkat(target.as_c_str(), to, new_name)?;
                let (uid, gid) = self.ids(&stat);
                rustix::fs::chownat(to, new_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::utimensat(to, new_name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            kind => match make_node(to, new_name, kind, self.mode(&stat), stat.st_rdev) {
                Ok(()) => {
                    let (uid, gid) = self.ids(&stat);
                    rustix::fs::chownat(to, new_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                    rustix::fs::utimensat(to, new_name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                // Only real root makes devices.
                Err(Errno::PERM) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        }
        if stat.st_nlink > 1 {
            self.linked.insert(key, path);
        }
        Ok(None)
    }

    fn directory(
        &self,
        from: BorrowedFd<'_>,
        name: &OsStr,
        (to, new_name): (BorrowedFd<'_>, &OsStr),
        path: PathBuf,
    ) -> io::Result<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = self.read(|| openat(from, name, flags, Mode::empty()))?;
        let names = self.read(|| names(&from))?;
        if self.overwrite {
            clear_for_directory(to, new_name)?;
        }
        let is_new = match mkdirat(to, new_name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let to = openat(to, new_name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => in_the_way(new_name, "a directory cannot replace what is no directory"),
            other => other.into(),
        })?;
        let stat = if is_new { Some(fstat(&from)?) } else { None };
        Ok(Level { path, from, to, names, stat })
    }

    fn regular(&mut self, from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, new_name: &OsStr) -> io::Result<()> {
        match self.read(|| open_regular(from, name))? {
            Some((original, stat)) => self.opened(original, &stat, to, new_name),
            None => Ok(()),
        }
    }

    fn opened(&mut self, mut original: File, stat: &Stat, to: BorrowedFd<'_>, new_name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(openat(to, new_name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = stat.st_size.unsigned_abs();
        match &mut self.checkout {
            Some(checkout) if size > 0 => checkout.copy(&original, &mut copy, size)?,
            _ => copy_data(&mut original, &mut copy, size)?,
        }
        self.dress(copy.as_fd(), Some(original.as_fd()), stat)
    }

    /// Gives an open copy its metadata: the owner first, whose change clears what must come after.
    fn dress(&self, copy: BorrowedFd<'_>, original: Option<BorrowedFd<'_>>, stat: &Stat) -> io::Result<()> {
        let (uid, gid) = self.ids(stat);
        fchown(copy, Some(uid), Some(gid))?;
        fchmod(copy, self.mode(stat))?;
        if let Some(original) = original {
            self.attributes(original, copy)?;
        }
        Ok(futimens(copy, &times(stat))?)
    }

    fn ids(&self, stat: &Stat) -> (Uid, Gid) {
        let (uid, gid) = match self.owner {
            Owner::Kept => (stat.st_uid, stat.st_gid),
            Owner::Given(uid, gid) => (uid, gid),
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    fn mode(&self, stat: &Stat) -> Mode {
        let mode = stat.st_mode & 0o7777;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Mode::from_raw_mode(if self.harmless && !is_directory { mode & 0o1777 } else { mode })
    }

    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        for (name, value) in self.read(|| attributes(from))? {
            if !self.harmless || name.as_bytes().starts_with(b"user.") {
                set_attribute(to, &name, &value)?;
            }
        }
        Ok(())
    }
}

impl Checkout {
    fn copy(&mut self, original: &File, copy: &mut File, size: u64) -> io::Result<()> {
        let mut content = content(original.try_clone()?, self.data.as_ref())?;
        self.bytes += size;
        // Once refused, it is refused for all.
        if self.are_shared && rustix::fs::ioctl_ficlone(&*copy, &content).is_ok() {
            return Ok(());
        }
        self.are_shared = false;
        copy_data(&mut content, copy, size)
    }
}

/// The file that has the content of one in a checkout: for a stub the one in the pool, `data`, that it points to. An image
/// cannot forge that: `lstore` takes none with such attributes.
pub(crate) fn content(file: File, data: Option<&OwnedFd>) -> io::Result<File> {
    let Some(data) = data else { return Ok(file) };
    let mut value = [0_u8; LONGEST_REDIRECT];
    match fgetxattr(&file, REDIRECT, &mut value[..]) {
        Ok(length) => {
            let path = value[..length].strip_prefix(b"/").unwrap_or(&value[..length]);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            Ok(openat2(data, path, flags, Mode::empty(), resolve)?.into())
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

/// The extended attributes of an open file, without the overlay's own.
pub(crate) fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    match flistxattr_query(file) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut list = vec![0_u8; LARGEST_ATTRIBUTE];
    let length = match flistxattr(file, &mut list) {
        // More names than there can be: another's tree is being changed.
        Err(Errno::RANGE) => 0,
        other => other?,
    };
    let mut attributes = Vec::new();
    let mut value = vec![0_u8; LARGEST_ATTRIBUTE];
    for name in list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let name = CString::new(name)?;
        match fgetxattr(file, name.as_c_str(), &mut value[..]) {
            Ok(length) => attributes.push((name, value[..length].to_vec())),
            // Removed meanwhile, or not ours to read.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(attributes)
}

/// Opens a regular file; `None` where something else has taken its place. A FIFO does not block.
pub(crate) fn open_regular(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<(File, Stat)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        other => File::from(other?),
    };
    let stat = fstat(&file)?;
    Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some((file, stat)))
}

/// The names in a directory but "." and "..".
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let fresh = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut reader = RawDir::new(fresh, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Copies `size` bytes, leaving holes where the original has them.
fn copy_data(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Data(at)) {
            // No data behind this.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL) => at,
            other => other?,
        };
        let end = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Hole(begin)) {
            Err(Errno::NXIO | Errno::INVAL) => size,
            other => other?.min(size),
        };
        if begin >= end {
            break;
        }
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        io::copy(&mut Read::by_ref(from).take(end - begin), to)?;
        at = end;
    }
    Ok(())
}

/// Whether a name in a directory is of the very file.
fn is_same(stat: &Stat, folder: BorrowedFd<'_>, name: &OsStr) -> bool {
    let other = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    other.is_ok_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino))
}

/// Removes what is no directory, and a directory with all that is in it where that is asked for.
pub(crate) fn make_way(folder: BorrowedFd<'_>, name: &OsStr, with_directories: bool) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) if with_directories => remove_directory(folder, name),
        Err(Errno::ISDIR) => Err(in_the_way(name, "a directory is not replaced by what is none")),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is no directory where one is to be.
pub(crate) fn clear_for_directory(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
        Err(Errno::NOENT) => Ok(()),
        Ok(_) => make_way(folder, name, false),
        Err(error) => Err(error.into()),
    }
}

/// Removes a directory with all that is in it; nothing is followed. A stack instead of recursion, as above.
fn remove_directory(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |folder: BorrowedFd<'_>, name: &OsStr| openat(folder, name, flags, Mode::empty());
    let mut stack = vec![(name.to_owned(), open(folder, name)?, None)];
    while let Some((own, opened, rest)) = stack.last_mut() {
        let rest = match rest {
            Some(rest) => rest,
            None => rest.insert(names(&*opened)?),
        };
        let Some(next) = rest.pop() else {
            let own = std::mem::take(own);
            stack.pop();
            let parent = stack.last().map_or(folder, |(_, parent, _)| parent.as_fd());
            unlinkat(parent, &own, AtFlags::REMOVEDIR)?;
            continue;
        };
        match unlinkat(&*opened, &next, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let deeper = open(opened.as_fd(), &next)?;
                stack.push((next, deeper, None));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes what is not to be opened for good, such as a FIFO. Its mode is right from the start: by name it could be set only
/// where a link is followed, which another may have put there by then.
///
/// # Errors
/// `EPERM` also for a character device 0:0: anybody may make one, and an overlay takes it for the absence of a file.
pub(crate) fn make_node(
    to: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    mode: Mode,
    device: u64,
) -> rustix::io::Result<()> {
    if kind == FileType::CharacterDevice && device == 0 {
        return Err(Errno::PERM);
    }
    let usual = rustix::process::umask(Mode::empty());
    let made = mknodat(to, name, kind, mode, device);
    rustix::process::umask(usual);
    made
}

/// Gives a copy a second name. It is found again without following anything: the tree may have been changed meanwhile.
fn link(base: BorrowedFd<'_>, first: &Path, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let (Some(folder), Some(first)) = (first.parent(), first.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat2(base, folder, flags, Mode::empty(), resolve)?;
    Ok(linkat(folder, first, to, name, AtFlags::empty())?)
}

fn in_the_way(name: &OsStr, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}", name.display()))
}

pub(crate) fn set_attribute(to: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    match fsetxattr(to, name, value, XattrFlags::empty()) {
        // Labels of a security module that is not here, or attributes that only the host's root may set.
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn a_whiteout_in_the_shape_of_a_device_is_not_copied() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        // Anybody may make one.
        mknodat(open(&from), "w", FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
        fs::write(from.join("f"), "x").unwrap();
        Copier::new(Owner::Kept, false, false).contents(open(&from), open(&to), true).unwrap();
        assert_eq!(names(open(&to)).unwrap(), ["f"]);
        let out = File::create(scratch.path().join("tar")).unwrap();
        crate::archive::pack(open(&from).as_fd(), None, None, &out).unwrap();
        let tar = File::open(scratch.path().join("tar")).unwrap();
        crate::unpack::unpack(tar, &open(&to), Owner::Kept, false).unwrap();
        let listed = fs::read(scratch.path().join("tar")).unwrap();
        assert!(!listed.chunks(512).any(|block| block.starts_with(b"w\0")), "a tar has none either");
    }

    #[test]
    fn a_copy_has_links_holes_modes_and_times_and_follows_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir_all(from.join("sub/deep")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/f"), "x").unwrap();
        fs::set_permissions(from.join("sub/f"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(from.join("sub/f"), from.join("hard")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let hole = File::create(from.join("hole")).unwrap();
        hole.set_len(1 << 30).unwrap();
        hole.write_at(b"end", (1 << 30) - 3).unwrap();
        hole.set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1750)).unwrap();

        Copier::new(Owner::Kept, false, false).contents(open(&from), open(&to), true).unwrap();
        let of = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!((of("").mode() & 0o7777, of("sub/f").mode() & 0o7777), (0o1750, 0o4711));
        assert_eq!(of("sub/f").ino(), of("hard").ino());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(of("fifo").file_type().is_fifo());
        assert_eq!((of("hole").len(), of("hole").mtime()), (1 << 30, 0));
        assert!(of("hole").blocks() < 100, "{}", of("hole").blocks());
        let mut end = [0; 3];
        File::open(to.join("hole")).unwrap().read_at(&mut end, (1 << 30) - 3).unwrap();
        assert_eq!(&end, b"end");

        // Over what is there: files are replaced, a link is not written through, directories take more in.
        let victim = scratch.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        fs::remove_file(to.join("sub/f")).unwrap();
        symlink(&victim, to.join("sub/f")).unwrap();
        fs::write(to.join("sub/more"), "").unwrap();
        Copier::new(Owner::Kept, true, false).contents(open(&from), open(&to), false).unwrap();
        assert_eq!((fs::read(&victim).unwrap(), of("sub/f").mode() & 0o7777), (b"kept".to_vec(), 0o711));
        assert!(to.join("sub/more").exists());
        fs::remove_file(to.join("hole")).unwrap();
        fs::create_dir(to.join("hole")).unwrap();
        assert!(
            Copier::new(Owner::Kept, false, false).contents(open(&from), open(&to), false).is_err(),
            "a directory stays"
        );
        let file = |name: &str| {
            let original = File::open(to.join("link2")).unwrap();
            Copier::new(Owner::Kept, false, false).file(original, open(&to).as_fd(), OsStr::new(name))
        };
        fs::write(to.join("link2"), "two").unwrap();
        assert!(file("link2").is_err() && file("sub").is_err());
        file("hard").unwrap();
        assert_eq!(fs::read(to.join("hard")).unwrap(), b"two");
    }
}
