//! The images that a container mounts besides its own: looked up, or pulled, for each start.

use std::os::fd::OwnedFd;
use std::path::Path;

use lrun::spec::{ImageMount, MountKind, Spec};
use lstore::Start;

use super::args::RunArguments;
use super::provide::{again, provide, shape};
use crate::bridge;
use crate::global::Global;
use crate::report::Failure;

/// Whether an image is among the mounts.
pub(super) fn is_wanted(spec: &Spec) -> bool {
    spec.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Image(_)))
}

fn mounted(spec: &mut Spec) -> impl Iterator<Item = &mut ImageMount> {
    spec.mounts.iter_mut().filter_map(|mount| match &mut mount.kind {
        MountKind::Image(image) => Some(image),
        _ => None,
    })
}

/// Looks up the images of a command line, which are had by the same policy as the container's own; what keeps their
/// checkouts.
pub(super) fn look_up(
    global: &Global,
    arguments: &RunArguments,
    store: &Path,
    spec: &mut Spec,
) -> Result<Vec<OwnedFd>, Failure> {
    let mut leases = Vec::new();
    for (number, image) in mounted(spec).enumerate() {
        let Start { image: id, checkout, .. } = provide(global, arguments, store, &image.name)?;
        (image.id, image.number) = (id, number);
        image.checkout = Some(bridge::lower(store, &checkout));
        leases.push(checkout.into_lease());
    }
    Ok(leases)
}

/// Looks up the images of a container that was made before; what keeps their checkouts.
pub(super) fn look_up_again(global: &Global, store: &Path, spec: &mut Spec) -> Result<Vec<OwnedFd>, Failure> {
    let (mut leases, shape) = (Vec::new(), shape(spec));
    for image in mounted(spec) {
        let Start { checkout, .. } = again(global, store, (&image.id, &image.name), shape)?;
        image.checkout = Some(bridge::lower(store, &checkout));
        leases.push(checkout.into_lease());
    }
    Ok(leases)
}
