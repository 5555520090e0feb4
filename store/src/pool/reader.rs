//! Reading objects.

use std::fs::File;
use std::io;

use super::{Hash, ObjectId, Packs};
use crate::sys::dir::Dir;

/// How often an object is looked for that is neither file nor packed: it may move from one to the other meanwhile.
const ATTEMPTS: u32 = 5;

/// The folders of objects and of packs, held open.
#[derive(Debug)]
pub struct Pool {
    objects: Dir,
    packs: Packs,
}

impl Pool {
    /// `objects` is the store's `objects/`.
    pub fn new(objects: Dir, packs: Packs) -> Self {
        Self { objects, packs }
    }

    /// The packs beside the objects.
    pub fn packs(&self) -> &Packs {
        &self.packs
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

    /// Opens an object's content, be it a file or packed.
    pub fn open(&self, id: ObjectId) -> io::Result<File> {
        for _ in 0..ATTEMPTS {
            match self.locate(id).and_then(|(folder, name)| folder.open_file(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
            if let Some(file) = self.packs.open(id)? {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Hashes an object's content as it is on disk; its length beside it.
    pub fn rehash(&self, id: ObjectId) -> io::Result<(Hash, u64)> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.open(id)?)?;
        Ok((hasher.finalize().into(), hasher.count()))
    }
}
