//! A node: one inode variant of an object, named by a key over all that makes it differ from others.

use crate::layer::entry::Metadata;
use crate::pool::ObjectId;

/// Names one inode in `nodes/`: 16 bytes of BLAKE3 over placement, object, metadata and ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeKey(pub [u8; 16]);

impl NodeKey {
    /// `kind` keeps stubs apart from inodes with content. `ordinal` tells files of one tree apart that are alike and yet
    /// not hard links of each other in the image: each must be an inode of its own.
    pub fn new(kind: u8, object: ObjectId, metadata: &Metadata, size: u64, ordinal: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        for number in [object.0, size, metadata.mtime.seconds.cast_unsigned()] {
            hasher.update(&number.to_le_bytes());
        }
        for number in [metadata.mtime.nanoseconds, metadata.mode, metadata.uid, metadata.gid, ordinal] {
            hasher.update(&number.to_le_bytes());
        }
        for (name, value) in &metadata.xattrs {
            for bytes in [name, value] {
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }

    /// Folder and file name under `nodes/`: two and thirty hexadecimal digits.
    pub fn name(&self) -> (String, String) {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        let (folder, file) = digits.split_at(2);
        (folder.to_owned(), file.to_owned())
    }
}
