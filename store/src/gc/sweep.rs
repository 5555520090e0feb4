//! Removes files: of objects that were taken out of the index, and what no row of it knows.
//!
//! Nothing but names of the store's own form is touched.

use std::collections::HashSet;
use std::io;

use rustix::fs::FileType;

use super::{Collected, ignore_gone};
use crate::error::{Context, Result};
use crate::names::{self, number};
use crate::pool::ObjectId;
use crate::start::STARTS;
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::flock::{self, NamedLock};

impl Store {
    /// Removes the file of an object that no row knows any more.
    pub(crate) fn remove_object(&self, object: ObjectId) -> Result<()> {
        let removed = self.pool.locate(object).and_then(|(folder, name)| folder.unlink(&name));
        ignore_gone(removed).context("remove", self.path().join("objects").join(object.name().trim_start_matches('/')))
    }

    /// Files of ingests that ended without a commit, records and checkouts without a row.
    pub(super) fn sweep_orphans(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
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
            let is_left = self.sweep_ingest(ingest, &folder, dry_run, collected)?;
            if !is_left && !dry_run {
                ignore_gone(self.pool.dir().remove_dir(&name)).context("remove", &path)?;
            }
            self.sweep_record(ingest, dry_run, collected)?;
        }
        self.sweep_records(dry_run, collected)?;
        self.sweep_tree_folders(dry_run, collected)
    }

    /// Removes what the index does not know in the folder of an ingest; whether something is left in it.
    fn sweep_ingest(&self, ingest: u64, folder: &Dir, dry_run: bool, collected: &mut Collected) -> Result<bool> {
        let path = self.path().join("objects");
        let known = self.read_index()?.files_of_ingest(ingest)?;
        let known: HashSet<u64> = known.into_iter().map(ObjectId::sequence).collect();
        let mut is_left = !known.is_empty();
        for (file, kind) in folder.entries().context("list", &path)? {
            let is_known = number(&file, 16).is_some_and(|sequence| known.contains(&sequence));
            if is_known || !names::is_object(&file) || kind == FileType::Directory {
                is_left = true;
                continue;
            }
            collected.orphans += 1;
            collected.bytes += blocks(folder, &file).context("look at an orphan of", &path)?;
            if dry_run {
                is_left = true;
            } else {
                ignore_gone(folder.unlink(&file)).context("remove an orphan of", &path)?;
            }
        }
        Ok(is_left)
    }

    /// Records whose ingest has no folder any more; a living ingest has one.
    fn sweep_records(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("layers");
        for (name, _) in self.layers.entries().context("list", &path)? {
            let Some(ingest) = number(&name, 16) else { continue };
            if !self.pool.dir().exists(&name).context("look into", &path)? {
                self.sweep_record(ingest, dry_run, collected)?;
            }
        }
        Ok(())
    }

    /// Removes the record of an ingest that became no layer.
    fn sweep_record(&self, ingest: u64, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let (name, path) = (format!("{ingest:x}").into_bytes(), self.path().join("layers"));
        if !self.layers.exists(&name).context("look into", &path)? || self.read_index()?.has_layer(ingest)? {
            return Ok(());
        }
        collected.orphans += 1;
        if dry_run { Ok(()) } else { self.remove_record(ingest) }
    }

    /// Removes the record of a layer that no row knows any more.
    pub(super) fn remove_record(&self, layer: u64) -> Result<()> {
        let name = format!("{layer:x}");
        ignore_gone(self.layers.unlink(name.as_bytes())).context("remove", self.path().join("layers").join(&name))
    }

    fn sweep_tree_folders(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("trees");
        for (name, _) in self.trees.entries().context("list", &path)? {
            let Some(id) = number(&name, 10) else { continue };
            let folder = match self.trees.open_dir(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            // Its maker holds the folder's lock from scratch to row.
            if !flock::try_exclusive(&folder).context("lock", &path)? || self.read_index()?.has_tree(id)? {
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
                if !names::is_node(&name) {
                    continue;
                }
                match folder.stat(&name) {
                    Ok(stat) if stat.st_nlink == 1 => {
                        ignore_gone(folder.unlink(&name)).context("remove from", &path)?;
                    }
                    Ok(_) => {}
                    Err(error) => ignore_gone(Err(error)).context("look into", &path)?,
                }
            }
        }
        Ok(())
    }

    /// Lock files whose holder was killed: each is removed as by a holder who lets go.
    pub(super) fn sweep_locks(&self) -> Result<()> {
        let path = self.path().join("locks");
        for (name, _) in self.locks.entries().context("list", &path)? {
            if names::is_lock(&name) {
                drop(NamedLock::try_acquire(&self.locks, &name).context("lock", &path)?);
            }
        }
        Ok(())
    }

    /// Half-made checkouts and what was being removed.
    pub(super) fn sweep_scratch(&self) -> Result<()> {
        let path = self.path().join("tmp");
        for (name, _) in self.tmp.entries().context("list", &path)? {
            if names::is_scratch(&name) && unlocked(&self.tmp, &name).context("lock", &path)? {
                self.tmp.remove_tree(&name).context("remove from", &path)?;
            }
        }
        Ok(())
    }

    /// What was written down for starts that may have lost their checkouts.
    pub(super) fn sweep_starts(&self) -> Result<()> {
        self.forget_starts().context("clear", self.path().join(STARTS))
    }
}

/// Disk that a file takes; none where it has gone meanwhile.
fn blocks(folder: &Dir, file: &[u8]) -> io::Result<u64> {
    match folder.stat(file) {
        Ok(stat) => Ok(stat.st_blocks.unsigned_abs() * 512),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
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
