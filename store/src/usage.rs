//! Where the disk goes.

use std::collections::HashSet;
use std::io;

use rustix::fs::{FileType, Stat};
use serde::Serialize;

use crate::ballast::BALLAST;
use crate::digest::Digest;
use crate::error::{Context, Result};
use crate::marker::MARKER;
use crate::root::Root;
use crate::store::Store;
use crate::sys::dir::Dir;
use crate::sys::walk::Walk;

/// What one image takes, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageUsage {
    /// Image id.
    pub id: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// Bytes of the regular files that a container of it sees.
    pub logical: u64,
    /// Disk of the contents that no other image refers to.
    pub exclusive: u64,
    /// Disk of the contents that other images refer to as well.
    pub shared: u64,
    /// Disk of contents that removing it would free: the exclusive ones, unless something else keeps them.
    pub reclaimable: u64,
}

/// What the whole store takes, in bytes of disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Image by image.
    pub images: Vec<ImageUsage>,
    /// Bytes of all distinct contents.
    pub content: u64,
    /// Disk of those that are files.
    pub objects: u64,
    /// Disk of the packs that the others are in.
    pub packs: u64,
    /// Disk of layer records.
    pub layers: u64,
    /// Disk of checkouts and of the inodes that they share, without what they share with the pool.
    pub trees: u64,
    /// Disk of the index.
    pub index: u64,
    /// Disk of containers.
    pub containers: u64,
    /// Disk of volumes.
    pub volumes: u64,
    /// All of it: what `du` says of the store.
    pub total: u64,
    /// What `lstore gc` would free now.
    pub reclaimable: u64,
}

impl Store {
    /// Disk of one image's contents: that no other image refers to, and that others do.
    pub fn usage_of(&self, image: &crate::Image) -> Result<(u64, u64)> {
        let rows = self.read_index()?.usage_by_image()?;
        let own = rows.into_iter().find(|(id, ..)| *id == image.id);
        Ok(own.map_or((0, 0), |(_, exclusive, shared)| (exclusive, shared)))
    }

    /// Measures.
    ///
    /// # Errors
    /// Those of the index and the file system.
    pub fn usage(&self) -> Result<Usage> {
        let images = self.images()?;
        let mut index = self.read_index()?;
        let mut rows = Vec::with_capacity(images.len());
        for (id, exclusive, shared) in index.usage_by_image()? {
            if let Some(image) = images.iter().find(|image| image.id == id) {
                let (names, logical) = (image.names.clone(), image.logical);
                rows.push(ImageUsage { id, names, logical, exclusive, shared, reclaimable: exclusive });
            }
        }
        let rooted: Vec<String> = self.roots()?.iter().flat_map(Root::images).map(Digest::to_string).collect();
        let (content, reclaimable) = index.usage_of_pool(&rooted)?;
        // An open index has a log and a table of locks beside it, which go when the last connection is closed.
        drop(index);
        self.idle.close();
        let mut seen = HashSet::new();
        let root = Dir::open(self.path()).context("open", self.path())?;
        // Objects first: an inode of several names counts where it is met first.
        let mut measure = |name: &[u8]| match root.exists(name) {
            Ok(true) => disk(&root, name, &mut seen).context("measure", self.path()),
            _ => Ok(0),
        };
        let (objects, packs) = (measure(b"objects")?, measure(b"packs")?);
        let (layers, trees) = (measure(b"layers")?, measure(b"trees")? + measure(b"nodes")?);
        let index = measure(b"index.db")? + measure(b"index.db-wal")? + measure(b"index.db-shm")?;
        let (containers, volumes) = (measure(b"containers")?, measure(b"volumes")?);
        let rest = measure(MARKER.as_bytes())?
            + measure(BALLAST.as_bytes())?
            + measure(b"boot")?
            + measure(b"locks")?
            + measure(b"starts")?
            + measure(b"sessions")?
            + measure(b"roots")?
            + measure(b"tmp")?;
        let top = root.stat_self().context("look at", self.path())?.st_blocks.unsigned_abs() * 512;
        let total = objects + packs + layers + trees + index + containers + volumes + rest + top;
        Ok(Usage {
            images: rows,
            content,
            objects,
            packs,
            layers,
            trees,
            index,
            containers,
            volumes,
            total,
            reclaimable,
        })
    }
}

/// Disk of `name` and all below it, as `du` counts: blocks, each inode once.
fn disk(parent: &Dir, name: &[u8], seen: &mut HashSet<u64>) -> io::Result<u64> {
    disk_of(parent, name, |stat| seen.insert(stat.st_ino))
}

/// Disk of the files below `name` that have no other name: what removing it frees. Every folder is such a file.
pub(crate) fn disk_of_own(parent: &Dir, name: &[u8]) -> io::Result<u64> {
    disk_of(parent, name, |stat| is_folder(stat) || stat.st_nlink == 1)
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn disk_of(parent: &Dir, name: &[u8], mut counts: impl FnMut(&Stat) -> bool) -> io::Result<u64> {
    let stat = parent.stat(name)?;
    let mut total = 0;
    let mut count = |stat: &Stat| {
        if counts(stat) {
            total += stat.st_blocks.unsigned_abs() * 512;
        }
    };
    count(&stat);
    if !is_folder(&stat) {
        return Ok(total);
    }
    // What a running pull removes meanwhile counts no more; anything else that cannot be read is an error, and not left out.
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let list = |dir: &Dir| match dir.entries() {
        Err(error) if gone(&error) => Ok(Vec::new().into_iter()),
        other => other.map(Vec::into_iter),
    };
    let first = parent.open_dir(name)?;
    let entries = list(&first)?;
    let mut walk = Walk::new(first, entries)?;
    while let Some((dir, entries)) = walk.here() {
        let Some((entry, _)) = entries.next() else {
            walk.leave()?;
            continue;
        };
        let stat = match dir.stat(&entry) {
            Err(error) if gone(&error) => continue,
            other => other?,
        };
        count(&stat);
        if is_folder(&stat) {
            let deeper = match dir.open_dir(&entry) {
                Err(error) if gone(&error) => continue,
                other => other?,
            };
            let entries = list(&deeper)?;
            walk.enter(deeper, entries)?;
        }
    }
    Ok(total)
}
