//! Proof that what is on disk is what the manifests named: every layer's tar is written again from its record and the
//! pool, and hashed; every object is hashed; every checkout's files are looked at.

use std::collections::{BTreeSet, HashSet};
use std::io;

use serde::Serialize;

use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::index::layers::StoredLayer;
use crate::layer::record::write_tar;
use crate::names;
use crate::pool::ObjectId;
use crate::store::Store;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What: "object 3f/1a", "layer sha256:…", "index".
    pub what: String,
    /// How it differs.
    pub problem: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Layers whose diff ID was derived again.
    pub layers: u64,
    /// Objects that were hashed.
    pub objects: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Checkouts that were compared with their merged trees.
    pub trees: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// What was taken out of use, so that the next pull brings it anew.
    pub repaired: Vec<String>,
    /// What has no name of the store's own form and is left alone: paths below the store. It is no damage.
    pub foreign: Vec<String>,
}

impl FsckReport {
    /// Whether all is sound.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }

    fn add(&mut self, what: impl Into<String>, problem: impl Into<String>) {
        self.damage.push(Damage { what: what.into(), problem: problem.into() });
    }
}

impl Store {
    /// Checks everything. With `repair`, damaged objects and layers are forgotten, and checkouts that show them
    /// discarded: pulling the image again makes it whole.
    ///
    /// # Errors
    /// Only where the check itself could not be made; damage is in the report.
    pub fn fsck(&self, repair: bool) -> Result<FsckReport> {
        let mut report = FsckReport { foreign: self.foreign()?, ..FsckReport::default() };
        for problem in self.read_index()?.check()? {
            report.add("index", problem);
        }
        let damaged = self.check_objects(&mut report)?;
        let layers = self.read_index()?.layers()?;
        let mut broken = Vec::new();
        for layer in &layers {
            report.layers += 1;
            if let Err(problem) = self.check_layer(layer) {
                report.add(format!("layer {}", layer.diff_id), problem);
                broken.push(layer.id);
            }
        }
        self.check_images(&mut report)?;
        let wrong_trees = self.check_trees(&mut report)?;
        if repair && !report.is_clean() {
            self.repair(&broken, &damaged, &wrong_trees, &mut report)?;
        }
        Ok(report)
    }

    fn check_objects(&self, report: &mut FsckReport) -> Result<BTreeSet<ObjectId>> {
        let mut damaged = BTreeSet::new();
        for (id, hash, size) in self.read_index()?.objects()? {
            report.objects += 1;
            let what = || format!("object {}", id.name().trim_start_matches('/'));
            match self.pool.rehash(id) {
                Ok((found, length)) => {
                    report.bytes += length;
                    if (found, length) != (hash, size) {
                        report.add(
                            what(),
                            format!("holds {length} bytes of {found:?} instead of {size} bytes of {hash:?}"),
                        );
                        damaged.insert(id);
                    }
                }
                Err(error) => {
                    report.add(what(), error.to_string());
                    damaged.insert(id);
                }
            }
        }
        Ok(damaged)
    }

    /// Derives a layer's diff ID again from its record and the pool.
    pub(crate) fn check_layer(&self, layer: &StoredLayer) -> Result<(), String> {
        let mut sink = HashSink(Hasher::new());
        let written = self
            .record(layer.id)
            .and_then(|record| Ok(write_tar(record, &self.pool, &mut sink)?))
            .map_err(|error| error.to_string())?;
        let found = sink.0.finish();
        if found == layer.diff_id && written == layer.size {
            return Ok(());
        }
        Err(format!("the pool gives {written} bytes of {found} instead of {} bytes", layer.size))
    }

    fn check_images(&self, report: &mut FsckReport) -> Result<()> {
        let mut index = self.read_index()?;
        for image in index.images()? {
            let found = Digest::of(&image.config);
            if found != image.id {
                report.add(format!("image {}", image.id), format!("its config hashes to {found}"));
            }
            for diff_id in index.diff_ids(&image.id)? {
                if index.find_layer(&diff_id, None)?.is_none() {
                    report.add(format!("image {}", image.id), format!("its layer {diff_id} is missing"));
                }
            }
        }
        Ok(())
    }

    fn check_trees(&self, report: &mut FsckReport) -> Result<Vec<u64>> {
        let owners = self.owners()?;
        let mut wrong = Vec::new();
        for image in self.images()? {
            for tree in self.read_index()?.trees_of_chain(&image.chain_id)? {
                let Some(checkout) = crate::lease::Checkout::lease(&self.trees, self.pool.dir(), &tree)? else {
                    continue;
                };
                // A missing layer is told already, and without it there is nothing to compare with.
                let Ok(mut merged) = self.tree(&image.diff_ids) else { continue };
                merged.shift(tree.shift);
                report.trees += 1;
                let problems = crate::checkout::verify(&merged, &checkout, &owners);
                if !problems.is_empty() {
                    wrong.push(tree.id);
                }
                for problem in problems {
                    report.add(format!("checkout {} ({})", tree.id, tree.placement), problem);
                }
            }
        }
        Ok(wrong)
    }

    fn repair(
        &self,
        broken: &[u64],
        damaged: &BTreeSet<ObjectId>,
        wrong: &[u64],
        report: &mut FsckReport,
    ) -> Result<()> {
        let mut index = self.index()?;
        let layers = index.layers()?;
        let broken: HashSet<u64> = broken.iter().copied().collect();
        let mut stale: HashSet<u64> = wrong.iter().copied().collect();
        stale.extend(index.trees_of_layers(&broken)?);
        for tree in index.trees()?.into_iter().filter(|tree| stale.contains(&tree.id)) {
            let name = tree.id.to_string();
            let lease = self.trees.open_dir(name.as_bytes()).and_then(|dir| dir.open_file(crate::lease::LEASE));
            // One that a container uses stays until that ends; the next repair takes it.
            if let Ok(lease) = lease
                && crate::sys::flock::try_exclusive(&lease).unwrap_or(false)
            {
                self.discard_tree(&tree, lease)?;
                report.repaired.push(format!("checkout {} discarded", tree.id));
            }
        }
        self.sweep_nodes()?;
        let damaged: Vec<ObjectId> = damaged.iter().copied().collect();
        let broken: Vec<u64> = broken.into_iter().collect();
        index.forget_damaged(&broken, &damaged)?;
        for object in damaged {
            self.remove_object(object)?;
        }
        for layer in layers.iter().filter(|layer| broken.contains(&layer.id)) {
            report.repaired.push(format!("layer {} forgotten: pull its images again", layer.diff_id));
        }
        Ok(())
    }

    /// After a boot that was not preceded by a sync: hashes the layers written before it, and forgets those that the
    /// crash tore. Their checkouts, and the inodes that checkouts share, are made anew when they are next needed.
    pub(crate) fn settle_after_boot(&self) -> Result<()> {
        let mut index = self.index()?;
        if index.unsettled_layers(&self.boot)?.is_empty() {
            return Ok(());
        }
        let _alone = self.lock("settle")?;
        let unsettled = index.unsettled_layers(&self.boot)?;
        if unsettled.is_empty() {
            return Ok(());
        }
        let ids: HashSet<u64> = unsettled.iter().map(|layer| layer.id).collect();
        let mut report = FsckReport::default();
        let wrong = index.trees_of_layers(&ids)?;
        let mut damaged = BTreeSet::new();
        let mut broken = Vec::new();
        for layer in &unsettled {
            if self.check_layer(layer).is_err() {
                broken.push(layer.id);
                damaged.extend(self.torn_objects(layer.id)?);
            }
        }
        self.repair(&broken, &damaged, &wrong, &mut report)?;
        for folder in
            self.nodes.entries().unwrap_or_default().into_iter().filter(|(name, _)| names::is_node_folder(name))
        {
            // Links only: what a checkout uses lives on in it, and half-written ones are no longer found.
            let _ = self.nodes.remove_tree(&folder.0);
        }
        for layer in unsettled.iter().filter(|layer| !broken.contains(&layer.id)) {
            index.settle_layer(layer.id)?;
        }
        Ok(())
    }

    fn torn_objects(&self, layer: u64) -> Result<Vec<ObjectId>> {
        let objects = self.read_index()?.objects_of_layer(layer)?;
        let torn = |(id, hash, size): &(ObjectId, crate::pool::Hash, u64)| {
            !self.pool.rehash(*id).is_ok_and(|found| found == (*hash, *size))
        };
        Ok(objects.into_iter().filter(torn).map(|(id, ..)| id).collect())
    }
}

struct HashSink(Hasher);

impl io::Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
