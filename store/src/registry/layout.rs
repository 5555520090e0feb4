//! An OCI image layout (OCI image specification, "Image Layout"): a folder on disk, or the same in an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;

use super::confined::Confined;
use super::tar_index::TarIndex;
use super::{RawManifest, Registry, RegistryError};
use crate::blob::BlobStream;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document};
use crate::reference::Reference;

/// Annotation that names an image of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation in which containerd and docker put the whole name.
const FULL_NAME: &str = "io.containerd.image.name";
/// Largest index or manifest.
const LARGEST_JSON: u64 = 8 << 20;
/// Bytes of a blob that are read at once.
const CHUNK: usize = 256 * 1024;

/// Where the files of a layout are.
#[derive(Debug)]
pub(super) enum Files {
    /// In a folder.
    Folder(Confined),
    /// In a tar.
    Tar(TarIndex),
}

impl Files {
    /// Opens a file, or the part of the archive that holds it, at its beginning; its length beside it.
    pub(super) fn open(&self, path: &str) -> io::Result<(File, u64)> {
        match self {
            Self::Folder(folder) => {
                let file = folder.file(path)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            }
            Self::Tar(index) => index.open(path),
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, RegistryError> {
        let read = || -> io::Result<Vec<u8>> {
            let (file, length) = self.open(path)?;
            if length > LARGEST_JSON {
                return Err(io::Error::other("too large"));
            }
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| RegistryError::Read { what: path.to_owned(), source })
    }

    /// Streams a file's bytes from `offset` on.
    pub(super) fn stream(&self, path: &str, offset: u64) -> Result<BlobStream, RegistryError> {
        let read = |source| RegistryError::Read { what: path.to_owned(), source };
        let (mut file, length) = self.open(path).map_err(read)?;
        let begin = offset.min(length);
        file.seek(SeekFrom::Current(begin.cast_signed())).map_err(read)?;
        let chunks = stream::unfold((file, length - begin), |(mut file, left)| async move {
            let size = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            if size == 0 {
                return None;
            }
            let mut chunk = vec![0; size];
            // A local file: the runtime's thread waits for the page cache at most.
            match file.read(&mut chunk) {
                Ok(0) => None,
                Ok(count) => {
                    chunk.truncate(count);
                    Some((Ok(Bytes::from(chunk)), (file, left - count as u64)))
                }
                Err(error) => Some((Err(error), (file, 0))),
            }
        });
        Ok(BlobStream::new(begin, chunks.boxed()))
    }
}

/// A layout.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Opens a layout folder.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let folder =
            Confined::open(path).map_err(|source| RegistryError::Read { what: path.display().to_string(), source })?;
        Self::new(Files::Folder(folder))
    }

    pub(super) fn new(files: Files) -> Result<Self, RegistryError> {
        let marker: serde_json::Value = serde_json::from_slice(&files.read("oci-layout")?).unwrap_or_default();
        if marker["imageLayoutVersion"].as_str().is_none_or(|version| !version.starts_with("1.")) {
            return Err(malformed("oci-layout", "no image layout of version 1"));
        }
        match Document::parse(&files.read("index.json")?, "application/vnd.oci.image.index.v1+json")? {
            Document::Index(index) => Ok(Self { files, manifests: index.manifests }),
            Document::Manifest(_) => Err(malformed("index.json", "a manifest where an index belongs")),
        }
    }

    /// The names of its images, where it has any.
    pub fn names(&self) -> Vec<String> {
        self.manifests.iter().filter_map(name).map(str::to_owned).collect()
    }

    /// The image of a name; without a match, the only one there is.
    fn choose(&self, reference: &Reference) -> Result<&Descriptor, RegistryError> {
        let wanted = [reference.to_string(), reference.familiar(), reference.tag.clone().unwrap_or_default()];
        let named =
            self.manifests.iter().find(|manifest| name(manifest).is_some_and(|name| wanted.iter().any(|w| w == name)));
        match (named, self.manifests.as_slice()) {
            (Some(named), _) => Ok(named),
            (None, [only]) => Ok(only),
            (None, []) => Err(malformed("index.json", "no image in it")),
            (None, _) => Err(RegistryError::Several(self.names().join(", "))),
        }
    }
}

fn name(manifest: &Descriptor) -> Option<&str> {
    let annotations = manifest.annotations.as_ref()?;
    annotations.get(FULL_NAME).or_else(|| annotations.get(REF_NAME)).map(String::as_str)
}

fn malformed(what: &str, problem: &str) -> RegistryError {
    RegistryError::Malformed { what: what.to_owned(), problem: problem.to_owned() }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Registry for Layout {
    async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        let chosen = self.choose(reference)?;
        self.manifest_by_digest(reference, &chosen.digest).await
    }

    async fn manifest_by_digest(&self, _: &Reference, digest: &Digest) -> Result<RawManifest, RegistryError> {
        let bytes = self.files.read(&blob_path(digest))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(RegistryError::WrongManifest { wanted: *digest, found });
        }
        let stated: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let media_type = stated["mediaType"].as_str().unwrap_or_default().to_owned();
        Ok(RawManifest { bytes, media_type, digest: found })
    }

    async fn blob(&self, _: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
        self.files.stream(&blob_path(&blob.digest), offset)
    }
}
