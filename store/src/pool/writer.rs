//! Writing objects: read, hash, and keep only what the pool has not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use super::floor::Floor;
use super::{Hash, NewObject, ObjectId, Pool};
use crate::index::Index;
use crate::sys::dir::Dir;
use crate::sys::flock;
use crate::sys::read::fill;

/// Contents up to this size are hashed in memory before anything is written: what the pool has costs no file.
const BUFFERED: usize = 256 * 1024;
/// Unit in which zeros are left out of a file, the block of the common file systems.
const BLOCK: usize = 4096;

/// One reading of one layer into the pool.
///
/// Holds the lock of its folder, by which `gc` tells it from what a crash left. What it wrote is removed again when it
/// is dropped without [`Ingest::keep`].
#[derive(Debug)]
pub struct Ingest {
    number: u64,
    objects: Dir,
    folder: Dir,
    index: Index,
    new: Vec<NewObject>,
    by_hash: HashMap<Hash, ObjectId>,
    next: u64,
    buffer: Vec<u8>,
    floor: Floor,
    kept: bool,
}

impl Ingest {
    /// Starts ingest `number`, a fresh value of [`crate::index::Counter::Ingest`]; `index` is asked what the pool has.
    pub fn start(pool: &Pool, index: Index, number: u64) -> io::Result<Self> {
        let objects = pool.dir().try_clone()?;
        let name = format!("{number:x}").into_bytes();
        // After a power cut the counter may stand below numbers that are taken.
        match objects.make_dir(&name, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the number is taken"));
            }
            other => other?,
        }
        // A collector may take the new folder for a left-over in the instant before the lock.
        let collected = || io::Error::new(io::ErrorKind::Interrupted, "the folder was collected before it was locked");
        let folder = match objects.open_dir(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(collected()),
            other => other?,
        };
        if !flock::try_exclusive(&folder)? || !objects.exists(&name)? {
            return Err(collected());
        }
        Ok(Self {
            number,
            objects,
            folder,
            index,
            new: Vec::new(),
            by_hash: HashMap::new(),
            next: 0,
            buffer: vec![0; BUFFERED],
            floor: Floor::new(),
            kept: false,
        })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The objects that it wrote so far.
    pub fn new_objects(&self) -> &[NewObject] {
        &self.new
    }

    /// Stores a content unless the pool has it; returns its number and its length in bytes.
    ///
    /// # Errors
    /// Those of `content`, of the file system and of the index.
    pub fn put(&mut self, content: &mut dyn Read) -> io::Result<(ObjectId, u64)> {
        let filled = fill(content, &mut self.buffer)?;
        if filled < self.buffer.len() {
            let hash = blake3::hash(&self.buffer[..filled]).into();
            let size = filled as u64;
            if let Some(id) = self.find(&hash)? {
                return Ok((id, size));
            }
            self.floor.before(&self.folder, filled)?;
            let mut file = self.create()?;
            file.write_all(&self.buffer[..filled])?;
            return self.enter(&file, hash, size);
        }
        let mut file = self.create()?;
        let (hash, size) = self.write_large(&mut file, filled, content)?;
        if let Some(id) = self.find(&hash)? {
            self.folder.unlink(&self.next_name())?;
            return Ok((id, size));
        }
        self.enter(&file, hash, size)
    }

    fn write_large(&mut self, file: &mut File, mut filled: usize, content: &mut dyn Read) -> io::Result<(Hash, u64)> {
        let mut hasher = blake3::Hasher::new();
        while filled > 0 {
            let chunk = &self.buffer[..filled];
            self.floor.before(&self.folder, filled)?;
            hasher.update(chunk);
            write_sparse(file, chunk)?;
            filled = fill(content, &mut self.buffer)?;
        }
        // A hole at the end is not part of the file until its length says so.
        file.set_len(hasher.count())?;
        Ok((hasher.finalize().into(), hasher.count()))
    }

    /// Drops the new objects that others entered first, given as ours → theirs; their files are removed.
    pub fn yield_to(&mut self, theirs: &HashMap<ObjectId, ObjectId>) -> io::Result<()> {
        for ours in theirs.keys() {
            self.folder.unlink(format!("{:x}", ours.sequence()).as_bytes())?;
        }
        self.new.retain(|object| !theirs.contains_key(&object.id));
        Ok(())
    }

    /// Leaves the objects in the pool: the index knows them now.
    pub fn keep(mut self) -> io::Result<()> {
        self.kept = true;
        if self.new.is_empty() {
            self.objects.remove_dir(format!("{:x}", self.number).as_bytes())?;
        }
        Ok(())
    }

    fn find(&self, hash: &Hash) -> io::Result<Option<ObjectId>> {
        match self.by_hash.get(hash) {
            Some(id) => Ok(Some(*id)),
            None => self.index.find_object(hash).map_err(io::Error::other),
        }
    }

    fn next_name(&self) -> Vec<u8> {
        format!("{:x}", self.next).into_bytes()
    }

    fn create(&self) -> io::Result<File> {
        if self.next > ObjectId::LAST_SEQUENCE {
            return Err(io::Error::other("the layer has more distinct contents than one ingest can number"));
        }
        self.folder.create_new(&self.next_name(), 0o444)
    }

    fn enter(&mut self, file: &File, hash: Hash, size: u64) -> io::Result<(ObjectId, u64)> {
        let id = ObjectId::new(self.number, self.next);
        self.new.push(NewObject { id, hash, size, disk: file.metadata()?.blocks() * 512 });
        self.by_hash.insert(hash, id);
        self.next += 1;
        Ok((id, size))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is an orphan that the next gc takes.
            let _ = self.objects.remove_tree(format!("{:x}", self.number).as_bytes());
        }
    }
}

/// Writes all of `content` into an empty file, with holes for zeros; its length.
pub(super) fn write_sparse_from(content: &mut dyn Read, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFERED];
    let mut written = 0;
    loop {
        let filled = fill(content, &mut buffer)?;
        if filled == 0 {
            file.set_len(written)?;
            return Ok(written);
        }
        write_sparse(file, &buffer[..filled])?;
        written += filled as u64;
    }
}

/// Writes a chunk and leaves holes where whole blocks are zero. The chunk starts at a multiple of [`BLOCK`].
fn write_sparse(file: &mut File, chunk: &[u8]) -> io::Result<()> {
    let is_zero = |block: &[u8]| block.len() == BLOCK && block.iter().all(|&byte| byte == 0);
    let mut start = 0;
    while start < chunk.len() {
        let zeros = chunk[start..].chunks(BLOCK).take_while(|block| is_zero(block)).count() * BLOCK;
        if zeros > 0 {
            file.seek(SeekFrom::Current(i64::try_from(zeros).map_err(io::Error::other)?))?;
            start += zeros;
        }
        let data: usize = chunk[start..].chunks(BLOCK).take_while(|block| !is_zero(block)).map(<[u8]>::len).sum();
        file.write_all(&chunk[start..start + data])?;
        start += data;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Durability;
    use crate::pool::Packs;

    struct Fixture {
        _scratch: tempfile::TempDir,
        pool: Pool,
        path: std::path::PathBuf,
    }

    fn fixture() -> Fixture {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index.db");
        let root = Dir::open(scratch.path()).unwrap();
        let packs = Packs::new(root.ensure_dir(b"packs", 0o700).unwrap(), path.clone());
        let pool = Pool::new(root.ensure_dir(b"objects", 0o700).unwrap(), packs);
        Fixture { _scratch: scratch, pool, path }
    }

    fn ingest(fixture: &Fixture, number: u64) -> Ingest {
        let index = Index::open(&fixture.path, Durability::Consistent).unwrap();
        Ingest::start(&fixture.pool, index, number).unwrap()
    }

    #[test]
    fn equal_contents_become_one_object_whatever_their_size() {
        let fixture = fixture();
        let mut ingest = ingest(&fixture, 1);
        for size in [1, 4096, BUFFERED - 1, BUFFERED, BUFFERED + 1, 3 * BUFFERED] {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
            let (first, length) = ingest.put(&mut content.as_slice()).unwrap();
            let (second, _) = ingest.put(&mut content.as_slice()).unwrap();
            assert_eq!((first, length), (second, size as u64));
            let mut read = Vec::new();
            fixture.pool.open(first).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, content, "{size}");
        }
        assert_eq!(ingest.new_objects().len(), 6);
    }

    #[test]
    fn zeros_take_no_disk_and_read_back() {
        let fixture = fixture();
        let mut ingest = ingest(&fixture, 1);
        let mut content = vec![0; 8 << 20];
        content[5_000_000] = 7;
        let (id, _) = ingest.put(&mut content.as_slice()).unwrap();
        assert!(ingest.new_objects()[0].disk <= 64 * 1024, "{}", ingest.new_objects()[0].disk);
        assert_eq!(fixture.pool.rehash(id).unwrap(), (blake3::hash(&content).into(), content.len() as u64));
    }

    #[test]
    fn an_abandoned_ingest_leaves_nothing() {
        let fixture = fixture();
        let mut abandoned = ingest(&fixture, 1);
        abandoned.put(&mut b"content".as_slice()).unwrap();
        drop(abandoned);
        assert!(fixture.pool.dir().entries().unwrap().is_empty());
    }
}
