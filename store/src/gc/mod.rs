//! Collection: frees what no image, container or running pull needs. Safe beside all of them, and never waits for one.
//!
//! ```text
//! facts, one transaction → plan (pure) → forget, the same transaction   images and checkouts
//! condemn                                                               layers; objects get the newest session's number
//! take out, on disk before it returns                                   objects that no living session can have found
//! remove files, list folders and remove what no row knows
//! ```
//!
//! From condemning on no look-up finds an object. It is deleted once every session that was alive then has ended: only
//! such a session can have found it before, and its commit acquits what it refers to. Listing the folders makes sure that
//! what a crash left behind cannot hide.
//!
//! Every transaction of a collection is on disk when it returns: a power cut that brought rows back, and not the files
//! that they are about, would leave an index that promises what is not there.

mod forget;
mod plan;
mod sweep;

pub use plan::{Facts, KnownImage};

use std::io;

use serde::Serialize;

use crate::error::Result;
use crate::index::{Durability, Index};
use crate::root::Root;
use crate::session;
use crate::store::Store;

/// What a collection freed, or would free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Images that had no name.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Checkouts.
    pub trees: u64,
    /// File contents.
    pub objects: u64,
    /// Files that no row of the index knows: left by a crash.
    pub orphans: u64,
    /// Bytes of disk that the contents, checkouts and orphans took.
    pub bytes: u64,
    /// File contents that wait for running pulls to end.
    pub deferred: u64,
    /// File contents that were packed.
    pub packed: u64,
    /// Bytes of disk that these took before.
    pub packed_from: u64,
    /// Bytes of disk of the packs that they went into; not known beforehand.
    pub packed_into: u64,
    /// Packs in which nothing was left.
    pub packs: u64,
}

/// What to collect besides what nothing needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collection {
    /// Only tell; nothing is changed.
    pub dry_run: bool,
    /// Checkouts of images that stay go too, unless a container uses them: the next start makes them again.
    pub checkouts: bool,
    /// These go, and what no checkout shows then is packed: the next start of an image unpacks its contents first.
    pub cold: bool,
}

impl Store {
    /// Collects. `known` are roots that are in no file of the store: those of keepers that an older version has made.
    ///
    /// # Errors
    /// Those of the index and the file system, and [`crate::Error::RootDamaged`]; what was not freed is freed by the next
    /// call.
    pub fn collect(&self, collection: Collection, known: &[Root]) -> Result<Collected> {
        let mut collected = Collected::default();
        if collection.dry_run {
            self.foresee(collection, known, &mut collected)?;
            return Ok(collected);
        }
        let mut index = Index::open(self.index_path(), Durability::Synced)?;
        let gone = self.forget(&mut index, collection, known, &mut collected)?;
        let dead = index.condemn(|| session::living(&self.sessions))?;
        (collected.layers, collected.objects) = (dead.layers.len() as u64, dead.objects);
        collected.bytes += dead.bytes;
        for layer in dead.layers {
            self.remove_record(layer)?;
        }
        let taken = index.take_condemned(|| session::living(&self.sessions))?;
        collected.deferred = taken.deferred;
        for object in taken.objects {
            self.remove_object(object)?;
        }
        if collection.cold {
            self.freeze(&gone, false, &mut collected)?;
        }
        self.sweep_packs(false, &mut collected)?;
        self.sweep_orphans(false, &mut collected)?;
        // Half-made checkouts first: the inodes that only they still share are free once they are gone.
        self.sweep_scratch()?;
        self.sweep_nodes()?;
        self.sweep_locks()?;
        self.sweep_starts()?;
        self.keep_ballast()?;
        Ok(collected)
    }
}

/// What another collector was faster with is done.
pub(crate) fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
