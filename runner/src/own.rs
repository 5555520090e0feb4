//! A container's own copy of its image's files, where the kernel refuses an overlay: above another overlay, as the files of
//! a container are, above a file system that another machine or program can change, or where it has none for users.
//!
//! The copy lies in the container's folder, `own`, and the container changes it in place. A mark beside it, `copied`, says
//! that it is whole and holds what is told at each start. Nothing is linked: an inode of the store's is never the container's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::libc;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat};
use rustix::mount::MountAttrFlags;

use crate::attach;
use crate::copy::{Copier, Owner, make_way};
use crate::error::Error;
use crate::idmapped::Trees;
use crate::overlay::{self, Layers};
use crate::rootfs::Rootfs;
use crate::spec::Spec;
use crate::target::{Root, write_anew};
use crate::visit::{enter_namespaces, in_fork};

/// The folder of the copy, in the container's.
pub const TREE: &str = "own";
/// The mark beside it.
pub const MARK: &str = "copied";

/// A mounted root.
pub(crate) struct Mounted {
    /// Open.
    pub(crate) root: Root,
    /// Whether what was put into the folder for changes is not seen.
    pub(crate) is_elsewhere: bool,
    /// What is to be told of it.
    pub(crate) told: Option<String>,
}

/// What a root is for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Purpose<'a> {
    /// Whether its changes go with the container.
    pub(crate) ephemeral: bool,
    /// Whether it is not to be changed at all.
    pub(crate) read_only: bool,
    /// The SELinux label of its files.
    pub(crate) label: Option<&'a str>,
}

/// Mounts the root where it waits to become the root; where the kernel refuses an overlay, a copy that is made for it.
///
/// `trees` are where its files show with other ids than on disk. There a refusal is an error: a place whose files can be shown so
/// is one that overlays are made in.
pub(crate) fn mount(
    rootfs: &Rootfs,
    layers: Option<&Layers>,
    trees: Option<&Trees>,
    purpose: Purpose<'_>,
) -> io::Result<Mounted> {
    let Purpose { ephemeral, read_only, label } = purpose;
    let waiting = |mount: OwnedFd, mountpoint: &Path| {
        attach::rootfs(mount, if trees.is_some() { None } else { Some(mountpoint) })
    };
    let plain = |tree: &Path| {
        let mount = trees.map_or_else(|| attach::clone_tree(tree, true), Trees::directory)?;
        waiting(mount, tree)
    };
    let mounted = |root: Root, is_elsewhere: bool, told: Option<String>| Ok(Mounted { root, is_elsewhere, told });
    match rootfs {
        Rootfs::Directory(directory) => mounted(plain(directory)?, false, None),
        Rootfs::Own { .. } if label.is_some() => Err(unlabelled("a copy of the image's files is the container's root")),
        Rootfs::Own { tree, .. } => {
            let told = std::fs::read_to_string(tree.with_file_name(MARK))?;
            mounted(plain(tree)?, true, Some(told))
        }
        Rootfs::Overlay { lower, data, upper, mountpoint, .. } => {
            let layers = layers.ok_or(io::ErrorKind::InvalidInput)?;
            let error = match overlay::make(layers, ephemeral, label) {
                Ok(overlay) => return mounted(waiting(overlay, mountpoint)?, false, None),
                Err(error) if trees.is_some() => return Err(explained(upper, error)),
                Err(error) if !is_refusal(&error) => return Err(error),
                Err(error) => error,
            };
            if ephemeral && read_only {
                match over_memory(lower, data.as_deref(), upper, label) {
                    Ok(overlay) => return mounted(waiting(overlay, mountpoint)?, true, None),
                    Err(error) if !is_refusal(&error) => return Err(error),
                    Err(_) => {}
                }
            }
            if label.is_some() {
                // It may be the label that is refused.
                return Err(by_place(upper).map_or(error, |reason| unlabelled(&reason)));
            }
            let reason = reason(upper, &error);
            let tree = upper.with_file_name(TREE);
            let told = make(lower, data.as_deref(), &tree, &reason)
                .map_err(|error| io::Error::other(format!("{error}, while the image's files were copied: {reason}")))?;
            mounted(plain(&tree)?, true, Some(told))
        }
    }
}

/// An overlay with its changes in memory, which is never refused for where the store is. Enough where only files of ours are
/// written, and nothing is to stay: there it does without a copy.
fn over_memory(lower: &Path, data: Option<&Path>, upper: &Path, label: Option<&str>) -> io::Result<OwnedFd> {
    let options = [("size", "16m"), ("mode", "755")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let memory = attach::detached("tmpfs", &options, MountAttrFlags::empty())?;
    attach::attach(&memory, &Root::open(upper)?)?;
    let (upper, work) = (upper.join("upper"), upper.join("work"));
    for folder in [&upper, &work] {
        std::fs::create_dir(folder)?;
    }
    overlay::make(&Layers::at(lower, data, &upper, &work)?, true, label)
}

/// An error of an overlay whose changes would go into `upper`; where that means that there can be none here, with the reason.
pub(crate) fn explained(upper: &Path, error: io::Error) -> io::Error {
    if !is_refusal(&error) {
        return error;
    }
    io::Error::new(error.kind(), format!("the kernel refuses an overlay here: {}", reason(upper, &error)))
}

/// Tries whether a container with the folder `folder`, which has `upper` and `work`, is given an overlay: `None`, or the reason why
/// it gets a copy, and what helps.
///
/// # Errors
/// Those of the namespaces.
pub fn attempt(folder: &Path) -> Result<Option<String>, Error> {
    let tried = in_fork(|_| {
        enter_namespaces(&Spec::default())?;
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        let lower = folder.join(TREE);
        std::fs::create_dir(&lower)?;
        match overlay::make(&Layers::at(&lower, None, &upper, &work)?, false, None) {
            Err(error) if is_refusal(&error) => Err(io::Error::other(format!("{REFUSED}{}", reason(&upper, &error)))),
            other => other.map(drop),
        }
    });
    match tried {
        Err(Error::Files(text)) => {
            text.strip_prefix(REFUSED).map(|reason| Some(reason.to_owned())).ok_or_else(|| Error::Files(text.clone()))
        }
        other => other.map(|()| None),
    }
}

/// What a fork says before the reason.
const REFUSED: &str = "\0refused ";

/// Whether a copy is there and whole.
pub(crate) fn is_made(tree: &Path) -> bool {
    tree.with_file_name(MARK).exists()
}

/// When the copy was made: what was changed later has a later change time, or this one. `None` where none is.
pub(crate) fn made(tree: &Path) -> io::Result<(i64, u64)> {
    let mark = statat(CWD, tree.with_file_name(MARK), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((mark.st_ctime, mark.st_ctime_nsec))
}

/// Whether an error of an overlay means that there can be none here. Others, such as a full disk, tell of this one alone.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::EPERM | libc::EOPNOTSUPP))
}

/// Why the kernel refuses an overlay whose changes would go into `upper`, and what helps.
fn reason(upper: &Path, error: &io::Error) -> String {
    if let Some(reason) = by_place(upper) {
        return reason;
    }
    match error.raw_os_error() {
        Some(libc::ENODEV) => "it has no overlay file system; as root, `modprobe overlay`".to_owned(),
        Some(libc::EPERM) => "it gives overlays to real root alone (to users since Linux 5.11)".to_owned(),
        _ => format!("{error}; {ELSEWHERE}"),
    }
}

/// The reason that lies in where the store is; `None` where that is none.
fn by_place(upper: &Path) -> Option<String> {
    match rustix::fs::statfs(upper).ok()?.f_type {
        libc::OVERLAYFS_SUPER_MAGIC => Some(
            "the store is on an overlay, as the files of a container are; have it on a volume of that container, as with \
             -v /store and LSTORE_ROOT=/store"
                .to_owned(),
        ),
        libc::NFS_SUPER_MAGIC => Some(format!("the store is on NFS; {ELSEWHERE}")),
        FUSE => Some(format!("the store is on a file system of FUSE; {ELSEWHERE}")),
        _ => None,
    }
}

/// What helps against any place.
const ELSEWHERE: &str = "have the store on a file system of this machine's, such as ext4, xfs, btrfs or tmpfs";
/// `FUSE_SUPER_MAGIC` (`statfs(2)`).
const FUSE: libc::c_long = 0x6573_5546;

fn unlabelled(reason: &str) -> io::Error {
    io::Error::other(format!("it cannot have a label: {reason}; leave out --security-opt label"))
}

/// Makes the copy, in place of what an interrupted one has left, and marks it as whole.
fn make(lower: &Path, data: Option<&Path>, tree: &Path, reason: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| -> io::Result<OwnedFd> { Ok(openat(CWD, path, flags, Mode::empty())?) };
    let folder = open(tree.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    make_way(folder.as_fd(), TREE.as_ref(), true)?;
    mkdirat(&folder, TREE, Mode::RWXU)?;
    let copy = openat(&folder, TREE, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let mut copier = Copier::new(Owner::Kept, false, false).of_checkout(data.map(open).transpose()?);
    copier.contents(open(lower)?, copy, true)?;
    let (bytes, are_shared) = copier.contents_of_checkout();
    let megabytes = bytes.div_ceil(1_000_000);
    let how = if are_shared { ", on shared extents" } else { "" };
    let told =
        format!("own copy of the image's files ({megabytes} MB{how}), as the kernel refuses an overlay here: {reason}");
    write_anew(&folder, MARK.as_ref(), told.as_bytes())?;
    Ok(told)
}
