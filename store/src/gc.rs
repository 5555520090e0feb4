//! Collection: frees what no image, container or running pull needs. Safe beside all of them, and never waits for one.
//!
//! Two phases, over numbers instead of over time:
//!
//! 1. **Condemn.** One transaction forgets images without a name or a lease, layers without an image or a pin, and marks
//!    objects without a layer with the number of the newest session. From then on no look-up finds them.
//! 2. **Sweep.** Objects are deleted once every session that was alive when they were condemned has ended: only such a
//!    session can have found them before, and its commit acquits what it refers to.
//!
//! Sweeping also *lists* the folders, so that what a crash left behind cannot hide.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;

use rustix::fs::FileType;
use serde::Serialize;

use crate::error::{Context, Result};
use crate::index::trees::StoredTree;
use crate::lease::LEASE;
use crate::names::{self, number};
use crate::pool::ObjectId;
use crate::session;
use crate::start::STARTS;
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::flock::{self, NamedLock};
use crate::usage::disk_of_own;

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
    /// Collects.
    ///
    /// # Errors
    /// Those of the index and the file system; what was not freed is freed by the next call.
    pub fn collect(&self, collection: Collection) -> Result<Collected> {
        let Collection { dry_run, checkouts, cold } = collection;
        let living = session::living(&self.sessions)?;
        let mut collected = Collected::default();
        let idle = self.lock_idle_trees()?;
        let mut dead_trees = self.condemn(&living, &idle, dry_run, &mut collected)?;
        if checkouts || cold {
            dead_trees = idle.into_values().collect();
        }
        let mut gone = Vec::with_capacity(dead_trees.len());
        for (tree, lease) in dead_trees {
            gone.push(tree.id);
            collected.trees += 1;
            let name = tree.id.to_string();
            let measured = disk_of_own(&self.trees, name.as_bytes());
            collected.bytes += measured.context("measure", self.path().join("trees").join(&name))?;
            if !dry_run {
                self.discard_tree(&tree, lease)?;
            }
        }
        self.sweep_condemned(&living, dry_run, &mut collected)?;
        if cold {
            self.freeze(&gone, dry_run, &mut collected)?;
        }
        self.sweep_packs(dry_run, &mut collected)?;
        self.sweep_orphans(dry_run, &mut collected)?;
        if !dry_run {
            // Half-made checkouts first: the inodes that only they still share are free once they are gone.
            self.sweep_scratch()?;
            self.sweep_nodes()?;
            self.sweep_locks()?;
            self.forget_starts().context("clear", self.path().join(STARTS))?;
            self.keep_ballast()?;
        }
        Ok(collected)
    }

    /// The checkouts that nobody uses, each with its lease locked against newcomers.
    fn lock_idle_trees(&self) -> Result<HashMap<u64, (StoredTree, File)>> {
        let mut idle = HashMap::new();
        for tree in self.index()?.trees()? {
            let name = tree.id.to_string();
            let lease = self.trees.open_dir(name.as_bytes()).and_then(|folder| folder.open_file(LEASE));
            match lease {
                Ok(lease) => {
                    if flock::try_exclusive(&lease).context("lock", self.path().join("trees").join(&name))? {
                        idle.insert(tree.id, (tree, lease));
                    }
                }
                // A row whose folder is gone serves nobody.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.index()?.delete_tree(tree.id)?,
                Err(error) => return Err(error).context("open", self.path().join("trees").join(&name)),
            }
        }
        Ok(idle)
    }

    fn condemn(
        &self,
        living: &[u64],
        idle: &HashMap<u64, (StoredTree, File)>,
        dry_run: bool,
        collected: &mut Collected,
    ) -> Result<Vec<(StoredTree, File)>> {
        let busy = |trees: &[StoredTree]| -> HashSet<String> {
            trees.iter().filter(|tree| !idle.contains_key(&tree.id)).map(|tree| tree.chain_id.clone()).collect()
        };
        let dead = self.index()?.condemn(living, busy, dry_run)?;
        collected.images += dead.images;
        collected.layers += dead.layers;
        collected.objects += dead.objects;
        collected.bytes += dead.bytes;
        let mut trees = Vec::new();
        for id in dead.trees {
            if let Some((tree, lease)) = idle.get(&id) {
                let lease =
                    lease.try_clone().context("hold the lease of", self.path().join("trees").join(id.to_string()))?;
                trees.push((tree.clone(), lease));
            }
        }
        Ok(trees)
    }

    /// Moves a checkout away under its lock, then removes it: a newcomer finds either all of it or nothing.
    pub(crate) fn discard_tree(&self, tree: &StoredTree, _lease: File) -> Result<()> {
        self.index()?.delete_tree(tree.id)?;
        let name = tree.id.to_string();
        match self.trees.rename(name.as_bytes(), &self.tmp, name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("move away", self.path().join("trees").join(&name)),
            Ok(()) => self.tmp.remove_tree(name.as_bytes()).context("remove", self.path().join("tmp").join(&name)),
        }
    }

    fn sweep_condemned(&self, living: &[u64], dry_run: bool, collected: &mut Collected) -> Result<()> {
        let oldest = living.first().copied();
        let (objects, deferred) = self.index()?.take_condemned(oldest, dry_run)?;
        collected.deferred = deferred;
        if dry_run {
            return Ok(());
        }
        for object in objects {
            self.remove_object(object)?;
        }
        Ok(())
    }

    /// Removes the file of an object that no row knows any more.
    pub(crate) fn remove_object(&self, object: ObjectId) -> Result<()> {
        let removed = self.pool.locate(object).and_then(|(folder, name)| folder.unlink(&name));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("remove", self.path().join("objects").join(object.name().trim_start_matches('/')))
            }
            _ => Ok(()),
        }
    }

    /// Files of ingests that ended without a commit, records and checkouts without a row.
    fn sweep_orphans(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("objects");
        for (name, _) in self.pool.dir().entries().context("list", &path)? {
            let Some(ingest) = number(&name, 16) else { continue };
            let folder = match self.pool.dir().open_dir(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            // The lock first, the rows second: an ingest commits before it lets go.
            if !flock::try_exclusive(&folder).context("lock", &path)? {
                continue;
            }
            let known: HashSet<u64> =
                self.index()?.files_of_ingest(ingest)?.into_iter().map(ObjectId::sequence).collect();
            let mut left = known.len();
            for (file, kind) in folder.entries().context("list", &path)? {
                if number(&file, 16).is_some_and(|sequence| known.contains(&sequence)) {
                    continue;
                }
                if !names::is_object(&file) || kind == FileType::Directory {
                    left += 1;
                    continue;
                }
                collected.orphans += 1;
                collected.bytes += folder.stat(&file).map_or(0, |stat| stat.st_blocks.unsigned_abs() * 512);
                if dry_run {
                    left += 1;
                } else {
                    ignore_gone(folder.unlink(&file)).context("remove an orphan of", &path)?;
                }
            }
            if left == 0 && !dry_run {
                ignore_gone(self.pool.dir().remove_dir(&name)).context("remove", &path)?;
            }
            if !self.layers.exists(&name).context("look into", &path)? || self.index()?.has_layer(ingest)? {
                continue;
            }
            collected.orphans += 1;
            if !dry_run {
                ignore_gone(self.layers.unlink(&name)).context("remove an orphan of", self.path().join("layers"))?;
            }
        }
        self.sweep_records(dry_run, collected)?;
        self.sweep_tree_folders(dry_run, collected)
    }

    /// Records whose ingest has no folder any more; a living ingest has one.
    fn sweep_records(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("layers");
        for (name, _) in self.layers.entries().context("list", &path)? {
            let Some(ingest) = number(&name, 16) else { continue };
            if self.pool.dir().exists(&name).context("look into", &path)? || self.index()?.has_layer(ingest)? {
                continue;
            }
            collected.orphans += 1;
            if !dry_run {
                match self.layers.unlink(&name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other.context("remove an orphan of", &path)?,
                }
            }
        }
        Ok(())
    }

    fn sweep_tree_folders(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("trees");
        for (name, _) in self.trees.entries().context("list", &path)? {
            let Some(id) = number(&name, 10) else { continue };
            let Ok(folder) = self.trees.open_dir(&name) else { continue };
            // Its maker holds the folder's lock from scratch to row.
            if !flock::try_exclusive(&folder).context("lock", &path)? || self.index()?.has_tree(id)? {
                continue;
            }
            collected.orphans += 1;
            if !dry_run {
                ignore_gone(self.trees.rename(&name, &self.tmp, &name)).context("move away", &path)?;
            }
        }
        Ok(())
    }

    /// Shared inodes that no checkout uses any more: the link in `nodes/` is their last, or shared with the pool alone.
    pub(crate) fn sweep_nodes(&self) -> Result<()> {
        let path = self.path().join("nodes");
        for (folder_name, _) in self.nodes.entries().context("list", &path)? {
            if !names::is_node_folder(&folder_name) {
                continue;
            }
            let folder = self.nodes.open_dir(&folder_name).context("open", &path)?;
            for (name, _) in folder.entries().context("list", &path)? {
                let unused = names::is_node(&name) && folder.stat(&name).is_ok_and(|stat| stat.st_nlink == 1);
                if unused {
                    match folder.unlink(&name) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        other => other.context("remove from", &path)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Lock files whose holder was killed: each is removed as by a holder who lets go.
    fn sweep_locks(&self) -> Result<()> {
        let path = self.path().join("locks");
        for (name, _) in
            self.locks.entries().context("list", &path)?.into_iter().filter(|(name, _)| names::is_lock(name))
        {
            drop(NamedLock::try_acquire(&self.locks, &name).context("lock", &path)?);
        }
        Ok(())
    }

    fn sweep_scratch(&self) -> Result<()> {
        let path = self.path().join("tmp");
        for (name, _) in self.tmp.entries().context("list", &path)? {
            if names::is_scratch(&name) && unlocked(&self.tmp, &name).context("lock", &path)? {
                self.tmp.remove_tree(&name).context("remove from", &path)?;
            }
        }
        Ok(())
    }
}

/// What another collector was faster with is done.
pub(crate) fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether no process holds the lock of a folder; what is not a folder is held by none.
fn unlocked(parent: &Dir, name: &[u8]) -> io::Result<bool> {
    match parent.open_dir(name) {
        Ok(folder) => flock::try_exclusive(&folder),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied) => {
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
