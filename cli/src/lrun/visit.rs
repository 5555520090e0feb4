//! Where the files of a container are: with its processes, or in its folder.

use std::os::fd::OwnedFd;
use std::path::Path;

use lrun::Rootfs;
use lrun::state::Found;
use lrun::visit::Visited;

use super::folder::Folder;
use super::images;
use super::provide::provide_again;
use crate::bridge;
use crate::global::Global;
use crate::report::Failure;

/// Does `work` on a container's files, with its volumes and binds or without. One that does not run is kept from being
/// started meanwhile.
pub(super) fn visit<T>(
    global: &Global,
    store: &Path,
    found: &Found,
    with_mounts: bool,
    work: impl FnOnce(&Visited<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some(first) = found.record.running() {
        return work(&Visited::Running { first: &first, spec: &found.record.spec });
    }
    let busy = || format!("{}: the container is being started, stopped or removed; try again", found.name);
    let folder = Folder::take(&found.path, found.record.spec.ephemeral)?.ok_or_else(busy)?;
    let mut found = found.again()?;
    let _leases = if with_mounts { images::look_up_again(global, store, &mut found.record.spec)? } else { Vec::new() };
    let start = provide_again(global, store, &found.record)?;
    let rootfs = bridge::existing(store, &start.checkout, &folder.path());
    let _lease = start.checkout.into_lease();
    work(&Visited::Resting { rootfs: &rootfs, spec: &found.record.spec, with_mounts })
}

/// The layers of a container and what keeps the lower ones, for looking at its changes where they are.
pub(super) fn layers(global: &Global, store: &Path, found: &Found) -> Result<(Rootfs, OwnedFd), Failure> {
    let start = provide_again(global, store, &found.record)?;
    let rootfs = bridge::existing(store, &start.checkout, &found.path);
    Ok((rootfs, start.checkout.into_lease()))
}
