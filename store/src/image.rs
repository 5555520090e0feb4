//! Images by name: look-up, tags, removal.

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::images::{StoredImage, StoredReference};
use crate::index::{Index, images::StoredManifest};
use crate::manifest::ImageConfig;
use crate::reference::Reference;
use crate::store::Store;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its config, the image id.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its config as it came, byte for byte.
    pub config_bytes: Vec<u8>,
    /// Diff IDs of its layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Chain ID of its layers: names its merged tree.
    pub chain_id: String,
    /// Canonical names, in order.
    pub names: Vec<String>,
    /// Repository and manifest digest for each name that came from a registry: `docker.io/library/debian@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes of the regular files of its merged tree.
    pub logical: u64,
    /// Entries of its merged tree.
    pub files: u64,
    /// When it came, seconds since 1970.
    pub stored: i64,
    /// Diff IDs of the layers that the store does not have, lowest first: a power cut tore them, or they were damaged. With
    /// any, the image is incomplete; pulling or importing it again brings them.
    pub missing: Vec<Digest>,
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// Image that nothing names any more and that was forgotten.
    pub deleted: Option<String>,
}

/// Fewest digits by which an image can be named.
const SHORTEST_ID: usize = 3;

impl Store {
    /// All images, newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        let index = self.read_index()?;
        let images = index.images()?;
        let references = index.references()?;
        let assemble = |stored: StoredImage| {
            let (diff_ids, missing) = (index.diff_ids(&stored.id)?, index.missing_layers(&stored.id)?);
            Ok(Image { missing, ..Image::assemble(stored, diff_ids, &references)? })
        };
        images.into_iter().map(assemble).collect()
    }

    /// The image that a name, an id, the beginning of an id, or a digest stands for. Names win over ids, as podman has it.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::ImageAmbiguous`].
    pub fn image(&self, name: &str) -> Result<Image> {
        let index = self.read_index()?;
        let stored = look_up(&index, name)?.ok_or_else(|| Error::ImageNotFound(name.to_owned()))?;
        let (diff_ids, missing) = (index.diff_ids(&stored.id)?, index.missing_layers(&stored.id)?);
        Ok(Image { missing, ..Image::assemble(stored, diff_ids, &index.references()?)? })
    }

    /// The manifests by which an image came.
    pub fn manifests(&self, image: &Image) -> Result<Vec<StoredManifest>> {
        self.read_index()?.manifests(&image.id)
    }

    /// Gives an image a further name, taking it from whichever image had it.
    pub fn tag(&self, image: &Image, name: &Reference) -> Result<()> {
        self.index()?.set_reference(&name.to_string(), &image.id, None)
    }

    /// Takes a name away; with its last name, or by its id, the image is forgotten. What it alone used is freed by
    /// [`Store::collect`]; a container that runs from it keeps it whole until it ends.
    ///
    /// # Errors
    /// [`Error::ImageInUse`] for an id that several names hold, unless `force`.
    pub fn remove(&self, name: &str, force: bool) -> Result<Removed> {
        let image = self.image(name)?;
        let mut index = self.index()?;
        let by_name = Reference::parse(name).ok().map(|reference| reference.to_string());
        if let Some(name) = by_name.filter(|name| image.names.contains(name)) {
            index.delete_reference(&name)?;
            if image.names.len() > 1 {
                return Ok(Removed { untagged: vec![name], deleted: None });
            }
            index.delete_image(&image.id)?;
            return Ok(Removed { untagged: vec![name], deleted: Some(image.id.to_string()) });
        }
        if image.names.len() > 1 && !force {
            return Err(Error::ImageInUse { id: image.short_id(), names: image.names.join(", ") });
        }
        index.delete_image(&image.id)?;
        Ok(Removed { untagged: image.names, deleted: Some(image.id.to_string()) })
    }
}

impl Image {
    /// Puts together what the index keeps in several tables, for an image that has all its layers.
    pub(crate) fn assemble(stored: StoredImage, diff_ids: Vec<Digest>, references: &[StoredReference]) -> Result<Self> {
        let own = || references.iter().filter(|reference| reference.image == stored.id);
        let digests = own().filter_map(|reference| {
            let repository = Reference::parse(&reference.name).ok()?.repository_name();
            reference.manifest.as_ref().map(|digest| format!("{repository}@{digest}"))
        });
        let mut digests: Vec<String> = digests.collect();
        digests.dedup();
        Ok(Self {
            config: ImageConfig::parse(&stored.config)?,
            diff_ids,
            names: own().map(|reference| reference.name.clone()).collect(),
            digests,
            id: stored.id,
            config_bytes: stored.config,
            chain_id: stored.chain_id,
            logical: stored.logical,
            files: stored.files,
            stored: stored.stored,
            missing: Vec::new(),
        })
    }

    /// Whether the store has all its layers.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The first twelve digits of its id, as engines show it.
    pub fn short_id(&self) -> String {
        self.id.hex().chars().take(12).collect()
    }
}

fn look_up(index: &Index, name: &str) -> Result<Option<StoredImage>> {
    if let Ok(reference) = Reference::parse(name) {
        if let Some(image) = index.image_by_name(&reference.to_string())? {
            return Ok(Some(image));
        }
        // Built and imported images live under localhost/, where a short name finds them too.
        if let Some(local) = reference.on_localhost()
            && let Some(image) = index.image_by_name(&local.to_string())?
        {
            return Ok(Some(image));
        }
        if let Some(digest) = &reference.digest
            && let Some(image) = index.image_by_manifest(digest)?
        {
            return Ok(Some(image));
        }
    }
    if let Ok(digest) = name.parse::<Digest>() {
        let by_id = index.image(&digest)?;
        return if by_id.is_some() { Ok(by_id) } else { index.image_by_manifest(&digest) };
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    if digits.len() < SHORTEST_ID || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut found = index.images_by_prefix(digits)?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(Error::ImageAmbiguous(name.to_owned())),
    }
}
