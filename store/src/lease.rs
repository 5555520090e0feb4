//! Proof that a checkout is in use: a shared lock that the kernel releases when its holder dies.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::fstat;

use crate::checkout::{Lost, Placement};
use crate::error::{Context, Result};
use crate::index::trees::StoredTree;
use crate::sys::dir::Dir;
use crate::sys::flock;

/// File beside a checkout's root whose lock is the lease.
pub(crate) const LEASE: &[u8] = b"lease";
/// The checkout itself, beside its lease.
pub(crate) const ROOT: &[u8] = b"root";

/// A checkout on disk, kept from collection for as long as this value, or a descriptor made by
/// [`Checkout::into_lease`], lives.
#[derive(Debug)]
pub struct Checkout {
    /// Names its folder in `trees/`.
    pub id: u64,
    /// How it was made.
    pub placement: Placement,
    /// What it lacks.
    pub lost: Lost,
    folder: Dir,
    data: Option<Dir>,
    lease: File,
}

impl Checkout {
    /// Takes the lease of a checkout; waits for a collector that looks whether it is used. `None`: it has been collected.
    pub(crate) fn lease(trees: &Dir, objects: &Dir, tree: &StoredTree) -> Result<Option<Self>> {
        let name = tree.id.to_string();
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let folder = match trees.open_dir(name.as_bytes()) {
            Err(error) if gone(&error) => return Ok(None),
            other => other.context("open", &name)?,
        };
        let lease = match folder.open_file(LEASE) {
            Err(error) if gone(&error) => return Ok(None),
            other => other.context("open the lease of", &name)?,
        };
        flock::shared(&lease).context("lock", &name)?;
        // A collector that was faster has moved the folder away before it let go of the lock.
        let still =
            trees.stat(name.as_bytes()).is_ok_and(|now| fstat(&folder).is_ok_and(|ours| ours.st_ino == now.st_ino));
        if !still {
            return Ok(None);
        }
        let data = match tree.placement {
            Placement::Stub => Some(objects.try_clone().context("open", "objects")?),
            _ => None,
        };
        let lost = serde_json::from_str(&tree.lost).map_err(io::Error::from).context("read what is lost of", &name)?;
        Ok(Some(Self { id: tree.id, placement: tree.placement, lost, folder, data, lease }))
    }

    /// Opens the checkout's root, the lowest layer of a container's overlay: for those whose it is, or who may look into what
    /// is closed to others.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn root(&self) -> io::Result<Dir> {
        self.folder.open_dir(ROOT)
    }

    /// The data-only layer below it, for stubs.
    pub fn data(&self) -> Option<&Dir> {
        self.data.as_ref()
    }

    /// The lease as a descriptor that may be handed to another process: it holds until its last copy is closed.
    pub fn into_lease(self) -> OwnedFd {
        self.lease.into()
    }
}
