//! The layers of an image merged, in memory: inodes and the names that lead to them.

mod merge;

use std::collections::BTreeMap;

pub use merge::MergeError;

use crate::checkout::IdShift;
use crate::layer::entry::Metadata;
use crate::layer::limits::Limits;
use crate::pool::ObjectId;

/// Number of an inode within its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

/// Names in a directory, in order of their bytes.
pub type Names = BTreeMap<Box<[u8]>, InodeId>;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InodeKind {
    /// A directory.
    Directory(Names),
    /// A regular file.
    Regular {
        /// Its content; none where it is empty.
        object: Option<ObjectId>,
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One file of the merged image, whatever number of names it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its metadata.
    pub metadata: Metadata,
    /// What it is.
    pub kind: InodeKind,
    /// Names that lead to it; 0 for one that a later layer removed.
    pub links: u32,
}

/// A merged tree.
#[derive(Debug, Clone)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// Bytes of metadata that the layers brought, as [`Limits`] counts them, and how many they may.
    metadata_bytes: u64,
    most_metadata: u64,
    /// Steps within symbolic links that the paths of the layer which is being applied took, and how many they may.
    link_steps: u64,
    most_link_steps: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The root directory's inode.
    pub const ROOT: InodeId = InodeId(0);

    /// A tree of nothing but its root, 0755 and root's.
    pub fn new() -> Self {
        Self::within(Limits::default().metadata)
    }

    /// The same, to which layers may bring so many bytes of metadata, see [`Limits`].
    pub fn within(most_metadata: u64) -> Self {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        let inodes = vec![Inode { metadata, kind: InodeKind::Directory(Names::new()), links: 1 }];
        Self { inodes, metadata_bytes: 0, most_metadata, link_steps: 0, most_link_steps: 0 }
    }

    /// Moves all owners.
    pub fn shift(&mut self, shift: IdShift) {
        for inode in &mut self.inodes {
            shift.apply(&mut inode.metadata);
        }
    }

    /// All inodes that have a name, to change them.
    pub(crate) fn inodes_mut(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.inodes.iter_mut().filter(|inode| inode.links > 0)
    }

    /// An inode. The id must be one of this tree.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    /// All inodes that have a name, the root first.
    pub fn inodes(&self) -> impl Iterator<Item = (InodeId, &Inode)> {
        // Every number was handed out as an id, so each has one: see `new_inode`.
        let numbered = (0_u32..).map(InodeId).zip(&self.inodes);
        numbered.filter(|(_, inode)| inode.links > 0)
    }

    /// The names in a directory with their inodes, in order; none for what is no directory.
    pub fn children(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let names = match &self.inode(id).kind {
            InodeKind::Directory(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten().map(|(name, id)| (&**name, *id))
    }

    /// Number of names, the root's included.
    pub fn len(&self) -> usize {
        self.inodes().map(|(_, inode)| inode.links as usize).sum()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// Bytes of all regular files, each inode once.
    pub fn logical_bytes(&self) -> u64 {
        self.inodes().map(|(_, inode)| if let InodeKind::Regular { size, .. } = inode.kind { size } else { 0 }).sum()
    }
}
