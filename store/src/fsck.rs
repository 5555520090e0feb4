//! Proof that what is on disk is what the manifests named: every layer's tar is written again from its record and the
//! pool, and hashed; every object is hashed; every checkout is compared with its image, name by name and byte by byte.

use std::collections::{BTreeSet, HashSet};
use std::io;

use serde::Serialize;

use crate::checkout::Verifier;
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::image::Image;
use crate::index::layers::StoredLayer;
use crate::layer::record::write_tar;
use crate::lease::Checkout;
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

/// An image without all its layers: no damage, since pulling or importing it again brings them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incomplete {
    /// Its id.
    pub id: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// Diff IDs of the layers that it lacks.
    pub missing: Vec<Digest>,
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
    /// Images that lack layers. A repair forgets them.
    pub incomplete: Vec<Incomplete>,
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
    /// Checks everything. With `repair`, damaged objects and layers are forgotten, checkouts that show them discarded, and
    /// images that then lack a layer forgotten as well: pulling them again makes them whole.
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
        if repair {
            self.forget_incomplete(&mut report)?;
        }
        // What was read may be in memory alone.
        self.settle_all()?;
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
        for image in self.images()? {
            let found = Digest::of(&image.config_bytes);
            if found != image.id {
                report.add(format!("image {}", image.id), format!("its config hashes to {found}"));
            }
            if !image.is_complete() {
                report.incomplete.push(Incomplete { id: image.id, names: image.names, missing: image.missing });
            }
        }
        Ok(())
    }

    fn check_trees(&self, report: &mut FsckReport) -> Result<Vec<u64>> {
        let owners = self.owners()?;
        let objects = self.read_index()?.objects()?.into_iter().map(|(id, hash, size)| (id, (hash, size)));
        let mut verifier = Verifier::new(&self.pool, &owners, objects.collect());
        let mut wrong = Vec::new();
        // One without all its layers has nothing that its checkouts could be compared with.
        for image in self.images()?.into_iter().filter(Image::is_complete) {
            for tree in self.read_index()?.trees_of_chain(&image.chain_id)? {
                let Some(checkout) = Checkout::lease(&self.trees, self.pool.dir(), &tree)? else { continue };
                let name = format!("checkout {} ({})", tree.id, tree.placement);
                let problems = match self.tree(&image.diff_ids) {
                    Ok(mut merged) => {
                        merged.shift(tree.shift);
                        verifier.compare(&merged, &checkout)
                    }
                    Err(error) => vec![format!("cannot be compared with its image: {error}")],
                };
                report.trees += 1;
                if !problems.is_empty() {
                    wrong.push(tree.id);
                }
                for problem in problems {
                    report.add(name.clone(), problem);
                }
            }
        }
        report.bytes += verifier.bytes();
        Ok(wrong)
    }

    /// Forgets images that lack layers, but for those that a root keeps: a start of its keeper fetches them again.
    fn forget_incomplete(&self, report: &mut FsckReport) -> Result<()> {
        let roots = self.roots()?;
        let is_kept = |image: &Image| roots.iter().any(|root| root.images().contains(&image.id));
        for image in self.images()?.into_iter().filter(|image| !image.is_complete() && !is_kept(image)) {
            self.index()?.write_by(|index| index.forget_image(&image.id))?;
            let name = if image.names.is_empty() { image.id.to_string() } else { image.names.join(", ") };
            report.repaired.push(format!("incomplete image {name} forgotten: pull it again"));
        }
        Ok(())
    }

    fn repair(
        &self,
        broken: &[u64],
        damaged: &BTreeSet<ObjectId>,
        wrong: &[u64],
        report: &mut FsckReport,
    ) -> Result<()> {
        let index = self.index()?;
        let layers = index.layers()?;
        let broken: HashSet<u64> = broken.iter().copied().collect();
        let mut stale: HashSet<u64> = wrong.iter().copied().collect();
        stale.extend(index.trees_of_layers(&broken)?);
        for tree in index.trees()?.into_iter().filter(|tree| stale.contains(&tree.id)) {
            // One that a container uses stays until that ends; the next repair takes it.
            if self.discard_idle_tree(&tree)? {
                report.repaired.push(format!("checkout {} discarded", tree.id));
            }
        }
        self.forget_layers(&broken, damaged)?;
        for layer in layers.iter().filter(|layer| broken.contains(&layer.id)) {
            report.repaired.push(format!("layer {} forgotten: pull its images again", layer.diff_id));
        }
        Ok(())
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
