//! The overlay: a tree of the store, with a container's changes above it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::attach::CONTEXT;
use crate::rootfs::Rootfs;
use crate::target::Root;

/// The folders of an overlay.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The tree.
    pub(crate) lower: Root,
    /// The pool, for a tree of stubs.
    pub(crate) data: Option<Root>,
    /// Where changes go.
    pub(crate) upper: Root,
    /// The working directory.
    pub(crate) work: Root,
}

impl Layers {
    /// Those of a root, as they are on disk; `None` for what is no overlay.
    pub(crate) fn open(rootfs: &Rootfs) -> io::Result<Option<Self>> {
        let Rootfs::Overlay { lower, data, upper, work, .. } = rootfs else { return Ok(None) };
        Self::at(lower, data.as_deref(), upper, work).map(Some)
    }

    /// Those at these places.
    pub(crate) fn at(lower: &Path, data: Option<&Path>, upper: &Path, work: &Path) -> io::Result<Self> {
        let data = data.map(Root::open).transpose()?;
        Ok(Self { lower: Root::open(lower)?, data, upper: Root::open(upper)?, work: Root::open(work)? })
    }
}

/// Makes one that is mounted nowhere yet.
pub(crate) fn make(layers: &Layers, ephemeral: bool, label: Option<&str>) -> io::Result<OwnedFd> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&overlay, "userxattr")?;
    layer(&overlay, "lowerdir+", &layers.lower)?;
    if let Some(data) = &layers.data {
        layer(&overlay, "datadir+", data)?;
    }
    layer(&overlay, "upperdir", &layers.upper)?;
    layer(&overlay, "workdir", &layers.work)?;
    if ephemeral {
        fsconfig_set_flag(&overlay, "volatile")?;
    }
    if let Some(label) = label {
        fsconfig_set_string(&overlay, CONTEXT, label)?;
    }
    fsconfig_create(&overlay)?;
    Ok(fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Gives a layer as the working directory: no colon and no length limit can break that, and the container, which reads
/// in its table of mounts the name that was given, learns none of the host's. By descriptor the kernel would name the path.
fn layer(overlay: impl AsFd, key: &str, folder: &Root) -> io::Result<()> {
    rustix::process::fchdir(folder)?;
    match fsconfig_set_string(overlay.as_fd(), key, ".") {
        // Before Linux 6.8 there was one option for all lower layers.
        Err(rustix::io::Errno::INVAL) if key == "lowerdir+" => {
            Ok(fsconfig_set_string(overlay.as_fd(), "lowerdir", ".")?)
        }
        other => Ok(other?),
    }
}
