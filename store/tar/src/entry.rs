//! What a layer adds: an entry, with all the metadata that a file system can keep of it.

use std::collections::BTreeMap;

use crate::path::EntryPath;

/// A point in time, as `timespec(3type)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after these, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Metadata of an inode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: 0o7777.
    pub mode: u32,
    /// Owner inside the image.
    pub uid: u32,
    /// Group inside the image.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What kind of file an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes, holes included.
    Regular {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link, its target as it stands.
    Symlink {
        /// Any bytes but NUL.
        target: Vec<u8>,
    },
    /// A further name of an earlier entry.
    Hardlink {
        /// That entry.
        target: EntryPath,
    },
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

/// One member of a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Its metadata; that of a hard link is its target's, whatever stands here.
    pub metadata: Metadata,
}
