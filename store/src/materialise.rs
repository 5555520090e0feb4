//! Layers → merged tree → checkout.

use std::path::Path;

use crate::checkout::set_id::take_off;
use crate::checkout::{IdShift, Lost, Placement, SetId, Writer};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::index::layers::StoredLayer;
use crate::index::trees::StoredTree;
use crate::lease::{Checkout, LEASE, ROOT};
use crate::session::Session;
use crate::store::{Scratch, Store};
use crate::sys::dir::Dir;
use crate::sys::kernel::MappedIds;
use crate::tree::Tree;

/// How often a checkout is made that collectors take away before it is leased.
const ATTEMPTS: u32 = 100;

impl Store {
    /// Merges the layers with these diff IDs, lowest first.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], or what a damaged record says.
    pub fn tree(&self, diff_ids: &[Digest]) -> Result<Tree> {
        let mut index = self.read_index()?;
        let find = |diff_id: &Digest| index.find_layer(diff_id, None)?.ok_or(Error::LayerMissing(*diff_id));
        let layers: Vec<StoredLayer> = diff_ids.iter().map(find).collect::<Result<_>>()?;
        self.merge(&layers)
    }

    /// Merges layers, lowest first.
    pub(crate) fn merge(&self, layers: &[StoredLayer]) -> Result<Tree> {
        let mut tree = Tree::within(self.limits.metadata);
        for layer in layers {
            tree.apply(self.record(layer.id)?.changes())?;
        }
        Ok(tree)
    }

    /// The checkout of an image, leased; made first where it is missing.
    ///
    /// # Errors
    /// [`Error::PlacementUnavailable`], [`Error::LayerMissing`], [`Error::OwnerUnmapped`], or those of the file system.
    pub fn checkout(&self, image: &Image, placement: Placement, shift: IdShift) -> Result<Checkout> {
        if let Some(checkout) = self.find_checkout(image, Some(placement), shift)? {
            return Ok(checkout);
        }
        let session = self.session()?;
        let checkout = self.checkout_merged(&session, image, placement, shift, None);
        self.index()?.unpin(session.number())?;
        checkout
    }

    /// As [`Store::checkout`], with the merged tree where it is at hand already: it was merged from layers that the session
    /// had pinned.
    pub(crate) fn checkout_merged(
        &self,
        session: &Session,
        image: &Image,
        placement: Placement,
        shift: IdShift,
        merged: Option<&Tree>,
    ) -> Result<Checkout> {
        for _ in 0..ATTEMPTS {
            // Alone before the look: whoever held the lock before may have made it.
            let _alone = self.lock(&format!("tree-{}-{placement}", image.chain_id))?;
            let known = self.index()?.find_tree(&image.chain_id, placement, shift)?;
            if let Some(tree) = known {
                if let Some(checkout) = Checkout::lease(&self.trees, self.pool.dir(), &tree)? {
                    return Ok(checkout);
                }
                // Its folder is gone, by a collector that has forgotten the row too, or by hand.
                self.index()?.delete_tree(tree.id)?;
            }
            // Pinned before anything of them is read: what this checkout shows is not collected under it.
            let layers = self.index()?.pin_layers(&image.diff_ids, session.number())?;
            if let Some(tree) = merged.filter(|_| shift.is_none()) {
                self.make_checkout(tree, image, &layers, placement, shift)?;
            } else {
                let mut tree = self.merge(&layers)?;
                tree.shift(shift);
                self.make_checkout(&tree, image, &layers, placement, shift)?;
            }
        }
        Err(Error::CheckoutCollected(image.id.to_string()))
    }

    /// The checkout of an image if there is one, leased. Without a placement, the best of those there are. Nothing is
    /// made, and `None` is also the answer where layers or checkouts are in doubt after a boot.
    pub fn find_checkout(
        &self,
        image: &Image,
        placement: Option<Placement>,
        shift: IdShift,
    ) -> Result<Option<Checkout>> {
        let index = self.read_index()?;
        if !self.trees_are_sure()? || !index.unsettled_layers(&self.boot)?.is_empty() {
            return Ok(None);
        }
        for candidate in placement.map_or(Placement::ALL.to_vec(), |placement| vec![placement]) {
            if let Some(tree) = index.find_tree(&image.chain_id, candidate, shift)?
                && let Some(checkout) = Checkout::lease(&self.trees, self.pool.dir(), &tree)?
            {
                return Ok(Some(checkout));
            }
        }
        Ok(None)
    }

    fn make_checkout(
        &self,
        tree: &Tree,
        image: &Image,
        layers: &[StoredLayer],
        placement: Placement,
        shift: IdShift,
    ) -> Result<()> {
        let _making = self.begin_making()?;
        // A copy reads what is packed from there.
        let _warm = (placement != Placement::Copy).then(|| self.warm(tree)).transpose()?;
        let mut index = self.index()?;
        let scratch = Scratch::new(self)?;
        let path = self.path().join("tmp");
        let root = scratch.dir.ensure_dir(ROOT, 0o700).context("create", &path)?;
        let nodes = matches!(placement, Placement::Stub | Placement::Hardlink).then_some(&self.nodes);
        let writer = Writer::new(&self.pool, nodes, placement, self.owners()?);
        let lost = writer.write(tree, &mut index, &root)?;
        scratch.dir.create_new(LEASE, 0o600).context("create", &path)?;
        self.note_boot(&scratch.dir).context("create", &path)?;
        self.settle()?;

        // In place before it is named: a crash in between leaves a folder without a row, which gc sweeps.
        let (id, name) = (scratch.number, scratch.number.to_string());
        self.tmp.rename(name.as_bytes(), &self.trees, name.as_bytes()).context("move", self.path().join("trees"))?;
        let lost = serde_json::to_string(&lost).map_err(std::io::Error::from).context("describe", &path)?;
        let chain_id = image.chain_id.clone();
        index.insert_tree(&StoredTree { id, chain_id, placement, shift, lost }, layers)?;
        Ok(())
    }

    /// Writes an image into a directory of the user's, which must be missing or empty, as a tree of its own.
    ///
    /// # Errors
    /// [`Error::TargetNotEmpty`], [`Error::SetIdKept`]; those of [`Store::checkout`]. After an error the directory is as it was.
    pub fn checkout_into(&self, image: &Image, target: &Path, placement: Placement, set_id: SetId) -> Result<Lost> {
        let users = MappedIds::users().context("read", "/proc/self/uid_map")?;
        let is_real_root = users.are_hosts() && rustix::process::geteuid().is_root();
        if set_id == SetId::Kept && !is_real_root {
            return Err(Error::SetIdKept);
        }
        let session = self.session()?;
        let layers = self.index()?.pin_layers(&image.diff_ids, session.number())?;
        let mut tree = self.merge(&layers)?;
        let lent = if set_id == SetId::Off { take_off(&mut tree, &users) } else { 0 };
        let existed = target.exists();
        if !existed {
            std::fs::create_dir(target).context("create", target)?;
        }
        let root = Dir::open(target).context("open", target)?;
        if !root.entries().context("list", target)?.is_empty() {
            return Err(Error::TargetNotEmpty(target.to_path_buf()));
        }
        let _making = (placement == Placement::Hardlink).then(|| self.begin_making()).transpose()?;
        let _warm = (placement == Placement::Hardlink).then(|| self.warm(&tree)).transpose()?;
        let nodes = (placement == Placement::Hardlink).then_some(&self.nodes);
        let writer = Writer::new(&self.pool, nodes, placement, self.owners()?);
        let mut index = self.index()?;
        let result = writer.write(&tree, &mut index, &root);
        if result.is_err() {
            for (name, _) in root.entries().unwrap_or_default() {
                // The first error is the one to tell; what is left is seen in the user's own directory.
                let _ = root.remove_tree(&name);
            }
            if !existed {
                let _ = std::fs::remove_dir(target);
            }
        }
        let mut lost = result?;
        lost.lent += lent;
        Ok(lost)
    }
}
