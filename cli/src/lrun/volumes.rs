//! The volumes of containers: made with them, and those without a name removed with them.

use std::collections::BTreeMap;
use std::path::Path;

use lrun::spec::{Mount, MountKind, Spec};
use lrun::state::{Record, random_id};
use lrun::volumes::{Volume, VolumeRecord, Volumes};

use super::run::SHORT;
use super::select::containers;
use crate::bridge;
use crate::report::Failure;
use crate::volume::declared;

/// The volumes of a store.
pub(super) fn volumes(store: &Path) -> Volumes {
    Volumes::within(store.join("volumes"))
}

/// Adds the volumes that the image declares, where the caller mounts nothing else.
pub(super) fn declare<'a>(spec: &mut Spec, targets: impl IntoIterator<Item = &'a String>) -> Result<(), Failure> {
    let mut targets = targets.into_iter().peekable();
    if targets.peek().is_none() {
        return Ok(());
    }
    for mount in declared(targets)? {
        let mount = bridge::mount(mount)?;
        if spec.mounts.iter().all(|other| other.target != mount.target) {
            spec.mounts.push(mount);
        }
    }
    spec.mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(())
}

/// Whether a volume is among the mounts.
pub(super) fn is_wanted(spec: &Spec) -> bool {
    spec.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume { .. }))
}

/// Makes the volumes that are missing, and says in the spec where they are. They are kept until the answer is dropped; by
/// then the container's record must name them.
pub(super) fn provide(store: &Path, spec: &mut Spec) -> Result<Vec<Volume>, Failure> {
    let volumes = volumes(store);
    let mut kept = Vec::new();
    for Mount { kind, .. } in &mut spec.mounts {
        let MountKind::Volume { name, folder, .. } = kind else { continue };
        let anonymous = name.is_empty();
        if anonymous {
            *name = random_id()?;
        }
        let record = VolumeRecord::new(BTreeMap::new(), anonymous);
        let (volume, _) = volumes.ensure(name, &record).map_err(|error| format!("volume {name}: {error}"))?;
        folder.clone_from(&volume.folder);
        kept.push(volume);
    }
    Ok(kept)
}

/// The containers that a volume is mounted in when they run.
pub(super) fn users(store: &Path, volume: &str) -> Vec<String> {
    let all = containers(store).all();
    all.into_iter().filter(|found| found.record.volumes().any(|name| name == volume)).map(|found| found.name).collect()
}

/// The volumes that a container's record names.
pub(super) fn named_by(record: &Record) -> Vec<String> {
    record.volumes().map(str::to_owned).collect()
}

/// The volumes that the record in a container's folder names.
pub(super) fn named_in(folder: &Path) -> Vec<String> {
    Record::left_in(folder).as_ref().map(named_by).unwrap_or_default()
}

/// Removes the volumes that were made for a container which has gone; those with names of the caller's, or of use to
/// others, stay.
pub(super) fn discard(store: &Path, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let Some(volume) = volumes(store).take(name)? else { continue };
        if volume.record.anonymous && users(store, name).is_empty() {
            remove(store, &volume.folder)?;
        }
    }
    Ok(())
}

/// Removes the folder of a volume that was taken. Moved away first: half a volume must not be found. What a kill leaves, gc
/// sweeps.
pub(super) fn remove(store: &Path, folder: &Path) -> Result<(), Failure> {
    let away = store.join("tmp").join(format!("volume-{}", &random_id()?[..SHORT]));
    std::fs::rename(folder, &away)?;
    Ok(lstore::remove_tree(&away)?)
}
