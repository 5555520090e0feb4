//! Mounts, made detached and then attached to places that were found within the new root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, major, minor, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::copy::{Copier, Owner};
use crate::idmapped::Waiting;
use crate::plan::{Attributes, DEVICE_LINKS, DEVICES};
use crate::rootfs::Rootfs;
use crate::spec::{Mount, MountKind, Propagation, Relabel, SecretFile};
use crate::sys::mount as sys;
use crate::target::{Kind, Root, file_type};
use crate::{enter, image_mount, refusal, relabel, volumes};

/// The mount option that gives all files of a file system an SELinux label (`mount(8)`).
pub(crate) const CONTEXT: &str = "context";

/// Keeps the mounts of this process's namespace from travelling to the one around.
///
/// In a chroot that cannot be said of the root directory, which is no mount, and no new root could take its place: it is bound
/// onto itself and made the namespace's root. Not before the rest is kept apart, or the one around would see that; the
/// namespace's own root is the way there.
pub(crate) fn keep_apart() -> io::Result<()> {
    let apart = || {
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
    };
    match apart() {
        Err(nix::errno::Errno::EINVAL) => {}
        other => return Ok(other?),
    }
    let here = Root::own()?;
    enter::own_root()?;
    apart()?;
    let root = copy_tree(&here)?;
    attach(&root, &here)?;
    // Not by another chroot: the root of the namespace is where those come to who join it, and must be the container's.
    pivot(&root)
}

/// Makes the new root the root, and lets go of the old one with all that is mounted on it (`pivot_root(2)`, "." twice).
pub(crate) fn pivot(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Attaches what is to become the root to the place where it waits for that, and opens it. Where its files show with other
/// ids than on disk it has no place of its own, to which the way may be closed to the container's ids.
pub(crate) fn rootfs(mount: OwnedFd, mountpoint: Option<&Path>) -> io::Result<Root> {
    // Real root may make devices, and has the capability by default: here they open nothing.
    let set = MountAttrFlags::MOUNT_ATTR_NODEV.bits().into();
    sys::set_attributes(&mount, sys::Attributes { set, ..private() }, true)?;
    let Some(mountpoint) = mountpoint else {
        attach(&mount, Waiting::Root.place()?)?;
        return Ok(mount.into());
    };
    attach(&mount, &Root::open(mountpoint)?)?;
    // The descriptor from before the mount still means what lies below it.
    Root::open(mountpoint)
}

/// Makes a folder of the caller's belong to root inside.
pub(crate) fn give_to_root(folder: &Path) -> io::Result<()> {
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fchown(folder, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))?)
}

/// Mounts a file system of the kernel's.
pub(crate) fn filesystem(
    root: &Root,
    kind: &str,
    options: &[(String, String)],
    target: &Path,
    attributes: Attributes,
) -> io::Result<()> {
    let mount = detached(kind, options, flags(attributes))?;
    attach(&mount, &own_place(root, target)?)
}

/// A new file system that is mounted nowhere yet.
pub(crate) fn detached(kind: &str, options: &[(String, String)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        // One or the other: before it had parameters of its own (Linux 6.18 has them, 6.12 has not), devpts took every try
        // for an option, and `newinstance=` for a bogus one.
        if value.is_empty() {
            fsconfig_set_flag(&context, key.as_str())?;
        } else {
            fsconfig_set_string(&context, key.as_str(), value)?;
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Where a file system of ours goes, whether it is new or the host's. A link where /proc or /sys belongs would put them
/// elsewhere, and masks would then hide nothing (CVE-2023-28642).
pub(crate) fn own_place(root: &Root, target: &Path) -> io::Result<OwnedFd> {
    match root.unfollowed(target)? {
        Some(place) if file_type(&place)? == FileType::Directory => Ok(place),
        Some(place) if file_type(&place)? == FileType::Symlink => {
            Err(io::Error::other("the image has a symbolic link there"))
        }
        _ => root.ensure(target, Kind::Directory),
    }
}

/// Where a volume goes. The caller may name a place in /proc, but a link in the image must not lead there: what reads
/// /proc would then believe files of the volume (CVE-2019-16884).
pub(crate) fn volume_place(root: &Root, target: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let place = root.ensure(target, kind)?;
    if fstatfs(&place)?.f_type == PROC_SUPER_MAGIC && !target.starts_with("/proc") {
        return Err(io::Error::other("the image has a symbolic link to /proc there"));
    }
    Ok(place)
}

/// What hides the paths of a root.
#[derive(Debug)]
pub(crate) struct Masks {
    /// The null device, over files.
    null: OwnedFd,
    /// The empty folder that was mounted first, of which the others are copies: one file system instead of many.
    empty: Option<OwnedFd>,
}

impl Masks {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { null: host_null()?, empty: None })
    }

    /// Hides a path: a folder behind an empty one, a file behind the null device. A path that is not there needs nothing.
    pub(crate) fn hide(&mut self, root: &Root, path: &Path) -> io::Result<()> {
        let Some(place) = present(root, path)? else { return Ok(()) };
        if file_type(&place)? != FileType::Directory {
            return attach(&copy(&self.null)?, &place);
        }
        if let Some(empty) = &self.empty {
            return attach(&copy(empty)?, &place);
        }
        let options = [("size", "0"), ("mode", "555")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true };
        let empty = detached("tmpfs", &options, flags(attributes))?;
        attach(&empty, &place)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// A further mount of what is open.
pub(crate) fn copy(open: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(open, "", flags)?)
}

/// As [`copy`], with the mounts below.
pub(crate) fn copy_tree(open: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(open, "", flags | OpenTreeFlags::AT_RECURSIVE)?)
}

/// Opens the host's null device, which hides files; anything else by that name is refused (CVE-2025-31133).
fn host_null() -> io::Result<OwnedFd> {
    null_device(OFlags::PATH)
}

/// Opens the null device of the container that this process is in, for reading. A pipe that took its place is not waited for.
pub(crate) fn null_within() -> io::Result<OwnedFd> {
    let null = null_device(OFlags::RDONLY | OFlags::NONBLOCK).map_err(refusal::of_null)?;
    rustix::fs::fcntl_setfl(&null, OFlags::RDONLY)?;
    Ok(null)
}

fn null_device(flags: OFlags) -> io::Result<OwnedFd> {
    let null = rustix::fs::open("/dev/null", flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(null) } else { Err(io::Error::other("/dev/null is not the null device")) }
}

/// Binds a folder of the host's, with all that is mounted below, read-only where that is wished.
pub(crate) fn host_folder(root: &Root, source: &Path, attributes: Attributes) -> io::Result<()> {
    let mount = clone_tree(source, true)?;
    let set = flags(attributes).bits();
    sys::set_attributes(&mount, sys::Attributes { set: set.into(), ..private() }, true)?;
    attach(&mount, &own_place(root, source)?)
}

/// The nodes of `/dev`: the host's, bound one by one, each looked at first.
pub(crate) fn devices(root: &Root) -> io::Result<()> {
    let dev = root.directory(Path::new("/dev"))?;
    for (name, wanted_major, wanted_minor) in DEVICES {
        let mount = clone_tree(Path::new(&format!("/dev/{name}")), false)?;
        let stat = fstat(&mount)?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if !is_device || (major(stat.st_rdev), minor(stat.st_rdev)) != (wanted_major, wanted_minor) {
            return Err(io::Error::other(format!("/dev/{name} of the host is not the device of that name")));
        }
        let set = (MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC).bits();
        sys::set_attributes(&mount, sys::Attributes { set: set.into(), ..private() }, false)?;
        // Just mounted and empty: nothing of the image's is in the way.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        attach(&mount, &openat(&dev, name, flags, Mode::from_raw_mode(0o644))?)?;
    }
    for (target, name) in DEVICE_LINKS {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    Ok(())
}

/// What a mount of the caller's shows, if it is there before the root is. To be opened before that is mounted, which waits in
/// a folder of the host's: bound with all that is mounted below it, that folder would show the container within itself.
pub(crate) fn source(
    mount: &Mount,
    rootfs: &Rootfs,
    ephemeral: bool,
    label: Option<&str>,
) -> io::Result<Option<OwnedFd>> {
    match &mount.kind {
        MountKind::Bind { source, recursive, .. } => open_source(source, *recursive).map(Some),
        MountKind::Image(image) => image_mount::tree(image, rootfs, ephemeral, label).map(Some),
        MountKind::Volume { .. } | MountKind::Tmpfs { .. } => Ok(None),
    }
}

pub(crate) fn open_source(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    // The step's error names the target, which is not what is missing.
    clone_tree(source, recursive)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))
}

/// A mount of the caller's, whose source is open if it has one.
pub(crate) fn volume(root: &Root, mount: &Mount, source: Option<OwnedFd>, label: Option<&str>) -> io::Result<()> {
    let opened = |source: Option<OwnedFd>| source.ok_or_else(|| io::Error::other("its source was not opened"));
    let (tree, propagation, relabel) = match &mount.kind {
        MountKind::Bind { propagation, relabel, .. } => (opened(source)?, *propagation, *relabel),
        MountKind::Image(_) => (opened(source)?, Propagation::Private, None),
        MountKind::Volume { folder, copies, relabel, .. } => {
            let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
            let place = volume_place(root, &mount.target, Kind::Directory)?;
            let (data, is_first) = match source {
                None => {
                    let opened = volumes::open(folder).map_err(told)?;
                    let is_first = volumes::begin(&opened, *copies, root, &place).map_err(told)?;
                    (open_source(&folder.join(volumes::DATA), false)?, is_first)
                }
                // With other ids than on disk. Attached, since of what is not there can be no further mount.
                Some(folder) => {
                    attach(&folder, Waiting::Source.place()?)?;
                    let is_first = volumes::begin(&volumes::reopen(&folder)?, *copies, root, &place).map_err(told)?;
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    (open_tree(&folder, volumes::DATA, flags)?, is_first)
                }
            };
            // A new one is for containers, of which the first need not be the last.
            (data, Propagation::Private, relabel.or(is_first.then_some(Relabel::Shared)))
        }
        MountKind::Tmpfs { size, mode, copies } => {
            let mut options = vec![("mode".to_owned(), format!("{mode:o}"))];
            options.extend(size.map(|size| ("size".to_owned(), size.to_string())));
            options.extend(label.map(|label| (CONTEXT.to_owned(), label.to_owned())));
            let place = volume_place(root, &mount.target, Kind::Directory)?;
            if !copies {
                return attach(&detached("tmpfs", &options, flags(mount.attributes()))?, &place);
            }
            let tmpfs = detached("tmpfs", &options, MountAttrFlags::empty())?;
            copy_up(root, &place, &tmpfs).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot copy what the image has there: {error}"))
            })?;
            // Not before, or nothing could be put into a read-only one.
            let set = flags(mount.attributes()).bits().into();
            sys::set_attributes(&tmpfs, sys::Attributes { set, ..sys::Attributes::default() }, false)?;
            return attach(&tmpfs, &place);
        }
    };
    if let (Some(label), Some(whom)) = (label, relabel) {
        self::relabel::relabel(&tree, label, whom)?;
    }
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let attributes = sys::Attributes { set: flags(mount.attributes()).bits().into(), clear: 0, propagation };
    sys::set_attributes(&tree, attributes, true)?;
    let kind = if file_type(&tree)? == FileType::Directory { Kind::Directory } else { Kind::File };
    attach(&tree, &volume_place(root, &mount.target, kind)?)
}

/// Puts what the image has at a place into a file system that is to cover it.
fn copy_up(root: &Root, place: &OwnedFd, tmpfs: &OwnedFd) -> io::Result<()> {
    // What other mounts have there is not the image's.
    if fstat(place)?.st_dev != fstat(root)?.st_dev {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |folder: &OwnedFd| openat(folder, ".", flags, Mode::empty());
    Copier::new(Owner::Kept, false, false).contents(open(place)?, open(tmpfs)?, false)
}

/// Where secrets are shown.
pub(crate) const SECRETS: &str = "/run/secrets";

/// Shows secrets: in a file system in memory, from which those with a path of their own are bound to there.
pub(crate) fn secrets(root: &Root, secrets: &[SecretFile], label: Option<&str>) -> io::Result<()> {
    let mut options = vec![("mode".to_owned(), "755".to_owned()), ("size".to_owned(), "16m".to_owned())];
    options.extend(label.map(|label| (CONTEXT.to_owned(), label.to_owned())));
    let attributes = Attributes { read_only: false, nosuid: true, nodev: true, noexec: true };
    let memory = detached("tmpfs", &options, flags(attributes))?;
    attach(&memory, volume_place(root, Path::new(SECRETS), Kind::Directory)?)?;
    let folder = root.directory(Path::new(SECRETS))?;
    for secret in secrets {
        let is_elsewhere = secret.target.is_absolute();
        let name = if is_elsewhere { Path::new(".elsewhere") } else { &secret.target };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &secret.content)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(secret.uid), rustix::fs::Gid::from_raw(secret.gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(secret.mode))?;
        if is_elsewhere {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(&folder, name, flags)?;
            sys::set_attributes(&tree, private(), false)?;
            attach(&tree, volume_place(root, &secret.target, Kind::File)?)?;
            rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Binds an open file onto a place.
pub(crate) fn file(root: &Root, source: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    attach(&copy(source)?, &root.ensure(target, Kind::File)?)
}

/// Mounts what was made elsewhere and is mounted nowhere yet.
pub(crate) fn shared_memory(root: &Root, tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    attach(tree, own_place(root, target)?)
}

/// Makes a path read-only, with what is mounted below it. A path that is not there needs nothing.
pub(crate) fn read_only(root: &Root, path: &Path) -> io::Result<()> {
    let Some(place) = present(root, path)? else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&place, "", flags)?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
    sys::set_attributes(&tree, sys::Attributes { set, ..private() }, true)?;
    attach(&tree, &place)
}

/// Makes the mount of the root read-only, not those on it.
pub(crate) fn read_only_root(root: &Root) -> io::Result<()> {
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
    sys::set_attributes(root, sys::Attributes { set, ..sys::Attributes::default() }, false)
}

fn present(root: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.place(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        other => other.map(Some),
    }
}

pub(crate) fn clone_tree(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, source, flags)?)
}

pub(crate) fn attach(mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", place.as_fd(), "", flags)?)
}

fn private() -> sys::Attributes {
    sys::Attributes { propagation: libc::MS_PRIVATE, ..sys::Attributes::default() }
}

fn flags(attributes: Attributes) -> MountAttrFlags {
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, attributes.read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, attributes.nosuid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, attributes.nodev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, attributes.noexec);
    flags
}
