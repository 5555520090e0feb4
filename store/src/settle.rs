//! What is known to be on disk, and what a power cut may have torn.
//!
//! Nothing is synced that nobody asked to have synced. So layers and checkouts carry the boot under which they were
//! written, until they are known to be on disk: *settled*. After another boot what is not settled is in doubt: layers are
//! hashed again, and those that are torn forgotten; checkouts and shared inodes are taken away, and made again when they
//! are needed. `FORMAT.md` has the form of the `boot` files.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::index::trees::StoredTree;
use crate::lease::LEASE;
use crate::names;
use crate::pool::{Hash, ObjectId};
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::flock;

/// File that tells the boot: in a checkout's folder, and in the store's own for all checkouts and shared inodes together.
const BOOT: &[u8] = b"boot";
/// The next one while it is written.
const DRAFT: &[u8] = b"boot.new";
/// Stands in place of a boot.
const SETTLED: &str = "settled";
/// The kernel has written by itself what is so old (`vm.dirty_expire_centisecs` and `vm.dirty_writeback_centisecs` together
/// are 35 s unless they were changed): then a sync has nothing of ours left to wait for.
const OLD: Duration = Duration::from_mins(1);

/// What a `boot` file says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    /// On disk.
    Settled,
    /// Under this boot, and perhaps not yet on disk.
    Under(String),
    /// Nothing: it was never written, or torn itself.
    Unknown,
}

impl Written {
    fn read(folder: &Dir) -> io::Result<Self> {
        let mut text = String::new();
        match folder.open_file(BOOT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Unknown),
            other => other?.take(128).read_to_string(&mut text)?,
        };
        Ok(match text.strip_suffix('\n') {
            Some(SETTLED) => Self::Settled,
            Some(boot) => Self::Under(boot.to_owned()),
            None => Self::Unknown,
        })
    }

    /// Whether it can be used under this boot.
    fn is_sure(&self, boot: &str) -> bool {
        match self {
            Self::Settled => true,
            Self::Under(other) => other == boot,
            Self::Unknown => false,
        }
    }
}

/// Puts another `boot` file in place of the one that is there. Only one process at a time may.
fn replace(folder: &Dir, text: &str) -> io::Result<()> {
    folder.remove_tree(DRAFT)?;
    writeln!(folder.create_new(DRAFT, 0o600)?, "{text}")?;
    folder.rename(DRAFT, folder, BOOT)
}

/// Proof that shared inodes and checkouts are not said to be on disk while they are written: a shared lock on `trees/`,
/// which whoever says so takes alone.
#[derive(Debug)]
pub(crate) struct Making {
    _lock: Dir,
}

impl Store {
    /// Notes that checkouts or shared inodes are about to be written.
    pub(crate) fn begin_making(&self) -> Result<Making> {
        let path = self.path().join("trees");
        let lock = Dir::open(&path).context("open", &path)?;
        flock::shared(&lock).context("lock", &path)?;
        if self.state_of_trees()? != Written::Under(self.boot.clone()) {
            let _alone = self.lock("settle")?;
            let root = self.root()?;
            if self.state_of_trees()? == Written::Settled {
                // What comes next must not be found on the disk beside a file that says that all of it is there.
                root.unlink(BOOT).context("remove the boot of", self.path())?;
                rustix::fs::fsync(&root).context("sync", self.path())?;
            }
            replace(&root, &self.boot).context("write the boot of", self.path())?;
        }
        Ok(Making { _lock: lock })
    }

    /// Writes into a checkout's folder under which boot it was made, or that it is on disk once the sync is done that
    /// follows.
    pub(crate) fn note_boot(&self, checkout: &Dir) -> io::Result<()> {
        writeln!(checkout.create_new(BOOT, 0o600)?, "{}", self.unsettled_boot().unwrap_or(SETTLED))
    }

    /// Whether checkouts and shared inodes have been gone through since the last boot, or need not be.
    pub(crate) fn trees_are_sure(&self) -> Result<bool> {
        Ok(self.state_of_trees()?.is_sure(&self.boot))
    }

    fn state_of_trees(&self) -> Result<Written> {
        Written::read(&self.root()?).context("read the boot of", self.path())
    }

    fn root(&self) -> Result<Dir> {
        Dir::open(self.path()).context("open", self.path())
    }

    /// After a boot that was not preceded by a sync: hashes the layers written before it, and forgets those that the
    /// crash tore; takes away the checkouts and the inodes that checkouts share which were written before it. They are made
    /// anew when they are next needed. Returns the layers that were forgotten.
    pub(crate) fn settle_after_boot(&self) -> Result<Vec<Digest>> {
        let mut index = self.index()?;
        if self.trees_are_sure()? && index.unsettled_layers(&self.boot)?.is_empty() {
            return Ok(Vec::new());
        }
        let _alone = self.lock("settle")?;
        let mut unsettled = index.unsettled_layers(&self.boot)?;
        let mut damaged = BTreeSet::new();
        let mut broken = HashSet::new();
        for layer in &unsettled {
            if self.check_layer(layer).is_err() {
                broken.insert(layer.id);
                damaged.extend(self.torn_objects(layer.id)?);
            }
        }
        let mut wrong: HashSet<u64> = index.trees_of_layers(&broken)?.into_iter().collect();
        let trees_are_sure = self.trees_are_sure()?;
        if !trees_are_sure {
            wrong.extend(self.trees_in_doubt()?);
        }
        for tree in index.trees()?.into_iter().filter(|tree| wrong.contains(&tree.id)) {
            self.discard_idle_tree(&tree)?;
        }
        self.forget_layers(&broken, &damaged)?;
        if !trees_are_sure {
            let path = self.path().join("nodes");
            let folders = self.nodes.entries().context("list", &path)?;
            for (folder, _) in folders.into_iter().filter(|(name, _)| names::is_node_folder(name)) {
                // Links only: what a checkout uses lives on in it.
                self.nodes.remove_tree(&folder).context("remove from", &path)?;
            }
            replace(&self.root()?, &self.boot).context("write the boot of", self.path())?;
        }
        let forgotten =
            unsettled.extract_if(.., |layer| broken.contains(&layer.id)).map(|layer| layer.diff_id).collect();
        index.settle_layers(&unsettled)?;
        Ok(forgotten)
    }

    /// The checkouts that were written under another boot and never known to be on disk, or that are no longer there.
    fn trees_in_doubt(&self) -> Result<Vec<u64>> {
        let mut doubtful = Vec::new();
        for tree in self.read_index()?.trees()? {
            let name = tree.id.to_string();
            let state = match self.trees.open_dir(name.as_bytes()).and_then(|folder| Written::read(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Written::Unknown,
                other => other.context("read the boot of", self.path().join("trees").join(&name))?,
            };
            if !state.is_sure(&self.boot) {
                doubtful.push(tree.id);
            }
        }
        Ok(doubtful)
    }

    /// Takes a checkout away unless it is in use. `false`: it is.
    pub(crate) fn discard_idle_tree(&self, tree: &StoredTree) -> Result<bool> {
        let name = tree.id.to_string();
        let path = || self.path().join("trees").join(&name);
        // A lease that is missing was torn with the rest.
        let lease = match self.trees.open_dir(name.as_bytes()).and_then(|folder| folder.open_lock(LEASE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.index()?.delete_tree(tree.id)?;
                return Ok(true);
            }
            other => other.context("open the lease of", path())?,
        };
        let is_idle = flock::try_exclusive(&lease).context("lock", path())?;
        if is_idle {
            self.discard_tree(tree, lease)?;
        }
        Ok(is_idle)
    }

    /// Forgets layers and removes these of their objects, so that the next pull writes them anew.
    pub(crate) fn forget_layers(&self, layers: &HashSet<u64>, damaged: &BTreeSet<ObjectId>) -> Result<()> {
        self.sweep_nodes()?;
        let damaged: Vec<ObjectId> = damaged.iter().copied().collect();
        let layers: Vec<u64> = layers.iter().copied().collect();
        self.index()?.forget_damaged(&layers, &damaged)?;
        for object in damaged {
            self.remove_object(object)?;
        }
        Ok(())
    }

    fn torn_objects(&self, layer: u64) -> Result<Vec<ObjectId>> {
        let objects = self.read_index()?.objects_of_layer(layer)?;
        let torn = |(id, hash, size): &(ObjectId, Hash, u64)| {
            !self.pool.rehash(*id).is_ok_and(|found| found == (*hash, *size))
        };
        Ok(objects.into_iter().filter(torn).map(|(id, ..)| id).collect())
    }

    /// Diff IDs of the layers that a crash tore and that opening the store therefore forgot.
    pub fn forgotten(&self) -> &[Digest] {
        &self.forgotten
    }

    /// Settles what is so old that the kernel has written it by itself: so that after a clean shutdown nothing is hashed or
    /// made again.
    ///
    /// # Errors
    /// Those of the index and the file system.
    pub fn settle_what_is_old(&self) -> Result<()> {
        match self.newest_unsettled()? {
            Some(newest) if newest.elapsed().is_ok_and(|age| age > OLD) => self.settle_all(),
            _ => Ok(()),
        }
    }

    /// When the newest of what is not known to be on disk was written; `None` where all is.
    fn newest_unsettled(&self) -> Result<Option<SystemTime>> {
        let mut newest = None;
        let mut add = |time: io::Result<std::fs::File>| match time.and_then(|file| file.metadata()?.modified()) {
            // What is removed meanwhile needs no sync.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(time) => {
                newest = newest.max(Some(time));
                Ok(())
            }
        };
        for layer in self.read_index()?.layers_of_boot(&self.boot)? {
            let name = format!("{:x}", layer.id);
            add(self.layers.open_file(name.as_bytes())).context("look at", self.path().join("layers").join(name))?;
        }
        if self.state_of_trees()? != Written::Settled {
            add(self.root()?.open_file(BOOT)).context("look at the boot of", self.path())?;
        }
        for tree in self.unsettled_trees()? {
            let path = self.path().join("trees").join(tree.to_string());
            let file = self.trees.open_dir(tree.to_string().as_bytes()).and_then(|folder| folder.open_file(BOOT));
            add(file).context("look at the boot of", path)?;
        }
        Ok(newest)
    }

    /// Waits until all that was written is on disk, and says so of all that is not known to be, unless a checkout is just
    /// being made: then the next one does.
    pub(crate) fn settle_all(&self) -> Result<()> {
        let path = self.path().join("trees");
        let sync = || rustix::fs::syncfs(&self.trees).context("sync", self.path());
        // Most is written here, while nobody is kept waiting.
        sync()?;
        let alone = Dir::open(&path).context("open", &path)?;
        if !flock::try_exclusive(&alone).context("lock", &path)? {
            return Ok(());
        }
        let _settling = self.lock("settle")?;
        let (layers, trees) = (self.read_index()?.layers_of_boot(&self.boot)?, self.unsettled_trees()?);
        sync()?;
        self.index()?.settle_layers(&layers)?;
        for tree in trees {
            let name = tree.to_string();
            let said = self.trees.open_dir(name.as_bytes()).and_then(|folder| replace(&folder, SETTLED));
            match said {
                // A collector was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.context("write the boot of", path.join(&name))?,
            }
        }
        replace(&self.root()?, SETTLED).context("write the boot of", self.path())
    }

    /// The checkouts that are not known to be on disk.
    fn unsettled_trees(&self) -> Result<Vec<u64>> {
        let mut unsettled = Vec::new();
        for tree in self.read_index()?.trees()? {
            let name = tree.id.to_string();
            match self.trees.open_dir(name.as_bytes()).and_then(|folder| Written::read(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    let state = other.context("read the boot of", self.path().join("trees").join(&name))?;
                    // One in doubt that was in use when the doubt arose stays in doubt.
                    if matches!(&state, Written::Under(boot) if *boot == self.boot) {
                        unsettled.push(tree.id);
                    }
                }
            }
        }
        Ok(unsettled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_in_full_is_believed() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Dir::open(scratch.path()).unwrap();
        assert!(!Written::read(&folder).unwrap().is_sure("this"));
        for (text, is_sure) in
            [("this\n", true), ("settled\n", true), ("", false), ("settled", false), ("other\n", false)]
        {
            std::fs::write(scratch.path().join("boot"), text).unwrap();
            assert_eq!(Written::read(&folder).unwrap().is_sure("this"), is_sure, "{text:?}");
        }
        // What a killed one left is no hindrance.
        std::fs::write(scratch.path().join("boot.new"), "").unwrap();
        replace(&folder, "this").unwrap();
        assert_eq!(Written::read(&folder).unwrap(), Written::Under("this".to_owned()));
        assert_eq!(folder.entries().unwrap().len(), 1);
    }
}
