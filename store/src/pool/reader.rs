//! Reading objects.

use std::fs::File;
use std::io;

use super::{Hash, ObjectId};
use crate::sys::dir::Dir;

/// The folder of objects, held open.
#[derive(Debug)]
pub struct Pool {
    objects: Dir,
}

impl Pool {
    /// `objects` is the store's `objects/`.
    pub fn new(objects: Dir) -> Self {
        Self { objects }
    }

    /// A second handle on the same pool.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { objects: self.objects.try_clone()? })
    }

    /// The folder itself: the data-only layer of stub checkouts.
    pub fn dir(&self) -> &Dir {
        &self.objects
    }

    /// The folder that an object's file is in, and its name there.
    pub fn locate(&self, id: ObjectId) -> io::Result<(Dir, Vec<u8>)> {
        let folder = self.objects.open_dir(format!("{:x}", id.directory()).as_bytes())?;
        Ok((folder, format!("{:x}", id.sequence()).into_bytes()))
    }

    /// Opens an object's content.
    pub fn open(&self, id: ObjectId) -> io::Result<File> {
        let (folder, name) = self.locate(id)?;
        folder.open_file(&name)
    }

    /// Hashes an object's content as it is on disk; its length beside it.
    pub fn rehash(&self, id: ObjectId) -> io::Result<(Hash, u64)> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.open(id)?)?;
        Ok((hasher.finalize().into(), hasher.count()))
    }
}
