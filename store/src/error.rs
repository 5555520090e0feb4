//! What can go wrong in the store, each with what failed, on what, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::blob::BlobError;
use crate::digest::{Digest, ParseDigestError};
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;
use crate::registry::RegistryError;
use crate::tree::MergeError;

/// A failure of a store operation. Its `Display` is one line; the chain of sources holds no second telling of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the store's own files failed.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was tried, as a verb phrase: "create", "open".
        action: &'static str,
        /// What it was tried on, for the reader of the message only.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The index refused a statement.
    #[error("the store's index: {source}; `lstore fsck` tells whether it is damaged")]
    Index {
        /// SQLite's answer.
        #[from]
        source: rusqlite::Error,
    },
    /// The index was written by a newer version of this program.
    #[error("the store has schema {found}, this program knows {known}: use a newer lstore on it")]
    NewerSchema {
        /// `PRAGMA user_version` of the store.
        found: i64,
        /// The newest schema that this program reads.
        known: i64,
    },
    /// A full pool without its index: opening it as an empty store would lose it.
    #[error("{} holds objects but its index is missing: restore index.db, or move the folder away to start afresh", .0.display())]
    IndexMissing(PathBuf),
    /// A folder that has something in it which is no store's.
    #[error(
        "{} is no store, and not empty: nothing in it was touched; give a store, or a new or empty folder", .0.display()
    )]
    NotAStore(PathBuf),
    /// The files of the store are laid out by a newer version of this program.
    #[error("the store at {} has version {found}, this program knows {known}: use a newer lstore on it", path.display())]
    NewerStore {
        /// Where it is.
        path: PathBuf,
        /// What its marker says.
        found: u64,
        /// The newest that this program reads.
        known: u64,
    },
    /// A store's folder that others than its owner may write to.
    #[error(
        "others may write to {}, and could put files of theirs in place of the store's: `chmod go-w {}`, or give a \
         folder below it", .0.display(), .0.display()
    )]
    OpenToOthers(PathBuf),
    /// No store is at the given place, and the operation may not create one.
    #[error("there is no store at {}: `lstore pull` makes one", .0.display())]
    NoStore(PathBuf),
    /// The bundled SQLite is one whose WAL can lose commits.
    #[error("SQLite {0} can lose commits in WAL mode: build with 3.51.3 or newer")]
    UnsafeSqlite(&'static str),
    /// No image has this name, id or digest.
    #[error("{0}: image not known; `lstore pull {0}` fetches it, `lstore images` lists what is here")]
    ImageNotFound(String),
    /// An id prefix that several images share.
    #[error("{0} names several images: give more digits of the id")]
    ImageAmbiguous(String),
    /// Removing an image by id that several names hold, without force.
    #[error("image {id} is known by {names}: remove these names, or use --force")]
    ImageInUse {
        /// Short image id.
        id: String,
        /// The names, comma-separated.
        names: String,
    },
    /// Removing an image that something else than its names keeps.
    #[error("image {id} is in use by {keepers}: remove these first, or use --force, with which containers go too")]
    ImageKept {
        /// Short image id.
        id: String,
        /// What keeps it, comma-separated.
        keepers: String,
    },
    /// The file of a root is not what was written: what it keeps is not known.
    #[error("the root {} cannot be read: {reason}; remove the file if what it was made for is no more", path.display())]
    RootDamaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// A root that cannot be written in the form that roots have.
    #[error("{what:?} cannot be part of a root: {reason}")]
    RootForm {
        /// The name or the purpose.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Collectors took a checkout away again and again before it was leased.
    #[error("the checkout of {0} was collected each time it had been made: try again when `lstore gc` has ended")]
    CheckoutCollected(String),
    /// A layer that an image needs is not in the store.
    #[error("layer {0} is not in the store: pull the image again")]
    LayerMissing(Digest),
    /// The tar stream of a layer hashed to something else than the image's config says.
    #[error(
        "layer {blob}: its content is {found}, the image's config promises {promised}: the image is broken or was tampered with"
    )]
    DiffIdMismatch {
        /// Digest of the layer blob as named by the manifest.
        blob: Digest,
        /// The diff ID that the stream had.
        found: Digest,
        /// The diff ID in the config.
        promised: Digest,
    },
    /// A placement was asked for that this kernel or file system cannot do.
    #[error("placement {placement} cannot be used here: {reason}; `lstore info` lists what can")]
    PlacementUnavailable {
        /// Its name.
        placement: &'static str,
        /// Why not.
        reason: String,
    },
    /// A file's owner has no id in the user namespace.
    #[error(
        "{path}: owner {uid}:{gid} is outside of the mapped ids: give the user a larger range in /etc/subuid and /etc/subgid"
    )]
    OwnerUnmapped {
        /// Path in the image, escaped.
        path: String,
        /// Owner in the image.
        uid: u32,
        /// Group in the image.
        gid: u32,
    },
    /// A checkout's target is not an empty directory.
    #[error("{} is not empty: a checkout needs a new or empty directory", .0.display())]
    TargetNotEmpty(PathBuf),
    /// Set-id bits were to be kept by another than the host's root.
    #[error(
        "set-id bits can be kept by root alone: a program of yours that has one lends your rights to whoever can reach it"
    )]
    SetIdKept,
    /// The input of an import is none of the kinds that can be read.
    #[error("{what}: {reason}")]
    Import {
        /// File name or "standard input".
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Free space fell below the floor while a layer was read.
    #[error(
        "No space left on the file system of the store, but for what it needs to be worked with; `lstore gc` frees what no \
         image needs, `lstore du` shows what takes space"
    )]
    NoSpace,
    /// See [`ParseDigestError`].
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// See [`ReferenceError`].
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// See [`ManifestError`].
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// See [`RegistryError`].
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// See [`BlobError`].
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// See [`LayerError`].
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// See [`MergeError`].
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; `lstore gc` frees what no image needs, `lstore du` shows what takes space"
        }
        _ => "",
    }
}

/// Adds the action and the path to an error of a system call.
pub(crate) trait Context<T> {
    /// `action` is a verb phrase; `path` serves the message alone.
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.as_ref().to_path_buf(), source: error.into() })
    }
}
