//! Contents that no checkout shows become packed: `lstore gc --cold`.
//!
//! ```text
//! write tmp/N/pack and sync it          beside everything
//! lock packs/ alone                     no checkout is just being made
//!   rename it to packs/N → enter what of it still may be packed → remove these objects' files
//! unlock
//! ```
//!
//! A pack that no row knows, and a file whose row says packed, are what a crash left.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::error::{Context, Result};
use crate::gc::{Collected, ignore_gone};
use crate::index::{Durability, Index};
use crate::names::number;
use crate::pool::{ObjectId, PackWriter, Packed};
use crate::store::{Scratch, Store};
use crate::sys::dir::Dir;
use crate::sys::flock;

/// Bytes of contents in a pack: what is written before files go, and what dies and is removed as one.
const PACK: u64 = 64 << 20;
/// Name of a pack in the making.
const DRAFT: &[u8] = b"pack";

impl Store {
    /// Packs what is a file and shown by no checkout, the checkouts `gone` aside; and anew what is left in packs of which
    /// more than a quarter is dead.
    pub(crate) fn freeze(&self, gone: &[u64], dry_run: bool, collected: &mut Collected) -> Result<()> {
        let _alone = (!dry_run).then(|| self.lock("freeze")).transpose()?;
        let index = self.read_index()?;
        let mut again = HashSet::new();
        for (pack, live) in index.packs()? {
            // What is missing is told by fsck.
            let size = self.pool.packs().dir().stat(pack.to_string().as_bytes()).map_or(0, |stat| stat.st_size);
            if live < size.unsigned_abs() / 4 * 3 {
                again.insert(pack);
            }
        }
        let cold = index.cold_objects(gone, &again)?;
        collected.packed += cold.len() as u64;
        collected.packed_from += cold.iter().map(|(_, _, disk)| disk).sum::<u64>();
        drop(index);
        if dry_run {
            return Ok(());
        }
        let mut rest = cold.as_slice();
        while !rest.is_empty() {
            let mut size = 0;
            let full = rest.iter().position(|object| {
                size += object.1;
                size > PACK
            });
            // An object of more than a pack's bytes is alone in it.
            let (pack, others) = rest.split_at(full.unwrap_or(rest.len()).max(1));
            rest = others;
            collected.packed_into += self.freeze_some(pack)?;
        }
        Ok(())
    }

    /// Writes one pack and puts it in place; the bytes that it takes.
    fn freeze_some(&self, objects: &[(ObjectId, u64, u64)]) -> Result<u64> {
        let path = self.path().join("tmp");
        let scratch = Scratch::new(self)?;
        let file = scratch.dir.create_new(DRAFT, 0o400).context("create a pack in", &path)?;
        let packed = self.write_pack(scratch.number, objects, &file).context("write a pack in", &path)?;
        if packed.is_empty() {
            return Ok(0);
        }
        self.publish_pack(&scratch, &packed)?;
        Ok(file.metadata().context("look at a pack of", self.path().join("packs"))?.blocks() * 512)
    }

    fn write_pack(&self, number: u64, objects: &[(ObjectId, u64, u64)], file: &File) -> io::Result<Vec<Packed>> {
        let mut writer = PackWriter::new(number, file)?;
        for (id, size, _) in objects {
            // Collected since, or damaged: it stays where it is, and fsck tells.
            if let Ok(content) = self.pool.open(*id) {
                writer.add(*id, *size, content)?;
            }
        }
        let packed = writer.finish()?;
        file.sync_all()?;
        Ok(packed)
    }

    fn publish_pack(&self, scratch: &Scratch, packed: &[Packed]) -> Result<()> {
        let path = self.path().join("packs");
        // Each commit on disk before a file goes that it replaces.
        let mut index = Index::open(self.index_path(), Durability::Synced)?;
        let alone = Dir::open(&path).context("open", &path)?;
        flock::exclusive(&alone).context("lock", &path)?;
        scratch.dir.rename(DRAFT, &alone, scratch.number.to_string().as_bytes()).context("move a pack into", &path)?;
        rustix::fs::fsync(&alone).context("sync", &path)?;
        for object in index.enter_packed(packed)? {
            self.remove_object(object)?;
        }
        Ok(())
    }

    /// Removes packs that no row knows, unless checkouts are just being made: then the next collection does.
    pub(crate) fn sweep_packs(&self, dry_run: bool, collected: &mut Collected) -> Result<()> {
        let path = self.path().join("packs");
        let alone = Dir::open(&path).context("open", &path)?;
        if !flock::try_exclusive(&alone).context("lock", &path)? {
            return Ok(());
        }
        let known = self.read_index()?.packs()?;
        let mut dead = alone.entries().context("list", &path)?;
        dead.retain(|(name, _)| number(name, 10).is_some_and(|pack| !known.contains_key(&pack)));
        if !dry_run && !dead.is_empty() {
            // What left these packs for files must be on disk before they go.
            rustix::fs::syncfs(&alone).context("sync", &path)?;
        }
        for (name, _) in dead {
            collected.packs += 1;
            collected.bytes += alone.stat(&name).map_or(0, |stat| stat.st_blocks.unsigned_abs() * 512);
            if !dry_run {
                ignore_gone(alone.unlink(&name)).context("remove a pack of", &path)?;
            }
        }
        Ok(())
    }
}
