//! Packed objects become files again, for a checkout that is to show them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::error::{Context, Result};
use crate::pool::{ObjectId, Packed};
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::flock;
use crate::tree::{InodeKind, Tree};

/// Folders of objects that are held open, and locked, at once: contents of an image may lie in as many as there are layers.
const FOLDERS: usize = 128;

/// Proof that objects that are files stay files: a shared lock on `packs/`, which whoever packs takes alone. It holds off
/// no other checkout.
#[derive(Debug)]
pub(crate) struct Warm {
    _lock: Dir,
}

impl Store {
    /// Makes files of all contents of a tree, and keeps them so until the checkout's row says that it shows them.
    ///
    /// # Errors
    /// A damaged pack, or those of the file system; then what was packed still is.
    pub(crate) fn warm(&self, tree: &Tree) -> Result<Warm> {
        let path = self.path().join("packs");
        let lock = Dir::open(&path).context("open", &path)?;
        flock::shared(&lock).context("lock", &path)?;
        if !self.read_index()?.all_packed()?.is_empty() {
            self.thaw(tree)?;
        }
        Ok(Warm { _lock: lock })
    }

    fn thaw(&self, tree: &Tree) -> Result<()> {
        let content = |kind: &InodeKind| match kind {
            InodeKind::Regular { object, .. } => *object,
            _ => None,
        };
        let wanted: HashSet<ObjectId> = tree.inodes().filter_map(|(_, inode)| content(&inode.kind)).collect();
        let _alone = self.lock("thaw")?;
        let mut packed = self.read_index()?.all_packed()?;
        packed.retain(|packed| wanted.contains(&packed.id));
        let mut rest = packed.as_slice();
        while !rest.is_empty() {
            let mut folders = HashSet::new();
            let full = rest.iter().position(|packed| {
                folders.insert(packed.id.directory());
                folders.len() > FOLDERS
            });
            let (some, others) = rest.split_at(full.unwrap_or(rest.len()));
            self.thaw_some(some)?;
            rest = others;
        }
        Ok(())
    }

    fn thaw_some(&self, packed: &[Packed]) -> Result<()> {
        let mut folders = HashMap::new();
        let mut thawed = Vec::with_capacity(packed.len());
        for packed in packed {
            let path = || self.path().join("objects").join(packed.id.name().trim_start_matches('/'));
            let folder = match folders.entry(packed.id.directory()) {
                std::collections::hash_map::Entry::Occupied(folder) => folder.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(self.lock_folder(packed.id).context("create", path())?)
                }
            };
            let file = self.write_thawed(folder, packed).context("unpack", path())?;
            thawed.push((packed.id, file.metadata().context("look at", path())?.blocks() * 512));
        }
        // What was on disk must not come into doubt: a pack that nothing refers to any more can go at any time.
        rustix::fs::syncfs(self.pool.dir()).context("sync", self.path())?;
        // The folders' locks are held until this is known: files whose rows say packed are left-overs to a collector.
        self.index()?.leave_packs(&thawed)
    }

    /// The folder of an object, made where it is missing, and locked against collectors.
    fn lock_folder(&self, object: ObjectId) -> io::Result<Dir> {
        let name = format!("{:x}", object.directory()).into_bytes();
        loop {
            let folder = match self.pool.dir().ensure_dir(&name, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            flock::shared(&folder)?;
            // A collector may have removed it, empty as it was, before it was locked.
            if self.pool.dir().exists(&name)? {
                return Ok(folder);
            }
        }
    }

    /// All of a content before it has its name: readers look for the file first.
    fn write_thawed(&self, folder: &Dir, packed: &Packed) -> io::Result<File> {
        let name = format!("{:x}", packed.id.sequence());
        let draft = format!("{name}.thaw");
        let mut file = match folder.create_new(draft.as_bytes(), 0o444) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder.unlink(draft.as_bytes())?;
                folder.create_new(draft.as_bytes(), 0o444)?
            }
            other => other?,
        };
        self.pool.packs().copy(packed, &mut file)?;
        folder.rename(draft.as_bytes(), folder, name.as_bytes())?;
        Ok(file)
    }
}
