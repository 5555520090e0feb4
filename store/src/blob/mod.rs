//! Blobs: the bytes that a descriptor names, on their way from a source to a layer.

pub mod decompress;
mod fetch;

use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

pub use fetch::BlobReader;

use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::registry::RegistryError;

/// Largest config that is taken into memory; the registries' own bound on manifests is half of it.
const LARGEST_CONFIG: u64 = 8 << 20;

/// A blob that is not what its descriptor promises.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Another content.
    #[error("blob {wanted}: what came has the digest {found}; it was tampered with, or the source is broken")]
    Digest {
        /// Promised.
        wanted: Digest,
        /// Computed.
        found: Digest,
    },
    /// Another length.
    #[error("blob {digest}: {found} bytes came instead of {wanted}; it was cut short, or the source is broken")]
    Size {
        /// Promised.
        digest: Digest,
        /// Bytes that were promised.
        wanted: u64,
        /// Bytes that came; at most one more than promised.
        found: u64,
    },
    /// Too large to be what it should be.
    #[error("blob {digest}: {size} bytes are too much for an image config")]
    TooLarge {
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// The transfer broke off, again and again.
    #[error("blob {digest}: {source}")]
    Transfer {
        /// Its digest.
        digest: Digest,
        /// The last cause.
        source: io::Error,
    },
    /// The source refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A compression that is not known, or not the one that was declared.
    #[error("layer {digest}: {problem}")]
    Compression {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
}

/// Bytes of a blob as a source gives them, unverified.
pub struct BlobStream {
    /// Where in the blob they begin.
    pub offset: u64,
    bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BlobStream").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl BlobStream {
    /// A stream of bytes that begins at `offset` of the blob.
    pub fn new(offset: u64, bytes: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self { offset, bytes }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.bytes.next().await
    }

    /// Takes all of a small blob, an image config, and verifies it.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn into_bytes(mut self, descriptor: &Descriptor) -> Result<Vec<u8>, BlobError> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        if size > LARGEST_CONFIG {
            return Err(BlobError::TooLarge { digest, size });
        }
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk.map_err(|source| BlobError::Transfer { digest, source })?);
            if all.len() as u64 > size {
                break;
            }
        }
        if all.len() as u64 != size {
            return Err(BlobError::Size { digest, wanted: size, found: all.len() as u64 });
        }
        let mut hasher = Hasher::new();
        hasher.update(&all);
        match hasher.finish() {
            found if found == digest => Ok(all),
            found => Err(BlobError::Digest { wanted: digest, found }),
        }
    }
}
