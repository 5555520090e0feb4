//! The files of an image as a mount of a container's: an overlay of the container's own above the image's checkout.
//!
//! Always with an upper, also where nothing may be written: whoever has the power to take the read-only attribute off then
//! writes to that, and never to files that others see.
//!
//! ```text
//! containers/NAME/images/N/upper work   changes of the N-th, beside those of the root
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::mount::MntFlags;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;

use crate::attach;
use crate::overlay::{self, Layers};
use crate::own;
use crate::rootfs::Rootfs;
use crate::spec::{ImageMount, Lower};
use crate::target::Root;

/// The folder of the changes, beside the upper of the root.
const IMAGES: &str = "images";

/// Mounts an image where it waits to be moved. To be done before the root is mounted: a part of it is taken in that one's
/// place, since only of what is mounted there are parts.
pub(crate) fn tree(image: &ImageMount, rootfs: &Rootfs, ephemeral: bool, label: Option<&str>) -> io::Result<OwnedFd> {
    let Rootfs::Overlay { upper, mountpoint, .. } = rootfs else { return Err(no_layers()) };
    let checkout = looked_up(image)?;
    let beside = Root::open(upper.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    let data = checkout.data.as_deref().map(Root::open).transpose()?;
    let mount = mount(image, &beside, Root::open(&checkout.root)?, data, ephemeral, label)
        .map_err(|error| own::explained(upper, error))?;
    if image.subpath.as_os_str().is_empty() {
        return Ok(mount);
    }
    attach::attach(&mount, Root::open(mountpoint)?)?;
    let part = Root::open(mountpoint).and_then(|root| part(&root, image));
    nix::mount::umount2(mountpoint, MntFlags::MNT_DETACH)?;
    part
}

/// Why a directory of the host's as root takes none.
pub(crate) fn no_layers() -> io::Error {
    io::Error::other("a directory of the host's as root has no place for the layers of an image")
}

/// Where the image's checkout is.
pub(crate) fn looked_up(image: &ImageMount) -> io::Result<&Lower> {
    image.checkout.as_ref().ok_or_else(|| io::Error::other("its checkout was not looked up"))
}

/// Mounts an image nowhere yet. `beside` is the container's folder.
pub(crate) fn mount(
    image: &ImageMount,
    beside: impl AsFd,
    lower: Root,
    data: Option<Root>,
    ephemeral: bool,
    label: Option<&str>,
) -> io::Result<OwnedFd> {
    let [work, upper] = folders(beside, image.number, &lower)?;
    overlay::make(&Layers { lower, data, upper, work }, ephemeral, label)
}

/// The part of a mounted image that is to be shown.
pub(crate) fn part(root: &Root, image: &ImageMount) -> io::Result<OwnedFd> {
    root.place(&image.subpath)
        .and_then(attach::copy)
        .map_err(|error| io::Error::new(error.kind(), format!("{} of the image: {error}", image.subpath.display())))
}

/// The folders of the changes of a mount; a new upper gets the owner and mode of the image's root, which it stands for.
fn folders(beside: impl AsFd, number: usize, lower: &Root) -> io::Result<[Root; 2]> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = |folder: &dyn AsFd, name: &str| -> io::Result<(OwnedFd, bool)> {
        let is_new = make(folder.as_fd(), name)?;
        Ok((openat(folder.as_fd(), name, flags, Mode::empty())?, is_new))
    };
    let (images, _) = within(&beside, IMAGES)?;
    let (own, _) = within(&images, &number.to_string())?;
    let (work, _) = within(&own, "work")?;
    let (upper, is_new) = within(&own, "upper")?;
    if is_new {
        let like = fstat(lower)?;
        fchown(&upper, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
        fchmod(&upper, Mode::from_raw_mode(like.st_mode & 0o7777))?;
    }
    Ok([work.into(), upper.into()])
}

/// Makes a directory; whether it was missing.
fn make(folder: impl AsFd, name: &str) -> io::Result<bool> {
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
