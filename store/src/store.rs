//! The store: its folders, opened once; everything else hangs on it.
//!
//! ```text
//! lstore-store      makes the folder a store: see FORMAT.md
//! index.db          what the files mean
//! boot              since when trees/ and nodes/ may not be on disk
//! objects/N/K       file contents; N the ingest that wrote them
//! packs/N           contents that no checkout shows, compressed; its lock keeps objects files while a checkout is made
//! layers/N          layer records: from one, the exact tar can be written again
//! trees/N/root      checkouts, each beside its lease and the boot under which it was made
//! nodes/XX/…        inodes that checkouts share
//! locks/ sessions/  what is being fetched, what is running
//! roots/            what keeps images besides their names
//! starts/           what the index said of images that were started
//! ballast           disk that is set apart for when there is no other
//! tmp/              checkouts in the making, and what is being removed
//! containers/       left to the runner, as is volumes/
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::ballast;
use crate::checkout::{Owners, Placement, Support};
use crate::connection::{Connection, Idle};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::index::{Durability, Index};
use crate::layer::limits::Limits;
use crate::layer::record::RecordReader;
use crate::marker::{self, Folder};
use crate::pool::{Packs, Pool};
use crate::session::Session;
use crate::sys::dir::Dir;
use crate::sys::filesystem;
use crate::sys::flock::NamedLock;
use crate::sys::kernel;

/// File name of the index.
pub(crate) const INDEX: &str = "index.db";

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// The index, by a path without symbolic links: SQLite is to follow none, so that what it opens is in this folder.
    index_path: PathBuf,
    pub(crate) pool: Pool,
    pub(crate) layers: Dir,
    pub(crate) trees: Dir,
    pub(crate) nodes: Dir,
    pub(crate) locks: Dir,
    pub(crate) sessions: Dir,
    pub(crate) tmp: Dir,
    pub(crate) boot: String,
    durability: Durability,
    pub(crate) limits: Limits,
    pub(crate) idle: Idle,
    pub(crate) forgotten: Vec<Digest>,
}

impl Store {
    /// Opens the store at `path`, making it where there is nothing or an empty folder. Layers that an unclean boot left in
    /// doubt are hashed again before anything else.
    ///
    /// # Errors
    /// [`Error::NotAStore`] for a folder with other files in it, [`Error::OpenToOthers`], [`Error::IndexMissing`] for a pool
    /// without index, [`Error::NewerStore`], [`Error::NewerSchema`], or those of the file system.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        let found = marker::look(path)?;
        if found == Folder::Vacant {
            marker::make_folder(path).context("create the store at", path)?;
        }
        if found != Folder::Marked {
            let root = Dir::open(path).context("open the store at", path)?;
            refuse_open_to_others(&root, path)?;
            marker::write(&root, path)?;
        }
        let store = Self::open_for_writing(path, durability)?;
        store.keep_ballast()?;
        Ok(store)
    }

    /// Opens a store as [`Store::open`] does, but makes none: `None` where there is nothing or an empty folder.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn find_to_change(path: &Path, durability: Durability) -> Result<Option<Self>> {
        if is_there(path)? { Self::open(path, durability).map(Some) } else { Ok(None) }
    }

    /// The same for what only reads: a store that was made before there were markers gets none.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn find(path: &Path, durability: Durability) -> Result<Option<Self>> {
        if is_there(path)? { Self::open_for_writing(path, durability).map(Some) } else { Ok(None) }
    }

    fn open_for_writing(path: &Path, durability: Durability) -> Result<Self> {
        let mut store = Self::with_folders(path, durability, |root, name| root.ensure_dir(name, 0o700))?;
        {
            // Switching a fresh index to WAL cannot be waited for by SQLite's own means: the first processes take turns.
            let _first = store.lock("index")?;
            store.ensure_index_file()?;
            store.index()?;
        }
        store.forgotten = store.settle_after_boot()?;
        Ok(store)
    }

    /// Opens a store that exists; nothing is created in it.
    ///
    /// # Errors
    /// [`Error::NoStore`]; those of [`Store::open`].
    pub fn open_existing(path: &Path) -> Result<Self> {
        if !is_there(path)? {
            return Err(Error::NoStore(path.to_path_buf()));
        }
        Self::with_folders(path, Durability::Consistent, Dir::open_dir)
    }

    /// Makes the file of a new store's index, which the owner alone may read: SQLite would leave that to the umask.
    fn ensure_index_file(&self) -> Result<()> {
        let root = Dir::open(&self.path).context("open the store at", &self.path)?;
        if has_index(&root, &self.path)? {
            return Ok(());
        }
        if has_contents(&root, &self.path)? {
            return Err(Error::IndexMissing(self.path.clone()));
        }
        root.open_lock(INDEX.as_bytes()).map(drop).context("create the index of", &self.path)
    }

    fn with_folders(
        path: &Path,
        durability: Durability,
        folder: fn(&Dir, &[u8]) -> std::io::Result<Dir>,
    ) -> Result<Self> {
        let root = Dir::open(path).context("open the store at", path)?;
        refuse_open_to_others(&root, path)?;
        ballast::give_up(&root).context("give up the ballast of", path)?;
        let index_path = path.canonicalize().context("resolve", path)?.join(INDEX);
        let sub = |name: &str| folder(&root, name.as_bytes()).context("open", path.join(name));
        sub("containers")?;
        // A store of the first version has none.
        let packs = root.ensure_dir(b"packs", 0o700).context("open", path.join("packs"))?;
        Ok(Self {
            pool: Pool::new(sub("objects")?, Packs::new(packs, index_path.clone())),
            layers: sub("layers")?,
            trees: sub("trees")?,
            nodes: sub("nodes")?,
            locks: sub("locks")?,
            sessions: sub("sessions")?,
            tmp: sub("tmp")?,
            boot: kernel::boot_id().context("read", "/proc/sys/kernel/random/boot_id")?,
            durability,
            limits: Limits::default(),
            idle: Idle::default(),
            forgotten: Vec::new(),
            path: path.to_path_buf(),
            index_path,
        })
    }

    /// The same store, whose layers may be so much.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the store's file system, if it is one that several machines can have mounted: NFS and the like. One
    /// machine alone may use such a store, as locks on folders, and the index's shared memory, hold on the own machine only.
    ///
    /// # Errors
    /// Those of `statfs`.
    pub fn shared_file_system(&self) -> Result<Option<&'static str>> {
        filesystem::shared(self.pool.dir()).context("look at the file system of", &self.path)
    }

    /// Where the index is, by a path without symbolic links.
    pub(crate) fn index_path(&self) -> &Path {
        &self.index_path
    }

    /// A connection to the index that nobody else uses meanwhile.
    pub(crate) fn index(&self) -> Result<Connection<'_>> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.idle.lend(self.open_index()?)),
        }
    }

    /// Opens the index once more.
    pub(crate) fn open_index(&self) -> Result<Index> {
        Index::open(&self.index_path, self.durability)
    }

    /// A connection to the index for reading: one that is at hand, or one that could not write.
    pub(crate) fn read_index(&self) -> Result<Connection<'_>> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Ok(Connection::once(Index::open_read_only(&self.index_path)?)),
        }
    }

    /// Starts a session.
    pub(crate) fn session(&self) -> Result<Session> {
        let mut index = self.index()?;
        Session::start(&self.sessions, &mut index)
    }

    /// Waits for the lock on a thing that only one process at a time should make.
    pub(crate) fn lock(&self, name: &str) -> Result<NamedLock> {
        NamedLock::acquire(&self.locks, name.as_bytes()).context("lock", self.path.join("locks").join(name))
    }

    /// The boot to write beside what is not known to be on disk.
    pub(crate) fn unsettled_boot(&self) -> Option<&str> {
        (self.durability == Durability::Consistent).then_some(self.boot.as_str())
    }

    /// Waits until all that was written to the store's file system is on disk, where `--sync` asked for it.
    pub(crate) fn settle(&self) -> Result<()> {
        if self.durability == Durability::Synced {
            rustix::fs::syncfs(self.pool.dir()).context("sync", &self.path)?;
        }
        Ok(())
    }

    /// A nameless file in the store's own file system, gone when closed; for input that must be read twice.
    pub fn scratch_file(&self) -> Result<std::fs::File> {
        self.tmp.nameless().context("create a file in", self.path.join("tmp"))
    }

    /// Opens a layer's record.
    pub(crate) fn record(&self, layer: u64) -> Result<RecordReader<std::fs::File>> {
        let name = format!("{layer:x}");
        let file = self.layers.open_file(name.as_bytes()).context("open", self.path.join("layers").join(&name))?;
        Ok(RecordReader::new(file)?)
    }

    /// Tries what this kernel and file system can do.
    pub fn support(&self) -> Result<Support> {
        let scratch = Scratch::new(self)?;
        Support::probe(&scratch.dir).context("probe", &self.path)
    }

    /// The placement to use: the forced one, or the best that works here.
    pub fn placement(&self, forced: Option<Placement>) -> Result<Placement> {
        Placement::choose(&self.support()?, forced)
    }

    /// Whose files can be in a checkout.
    pub fn owners(&self) -> Result<Owners> {
        Owners::of_this_process().context("read", "/proc/self/uid_map")
    }
}

/// Whether there is a store at `path`; one that is only just being made, or that its maker was killed in, is none yet.
fn is_there(path: &Path) -> Result<bool> {
    if marker::look(path)? == Folder::Vacant {
        return Ok(false);
    }
    let root = Dir::open(path).context("open the store at", path)?;
    if has_index(&root, path)? {
        return Ok(true);
    }
    if has_contents(&root, path)? { Err(Error::IndexMissing(path.to_path_buf())) } else { Ok(false) }
}

/// Whether the index has been written to: its file is made empty.
fn has_index(root: &Dir, path: &Path) -> Result<bool> {
    match root.stat(INDEX.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => Ok(other.context("look at the index of", path)?.st_size > 0),
    }
}

/// Whether something is in the pool, in packs or as a record: what an index was there for.
fn has_contents(root: &Dir, path: &Path) -> Result<bool> {
    for name in ["objects", "packs", "layers"] {
        let folder = match root.open_dir(name.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.context("open", path.join(name))?,
        };
        if !folder.entries().context("list", path.join(name))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A folder that others may write to is no place for a store. Its mode is its owner's to change.
fn refuse_open_to_others(root: &Dir, path: &Path) -> Result<()> {
    let mode = root.stat_self().context("look at", path)?.st_mode;
    if mode & 0o022 == 0 { Ok(()) } else { Err(Error::OpenToOthers(path.to_path_buf())) }
}

/// A folder in `tmp/` that is locked while it is in use, and removed with this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) dir: Dir,
    pub(crate) number: u64,
    tmp: Dir,
}

impl Scratch {
    pub(crate) fn new(store: &Store) -> Result<Self> {
        loop {
            let number = store.next_tree()?;
            let name = number.to_string().into_bytes();
            let path = || store.path.join("tmp");
            let dir = match store.tmp.make_dir(&name, 0o700).and_then(|()| store.tmp.open_dir(&name)) {
                // A collector took the folder for a left-over in the instant before it was opened.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => continue,
                other => other.context("create", path())?,
            };
            let ours = crate::sys::flock::try_exclusive(&dir).context("lock", path())?;
            if ours && store.tmp.exists(&name).context("look into", path())? {
                return Ok(Self { dir, number, tmp: store.tmp.try_clone().context("open", path())? });
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next gc.
        let _ = self.tmp.remove_tree(self.number.to_string().as_bytes());
    }
}

/// Removes a folder with all that is in it, following nothing; folders without permissions are made passable.
///
/// # Errors
/// Those of the file system; a folder that is not there is none.
pub fn remove_tree(path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = Dir::open(parent).context("open", parent)?;
    parent.remove_tree(name.as_bytes()).context("remove", path)
}
