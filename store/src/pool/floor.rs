//! A layer is read no further when its file system is nearly full: the rest is for what frees some of it.

use std::io;

use crate::ballast::{FLOOR, free};
use crate::sys::dir::Dir;

/// Bytes after which the file system is asked again.
const STEP: u64 = 1 << 20;
/// What a file takes besides its bytes, at most: the rest of its last block.
const FILE: u64 = 4096;

/// Watches over the free space while an ingest writes.
#[derive(Debug)]
pub(super) struct Floor {
    written: u64,
}

impl Floor {
    /// Asks at the first write.
    pub(super) fn new() -> Self {
        Self { written: STEP }
    }

    /// To be called before so many bytes are written to a file below `folder`.
    ///
    /// # Errors
    /// `StorageFull`, with less free than is to stay so.
    pub(super) fn before(&mut self, folder: &Dir, bytes: usize) -> io::Result<()> {
        self.written += bytes as u64 + FILE;
        if self.written < STEP {
            return Ok(());
        }
        self.written = 0;
        if free(folder)? < FLOOR {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}
