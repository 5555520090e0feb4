//! Containers as keepers of images: the runner knows what they are made from, the store what it keeps.
//!
//! A container has a root from before its record is there until after its folder has gone. The folder is the truth: a root
//! without one is left over. Containers of versions that made no roots are known by their records, and get theirs when the
//! store is collected. One of `--rm` that runs has none: it keeps its checkout by its lease, and ends with it.

use std::collections::HashSet;
use std::path::Path;

use lrun::state::{Containers, Record, Status};
use lrun::survey::Surveyed;
use lstore::{Digest, Durability, Root, Store, release_root};

use crate::report::Failure;

/// The kind of roots that containers have.
const KIND: &str = "container";

/// Makes the root of a container that is about to be seen.
///
/// # Errors
/// Its image has been removed meanwhile; those of the file system.
pub fn keep(store: &Path, record: &Record, name: &str) -> Result<(), Failure> {
    let root = of(record, name)?;
    root.keep(store, Durability::Consistent).map_err(|error| match error {
        lstore::Error::ImageNotFound(_) => {
            format!("the image {} has been removed meanwhile; pull it again", record.image).into()
        }
        other => other.into(),
    })
}

/// Removes the root of a container whose folder has gone, or whose image its lease keeps.
///
/// # Errors
/// Those of the file system.
pub fn release(store: &Path, id: &str) -> Result<(), lstore::Error> {
    release_root(store, KIND, id)
}

/// What the containers of a store keep, by their records.
///
/// # Errors
/// Those of the file system.
pub fn known(store: &Path) -> Result<Vec<Root>, Failure> {
    let mut roots = Vec::new();
    for (name, surveyed) in containers(store).survey()? {
        match surveyed {
            Surveyed::Container(record) if is_over(&record) => {}
            Surveyed::Container(record) => roots.push(of(&record, &name)?),
            Surveyed::Unreadable { id, image: Some(image) } => {
                roots.push(root(id.as_deref().unwrap_or("0"), &name, [format!("sha256:{image}")])?);
            }
            // Without a record there is nothing to start.
            Surveyed::InTheMaking | Surveyed::LeftOver | Surveyed::Unreadable { image: None, .. } => {}
        }
    }
    Ok(roots)
}

/// Ids of the containers that are started from any of these images.
///
/// # Errors
/// Those of the file system.
pub fn using(store: &Path, images: &[Digest]) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for (_, surveyed) in containers(store).survey()? {
        let Surveyed::Container(record) = surveyed else { continue };
        let is_meant = |image: String| image.parse().is_ok_and(|image: Digest| images.contains(&image));
        if !is_over(&record) && record.images().any(is_meant) {
            ids.push(record.id);
        }
    }
    Ok(ids)
}

/// Gives containers that have no root theirs, and removes those that are left over.
///
/// # Errors
/// Those of the store and the file system.
pub fn mend(store: &Store) -> Result<(), Failure> {
    for (name, surveyed) in containers(store.path()).survey()? {
        let Surveyed::Container(record) = surveyed else { continue };
        if record.spec.ephemeral && record.status() != Status::Created {
            continue;
        }
        let root = of(&record, &name)?;
        if root.is_kept(store.path())? {
            continue;
        }
        match root.keep(store.path(), Durability::Consistent) {
            // By a version that kept none: it is started again when the image has been pulled again.
            Err(lstore::Error::ImageNotFound(_)) => {}
            other => other?,
        }
    }
    store.sweep_roots(KIND, |ids| left_over(store.path(), ids))?;
    Ok(())
}

/// Which of these ids are of no container. None where one is being made whose id is not known yet.
fn left_over(store: &Path, ids: &[String]) -> Result<HashSet<String>, Failure> {
    let mut gone: HashSet<String> = ids.iter().cloned().collect();
    for (_, surveyed) in containers(store).survey()? {
        match surveyed {
            Surveyed::Container(record) => {
                gone.remove(&record.id);
            }
            Surveyed::Unreadable { id: Some(id), .. } => {
                gone.remove(&id);
            }
            Surveyed::InTheMaking | Surveyed::Unreadable { id: None, .. } => return Ok(HashSet::new()),
            Surveyed::LeftOver => {}
        }
    }
    Ok(gone)
}

/// Whether a container of `--rm` has ended: what is left of it is swept by the next one.
fn is_over(record: &Record) -> bool {
    record.spec.ephemeral && record.status() == Status::Exited
}

fn of(record: &Record, name: &str) -> Result<Root, Failure> {
    root(&record.id, name, record.images())
}

fn root(id: &str, name: &str, images: impl IntoIterator<Item = String>) -> Result<Root, Failure> {
    let images = images.into_iter().map(|image| image.parse()).collect::<Result<Vec<Digest>, _>>()?;
    Ok(Root::new(KIND, id, &format!("container {name}"), images)?)
}

fn containers(store: &Path) -> Containers {
    Containers::within(store.join("containers"))
}
