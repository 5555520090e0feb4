//! The overlay: a tree of the store, with a container's changes above it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::attach::CONTEXT;
use crate::target::Root;

/// The folders of an overlay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    /// The tree.
    pub(crate) lower: &'a Path,
    /// The pool, for a tree of stubs.
    pub(crate) data: Option<&'a Path>,
    /// Where changes go.
    pub(crate) upper: &'a Path,
    /// The working directory.
    pub(crate) work: &'a Path,
}

/// Makes one that is mounted nowhere yet.
pub(crate) fn make(layers: &Layers<'_>, ephemeral: bool, label: Option<&str>) -> io::Result<OwnedFd> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&overlay, "userxattr")?;
    layer(&overlay, "lowerdir+", layers.lower)?;
    if let Some(data) = layers.data {
        layer(&overlay, "datadir+", data)?;
    }
    layer(&overlay, "upperdir", layers.upper)?;
    layer(&overlay, "workdir", layers.work)?;
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
fn layer(overlay: impl AsFd, key: &str, folder: &Path) -> io::Result<()> {
    rustix::process::fchdir(Root::open(folder)?)?;
    match fsconfig_set_string(overlay.as_fd(), key, ".") {
        // Before Linux 6.8 there was one option for all lower layers.
        Err(rustix::io::Errno::INVAL) if key == "lowerdir+" => {
            Ok(fsconfig_set_string(overlay.as_fd(), "lowerdir", ".")?)
        }
        other => Ok(other?),
    }
}
