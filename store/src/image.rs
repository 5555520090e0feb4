//! Images by name: look-up, tags, removal.

use std::collections::HashMap;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::images::{StoredImage, StoredReference};
use crate::index::{Index, images::StoredManifest};
use crate::manifest::ImageConfig;
use crate::reference::Reference;
use crate::root::Root;
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
        look_up_whole(&index, name)
    }

    /// The manifests by which an image came.
    pub fn manifests(&self, image: &Image) -> Result<Vec<StoredManifest>> {
        self.read_index()?.manifests(&image.id)
    }

    /// Gives an image further names, taking them from whichever images had them: all of them, or none.
    ///
    /// # Errors
    /// Those of [`Store::image`].
    pub fn tag(&self, image: &str, names: &[Reference]) -> Result<()> {
        self.index()?.write_by(|index| {
            let stored = look_up(index, image)?.ok_or_else(|| Error::ImageNotFound(image.to_owned()))?;
            names.iter().try_for_each(|name| index.name_image(&name.to_string(), &stored.id))
        })
    }

    /// Takes a name away; with its last name, or by its id, the image is forgotten. What it alone used is freed by
    /// [`Store::collect`]; a container that runs from it keeps it whole until it ends. `known` are keepers that have no
    /// root in the store.
    ///
    /// # Errors
    /// [`Error::ImageKept`] for an image that would be forgotten and that a root keeps; [`Error::ImageInUse`] for an id
    /// that several names hold, unless `force`; those of [`Store::image`].
    pub fn remove(&self, name: &str, force: bool, known: &[Root]) -> Result<Removed> {
        let (removed, roots) = self.index()?.write_by(|index| {
            let image = look_up_whole(index, name)?;
            let own = own_name(&image, name);
            if let Some(own) = own.as_ref().filter(|_| image.names.len() > 1) {
                index.forget_name(own)?;
                return Ok((Removed { untagged: vec![own.clone()], deleted: None }, None));
            }
            if own.is_none() && image.names.len() > 1 && !force {
                return Err(Error::ImageInUse { id: image.short_id(), names: image.names.join(", ") });
            }
            // Held until this is committed: no root is added between the look and the deed.
            let roots = self.lock_roots()?;
            let keepers = keepers(&image, known, &roots.all()?);
            if !keepers.is_empty() {
                return Err(Error::ImageKept { id: image.short_id(), keepers: keepers.join(", ") });
            }
            index.forget_image(&image.id)?;
            Ok((Removed { untagged: image.names, deleted: Some(image.id.to_string()) }, Some(roots)))
        })?;
        drop(roots);
        Ok(removed)
    }

    /// The images that [`Store::remove`] of these, one after the other, would forget, were they not kept. What stands for no
    /// image, or for several, is left to the removal to tell.
    ///
    /// # Errors
    /// Those of the index.
    pub fn would_forget(&self, names: &[String]) -> Result<Vec<Digest>> {
        let (mut left, mut forgotten) = (HashMap::new(), Vec::new());
        for name in names {
            let image = match self.image(name) {
                Err(Error::ImageNotFound(_) | Error::ImageAmbiguous(_)) => continue,
                other => other?,
            };
            let own = own_name(&image, name);
            let left = left.entry(image.id).or_insert(image.names);
            match own {
                Some(own) if left.len() > 1 => left.retain(|name| *name != own),
                _ => forgotten.push(image.id),
            }
        }
        Ok(forgotten)
    }
}

/// The name of an image by which it was looked up, if it was by a name.
fn own_name(image: &Image, name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    let local = reference.on_localhost().map(|local| local.to_string());
    let own = |name: &String| image.names.contains(name);
    Some(reference.to_string()).filter(own).or_else(|| local.filter(own))
}

/// What keeps an image, in words; a keeper that has a root and is known besides is told as it is known.
fn keepers(image: &Image, known: &[Root], roots: &[Root]) -> Vec<String> {
    let others = roots.iter().filter(|root| known.iter().all(|other| other.name() != root.name()));
    let keeping = known.iter().chain(others).filter(|root| root.images().contains(&image.id));
    keeping.map(|root| root.purpose().to_owned()).collect()
}

fn look_up_whole(index: &Index, name: &str) -> Result<Image> {
    let stored = look_up(index, name)?.ok_or_else(|| Error::ImageNotFound(name.to_owned()))?;
    let (diff_ids, missing) = (index.diff_ids(&stored.id)?, index.missing_layers(&stored.id)?);
    Ok(Image { missing, ..Image::assemble(stored, diff_ids, &index.references()?)? })
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
