//! The store: its folders, opened once; everything else hangs on it.
//!
//! ```text
//! index.db          what the files mean
//! objects/N/K       file contents; N the ingest that wrote them
//! packs/N           contents that no checkout shows, compressed; its lock keeps objects files while a checkout is made
//! layers/N          layer records: from one, the exact tar can be written again
//! trees/N/root      checkouts, each beside its lease
//! nodes/XX/…        inodes that checkouts share
//! locks/ sessions/  what is being fetched, what is running
//! roots/            what keeps images besides their names
//! starts/           what the index said of images that were started
//! tmp/              checkouts in the making, and what is being removed
//! containers/       left to the runner, as is volumes/
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::checkout::{Owners, Placement, Support};
use crate::connection::{Connection, Idle};
use crate::error::{Context, Error, Result};
use crate::index::{Counter, Durability, Index};
use crate::layer::limits::Limits;
use crate::layer::record::RecordReader;
use crate::pool::{Packs, Pool};
use crate::session::Session;
use crate::sys::dir::Dir;
use crate::sys::flock::NamedLock;
use crate::sys::kernel;

/// File name of the index.
pub(crate) const INDEX: &str = "index.db";

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
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
}

impl Store {
    /// Opens the store at `path`, making it where it is missing. Layers that an unclean boot left in doubt are
    /// hashed again before anything else.
    ///
    /// # Errors
    /// [`Error::IndexMissing`] for a pool without index, [`Error::NewerSchema`], or those of the file system.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        std::fs::create_dir_all(path).context("create the store at", path)?;
        let store = Self::with_folders(path, durability, |root, name| root.ensure_dir(name, 0o700))?;
        let objects = store.pool.dir().entries().context("list", path.join("objects"))?;
        if !path.join(INDEX).exists() && !objects.is_empty() {
            return Err(Error::IndexMissing(path.to_path_buf()));
        }
        {
            // Switching a fresh index to WAL cannot be waited for by SQLite's own means: the first processes take turns.
            let _first = store.lock("index")?;
            store.index()?;
        }
        store.settle_after_boot()?;
        Ok(store)
    }

    /// Opens a store that exists; nothing is created in it.
    ///
    /// # Errors
    /// [`Error::NoStore`].
    pub fn open_existing(path: &Path) -> Result<Self> {
        if !path.join(INDEX).exists() {
            return Err(Error::NoStore(path.to_path_buf()));
        }
        Self::with_folders(path, Durability::Consistent, Dir::open_dir)
    }

    fn with_folders(
        path: &Path,
        durability: Durability,
        folder: fn(&Dir, &[u8]) -> std::io::Result<Dir>,
    ) -> Result<Self> {
        let root = Dir::open(path).context("open the store at", path)?;
        // Private as a whole: a setuid file in it would lend its owner's identity to every other user.
        if std::fs::metadata(path).context("look at", path)?.mode() & 0o077 != 0 {
            let mode = rustix::fs::Mode::from_raw_mode(0o700);
            rustix::fs::fchmod(&root, mode).context("make private", path)?;
        }
        let sub = |name: &str| folder(&root, name.as_bytes()).context("open", path.join(name));
        sub("containers")?;
        // A store of the first version has none.
        let packs = root.ensure_dir(b"packs", 0o700).context("open", path.join("packs"))?;
        Ok(Self {
            pool: Pool::new(sub("objects")?, Packs::new(packs, path.join(INDEX))),
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
            path: path.to_path_buf(),
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

    /// A connection to the index that nobody else uses meanwhile.
    pub(crate) fn index(&self) -> Result<Connection<'_>> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.idle.lend(self.open_index()?)),
        }
    }

    /// Opens the index once more.
    pub(crate) fn open_index(&self) -> Result<Index> {
        Index::open(&self.path.join(INDEX), self.durability)
    }

    /// A connection to the index for reading: one that is at hand, or one that could not write.
    pub(crate) fn read_index(&self) -> Result<Connection<'_>> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Ok(Connection::once(Index::open_read_only(&self.path.join(INDEX))?)),
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
            let number = store.index()?.next(Counter::Tree)?;
            let name = number.to_string().into_bytes();
            let path = || store.path.join("tmp");
            let dir = match store.tmp.ensure_dir(&name, 0o700) {
                // A collector took the folder for a left-over in the instant before it was opened.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
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
