//! Where images come from: one trait, and behind it a registry over the network, a layout on disk, or an archive.

pub mod archive;
pub mod auth;
mod confined;
mod error;
pub mod layout;
mod reach;
pub mod remote;
mod tar_index;

use std::future::Future;

pub use archive::{Archive, Kind};
pub use auth::Credentials;
pub use error::RegistryError;
pub use layout::Layout;
pub use remote::{Exceptions, LookUp, MinimumRate, Proxies, Proxy, ProxyError, Remote, RemoteOptions};

use crate::blob::BlobStream;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// A manifest as it came: what is kept, so that its digest can be checked again.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the source says that they are.
    pub media_type: String,
    /// SHA-256 of the bytes, always computed here.
    pub digest: Digest,
}

/// A source of images.
pub trait Registry {
    /// The manifest or index that a reference names. For a reference by digest, exactly the one of that digest.
    ///
    /// # Errors
    /// What the source answers, or bytes of another digest.
    fn manifest(&self, reference: &Reference) -> impl Future<Output = Result<RawManifest, RegistryError>> + Send;

    /// The manifest of a digest, as an index names it.
    ///
    /// # Errors
    /// As for [`Registry::manifest`].
    fn manifest_by_digest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> impl Future<Output = Result<RawManifest, RegistryError>> + Send;

    /// The bytes of a blob from `offset` on. A source that cannot begin there begins at 0 and says so in
    /// [`BlobStream::offset`]. Nothing is verified yet.
    ///
    /// # Errors
    /// What the source answers.
    fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> impl Future<Output = Result<BlobStream, RegistryError>> + Send;
}
