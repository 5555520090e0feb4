//! Images in a tar: what `docker save` writes (docker-archive), and an OCI layout packed up (oci-archive).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use serde::Deserialize;
use serde_json::json;

use super::layout::{Files, Layout};
use super::tar_index::TarIndex;
use super::{RawManifest, Registry, RegistryError};
use crate::blob::BlobStream;
use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;
use crate::reference::Reference;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a tar holds.
#[derive(Debug)]
pub enum Kind {
    /// Images.
    Images(Archive),
    /// Something else: a root file system, as far as can be told.
    RootFilesystem,
}

/// Images in a tar.
#[derive(Debug)]
pub enum Archive {
    /// An OCI layout.
    Oci(Layout),
    /// What docker saved.
    Docker(DockerArchive),
}

/// What docker saved: its images, with manifests in the form of a registry.
#[derive(Debug)]
pub struct DockerArchive {
    files: Files,
    images: Vec<Saved>,
    blobs: HashMap<Digest, String>,
}

#[derive(Debug)]
struct Saved {
    names: Vec<String>,
    manifest: RawManifest,
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Looks into an uncompressed, seekable tar.
    ///
    /// # Errors
    /// A broken tar, or images that are malformed.
    pub fn detect(file: File) -> Result<Kind, RegistryError> {
        let index = TarIndex::read(file)
            .map_err(|error| RegistryError::Malformed { what: "archive".to_owned(), problem: error.to_string() })?;
        if index.has("oci-layout") && index.has("index.json") {
            return Ok(Kind::Images(Self::Oci(Layout::new(Files::Tar(index))?)));
        }
        if index.has("manifest.json") {
            return Ok(Kind::Images(Self::Docker(DockerArchive::new(Files::Tar(index))?)));
        }
        Ok(Kind::RootFilesystem)
    }

    /// The names of its images.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Oci(layout) => layout.names(),
            Self::Docker(docker) => docker.images.iter().flat_map(|image| image.names.clone()).collect(),
        }
    }
}

impl DockerArchive {
    fn new(files: Files) -> Result<Self, RegistryError> {
        let malformed = |what: &str, problem: String| RegistryError::Malformed { what: what.to_owned(), problem };
        let entries: Vec<Entry> = serde_json::from_slice(&files.read("manifest.json")?)
            .map_err(|error| malformed("manifest.json", error.to_string()))?;
        let mut archive = Self { files, images: Vec::new(), blobs: HashMap::new() };
        for entry in entries {
            let config = archive.add(&entry.config, OCI_CONFIG)?;
            let layers =
                entry.layers.iter().map(|layer| archive.add(layer, OCI_LAYER)).collect::<Result<Vec<_>, _>>()?;
            let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers });
            let bytes = manifest.to_string().into_bytes();
            let digest = Digest::of(&bytes);
            let manifest = RawManifest { bytes, media_type: OCI_MANIFEST.to_owned(), digest };
            archive.images.push(Saved { names: entry.repo_tags.unwrap_or_default(), manifest });
        }
        Ok(archive)
    }

    /// Hashes a member, so that it can be asked for as a blob. Layers may be compressed as they like.
    fn add(&mut self, path: &str, media_type: &str) -> Result<serde_json::Value, RegistryError> {
        let read = |source| RegistryError::Read { what: path.to_owned(), source };
        let (file, size) = self.files.open(path).map_err(read)?;
        let mut input = file.take(size);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut first = [0; 4];
        let mut is_first = true;
        loop {
            let count = crate::sys::read::fill(&mut input, &mut buffer).map_err(read)?;
            if is_first && count >= first.len() {
                first.copy_from_slice(&buffer[..4]);
            }
            is_first = false;
            hasher.update(&buffer[..count]);
            if count < buffer.len() {
                break;
            }
        }
        let digest = hasher.finish();
        self.blobs.insert(digest, path.to_owned());
        let suffix = match first {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
            _ => "",
        };
        let media_type = if media_type == OCI_LAYER { format!("{media_type}{suffix}") } else { media_type.to_owned() };
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": size }))
    }

    fn choose(&self, reference: &Reference) -> Result<&RawManifest, RegistryError> {
        let is_named =
            |image: &&Saved| image.names.iter().any(|name| Reference::parse(name).is_ok_and(|name| name == *reference));
        match (self.images.iter().find(is_named), self.images.as_slice()) {
            (Some(image), _) => Ok(&image.manifest),
            (None, [only]) => Ok(&only.manifest),
            (None, images) => {
                let names: Vec<&str> = images.iter().flat_map(|image| image.names.iter().map(String::as_str)).collect();
                Err(RegistryError::Several(names.join(", ")))
            }
        }
    }
}

impl Registry for Archive {
    async fn manifest(&self, reference: &Reference) -> Result<RawManifest, RegistryError> {
        match self {
            Self::Oci(layout) => layout.manifest(reference).await,
            Self::Docker(docker) => docker.choose(reference).cloned(),
        }
    }

    async fn manifest_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<RawManifest, RegistryError> {
        match self {
            Self::Oci(layout) => layout.manifest_by_digest(reference, digest).await,
            Self::Docker(docker) => {
                let found =
                    docker.images.iter().map(|image| &image.manifest).find(|manifest| manifest.digest == *digest);
                found.cloned().ok_or_else(|| RegistryError::Malformed {
                    what: digest.to_string(),
                    problem: "no such manifest in the archive".to_owned(),
                })
            }
        }
    }

    async fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobStream, RegistryError> {
        match self {
            Self::Oci(layout) => layout.blob(reference, blob, offset).await,
            Self::Docker(docker) => match docker.blobs.get(&blob.digest) {
                Some(path) => docker.files.stream(path, offset),
                None => Err(RegistryError::Malformed {
                    what: blob.digest.to_string(),
                    problem: "no such blob in the archive".to_owned(),
                }),
            },
        }
    }
}
