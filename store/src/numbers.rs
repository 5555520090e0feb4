//! Numbers that nothing on disk has. The index hands none out twice, but an index that was put back from a copy is older than
//! the files: what has a number already is passed over, whoever's it was.

use std::collections::HashSet;

use crate::error::{Context, Result};
use crate::index::Counter;
use crate::names;
use crate::store::Store;
use crate::sys::dir::Dir;

impl Store {
    /// A number for an ingest, which no folder of objects and no record has.
    pub(crate) fn next_ingest(&self) -> Result<u64> {
        self.next_free(Counter::Ingest, &[self.pool.dir(), &self.layers], 16)
    }

    /// A number for a folder in `tmp/`, which neither a checkout nor a pack has.
    pub(crate) fn next_tree(&self) -> Result<u64> {
        self.next_free(Counter::Tree, &[&self.tmp, &self.trees, self.pool.packs().dir()], 10)
    }

    fn next_free(&self, counter: Counter, folders: &[&Dir], radix: u32) -> Result<u64> {
        let mut index = self.index()?;
        let number = index.next(counter)?;
        let name = if radix == 16 { format!("{number:x}") } else { number.to_string() };
        let mut is_taken = false;
        for folder in folders {
            is_taken |= folder.exists(name.as_bytes()).context("look into", self.path())?;
        }
        if !is_taken {
            return Ok(number);
        }
        // All at once: the index can be older by many thousand.
        let mut taken = HashSet::new();
        for folder in folders {
            let entries = folder.entries().context("list", self.path())?;
            taken.extend(entries.into_iter().filter_map(|(name, _)| names::number(&name, radix)));
        }
        index.next_but(counter, &taken)
    }
}
