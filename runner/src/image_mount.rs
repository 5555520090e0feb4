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
use std::path::{Path, PathBuf};

use nix::mount::MntFlags;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;

use crate::attach;
use crate::rootfs::Rootfs;
use crate::spec::ImageMount;
use crate::target::Root;

/// The folder of the changes, beside the upper of the root.
const IMAGES: &str = "images";

/// Mounts an image where it waits to be moved. To be done before the root is mounted: a part of it is taken in that one's
/// place, since only of what is mounted there are parts.
pub(crate) fn tree(image: &ImageMount, rootfs: &Rootfs, ephemeral: bool, label: Option<&str>) -> io::Result<OwnedFd> {
    let Rootfs::Overlay { upper, mountpoint, .. } = rootfs else {
        return Err(io::Error::other("a directory of the host's as root has no place for the layers of an image"));
    };
    let checkout = image.checkout.as_ref().ok_or_else(|| io::Error::other("its checkout was not looked up"))?;
    let lower = Root::open(&checkout.root)?;
    let own = folder(upper.parent().ok_or(io::ErrorKind::InvalidInput)?, image.number, &lower)?;
    let mut layers = vec![("lowerdir+", lower)];
    if let Some(data) = &checkout.data {
        layers.push(("datadir+", Root::open(data)?));
    }
    layers.push(("upperdir", Root::open(&own.join("upper"))?));
    layers.push(("workdir", Root::open(&own.join("work"))?));
    let mount = attach::overlay(&layers, ephemeral, label)?;
    if image.subpath.as_os_str().is_empty() {
        return Ok(mount);
    }
    attach::attach(&mount, Root::open(mountpoint)?)?;
    let part = Root::open(mountpoint).and_then(|root| root.place(&image.subpath)).and_then(attach::copy);
    nix::mount::umount2(mountpoint, MntFlags::MNT_DETACH)?;
    part.map_err(|error| io::Error::new(error.kind(), format!("{} of the image: {error}", image.subpath.display())))
}

/// The folder of the changes of a mount; one that is new gets the owner and mode of the image's root, which its upper
/// stands for.
fn folder(beside: &Path, number: usize, lower: &Root) -> io::Result<PathBuf> {
    let own = beside.join(IMAGES).join(number.to_string());
    let (name, parts) = (number.to_string(), ["work", "upper"]);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::open(beside, flags, Mode::empty())?;
    for name in [IMAGES, &name] {
        make(&here, name)?;
        here = openat(&here, name, flags, Mode::empty())?;
    }
    for part in parts {
        if make(&here, part)? && part == "upper" {
            let (upper, like) = (openat(&here, part, flags, Mode::empty())?, fstat(lower)?);
            fchown(&upper, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
            fchmod(&upper, Mode::from_raw_mode(like.st_mode & 0o7777))?;
        }
    }
    Ok(own)
}

/// Makes a directory; whether it was missing.
fn make(folder: impl AsFd, name: &str) -> io::Result<bool> {
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
