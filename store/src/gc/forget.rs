//! The first step of a collection: images and checkouts that nothing needs are forgotten, in the transaction that saw it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;

use super::plan::{Facts, Plan};
use super::{Collected, Collection, ignore_gone};
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::index::Index;
use crate::index::trees::StoredTree;
use crate::lease::LEASE;
use crate::root::Root;
use crate::session;
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::flock;
use crate::usage::disk_of_own;

/// Checkouts that nobody uses, each with its lease where it has one: locked against newcomers for as long as this lives.
type Idle = HashMap<u64, Option<File>>;

impl Store {
    /// Forgets images and checkouts, and removes the files of the checkouts; which those were.
    pub(super) fn forget(
        &self,
        index: &mut Index,
        collection: Collection,
        known: &[Root],
        collected: &mut Collected,
    ) -> Result<Vec<u64>> {
        let checkouts = collection.checkouts || collection.cold;
        let (plan, mut idle, roots) = index.write_by(|index| {
            let living = session::living(&self.sessions)?;
            let facts = index.facts()?;
            // Held until this is committed: no root is added, and no container moved, between the look and the deed.
            let roots = self.lock_roots()?;
            let rooted = rooted(&roots.all()?, known);
            let (plan, idle) = self.plan(&facts, &rooted, checkouts)?;
            index.forget(&plan.images, &plan.trees, &living)?;
            Ok((plan, idle, roots))
        })?;
        drop(roots);
        // Whoever waits for what stays goes on now.
        idle.retain(|tree, _| plan.trees.contains(tree));
        collected.images = plan.images.len() as u64;
        collected.trees = plan.trees.len() as u64;
        // All of them first: whoever waits for a lease goes on once its folder has been moved away.
        for tree in &plan.trees {
            self.move_away(*tree)?;
            idle.remove(tree);
        }
        for tree in &plan.trees {
            collected.bytes += own_disk(&self.tmp, *tree).context("measure", self.path().join("tmp"))?;
            self.remove_moved(*tree)?;
        }
        Ok(plan.trees)
    }

    /// Tells what a collection would do.
    pub(super) fn foresee(&self, collection: Collection, known: &[Root], collected: &mut Collected) -> Result<()> {
        let checkouts = collection.checkouts || collection.cold;
        let plan = self.read_index()?.read_by(|index| {
            let living = session::seen_alive(&self.sessions)?;
            let (plan, _) = self.plan(&index.facts()?, &rooted(&self.roots()?, known), checkouts)?;
            let dead = index.foresee(&living, &plan.images, &plan.trees)?;
            (collected.layers, collected.objects) = (dead.layers.len() as u64, dead.objects);
            (collected.bytes, collected.deferred) = (dead.bytes, index.deferred(&living)?);
            Ok(plan)
        })?;
        collected.images = plan.images.len() as u64;
        collected.trees = plan.trees.len() as u64;
        for tree in &plan.trees {
            collected.bytes += own_disk(&self.trees, *tree).context("measure", self.path().join("trees"))?;
        }
        if collection.cold {
            self.freeze(&plan.trees, true, collected)?;
        }
        self.sweep_packs(true, collected)?;
        self.sweep_orphans(true, collected)
    }

    /// Decides, with the leases that it needs to know of locked.
    fn plan(&self, facts: &Facts, rooted: &HashSet<Digest>, checkouts: bool) -> Result<(Plan, Idle)> {
        let mut idle = Idle::new();
        for tree in facts.doubtful(rooted, checkouts) {
            let name = tree.to_string();
            let lease = self.trees.open_dir(name.as_bytes()).and_then(|folder| folder.open_file(LEASE));
            match lease {
                Ok(lease) => {
                    if flock::try_exclusive(&lease).context("lock", self.path().join("trees").join(&name))? {
                        idle.insert(tree, Some(lease));
                    }
                }
                // A row whose folder is gone serves nobody.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    idle.insert(tree, None);
                }
                Err(error) => return Err(error).context("open", self.path().join("trees").join(&name)),
            }
        }
        Ok((facts.decide(rooted, &idle.keys().copied().collect(), checkouts), idle))
    }

    /// Takes a checkout out of use under its lock, then removes it: a newcomer finds either all of it or nothing.
    pub(crate) fn discard_tree(&self, tree: &StoredTree, lease: File) -> Result<()> {
        self.index()?.delete_tree(tree.id)?;
        self.move_away(tree.id)?;
        drop(lease);
        self.remove_moved(tree.id)
    }

    fn move_away(&self, tree: u64) -> Result<()> {
        let name = tree.to_string();
        ignore_gone(self.trees.rename(name.as_bytes(), &self.tmp, name.as_bytes()))
            .context("move away", self.path().join("trees").join(&name))
    }

    fn remove_moved(&self, tree: u64) -> Result<()> {
        let name = tree.to_string();
        self.tmp.remove_tree(name.as_bytes()).context("remove", self.path().join("tmp").join(&name))
    }
}

/// Disk that a checkout alone takes; none where another collector has removed it.
fn own_disk(folder: &Dir, tree: u64) -> io::Result<u64> {
    match disk_of_own(folder, tree.to_string().as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => other,
    }
}

/// The images that roots keep.
fn rooted(roots: &[Root], known: &[Root]) -> HashSet<Digest> {
    roots.iter().chain(known).flat_map(|root| root.images().iter().copied()).collect()
}
