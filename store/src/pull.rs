//! READ FIRST. A pull, from a reference to a checkout:
//!
//! ```text
//! reference → manifest (index → the platform's) → config
//!   → each layer, several at once, one process per blob:
//!       receive → SHA-256 of the blob → decompress → SHA-256 of the diff ID → tar → BLAKE3 → pool
//!   → merged tree → image and name in one commit → checkout
//! ```

use std::io::Read;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use crate::blob::{BlobReader, decompress};
use crate::checkout::{IdShift, Lost, Placement};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::events::{Event, Events};
use crate::image::Image;
use crate::index::images::{StoredImage, StoredManifest};
use crate::index::layers::StoredLayer;
use crate::ingest::Promise;
use crate::manifest::{Descriptor, Document, ImageConfig, Manifest, Platform};
use crate::reference::Reference;
use crate::registry::{RawManifest, Registry};
use crate::session::Session;
use crate::store::Store;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The platform to take from an index.
    pub platform: Platform,
    /// The placement of the checkout to make; `None` leaves it to the first container.
    pub placement: Option<Placement>,
    /// Names to give the image; none for one that is known by its digest alone.
    pub names: Vec<String>,
    /// Layers that are read at the same time.
    pub parallel: usize,
    /// Seconds since 1970: the time to note as the image's arrival.
    pub now: i64,
}

/// An image that came.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// What its checkout lacks; nothing where none was made.
    pub lost: Lost,
}

impl Store {
    /// Pulls an image. All that is there already is not fetched again, nor what another process is just fetching.
    ///
    /// # Errors
    /// Those of the registry and of what it sent; then no image and no name has changed, and what was fetched whole
    /// serves the next attempt.
    pub async fn pull<R>(
        self: &Arc<Self>,
        registry: &Arc<R>,
        reference: &Reference,
        options: &PullOptions,
        events: &Arc<dyn Events>,
    ) -> Result<Pulled>
    where
        R: Registry + Send + Sync + 'static,
    {
        let session = Arc::new(self.session()?);
        // Beside the transfer, while there is time for it.
        let store = Arc::clone(self);
        let settling = tokio::task::spawn_blocking(move || store.settle_what_is_old());
        let (raw, manifest) = resolve(registry.as_ref(), reference, &options.platform).await?;
        events.event(Event::Resolved { manifest: raw.digest });
        let config = self.config(registry, reference, &manifest).await?;
        let parsed = ImageConfig::parse(&config)?;
        manifest.check_config(&parsed)?;

        let layers = manifest.layers.iter().cloned().zip(parsed.diff_ids().iter().copied());
        let tasks = layers.map(|(blob, diff_id)| {
            let (store, session, registry) = (Arc::clone(self), Arc::clone(&session), Arc::clone(registry));
            let (reference, events) = (reference.clone(), Arc::clone(events));
            async move { store.ensure_layer(&session, &registry, &reference, &blob, &diff_id, &events).await }
        });
        let mut running = stream::iter(tasks).buffer_unordered(options.parallel.max(1));
        while let Some(layer) = running.next().await {
            layer?;
        }
        drop(running);
        result_of(settling).await?;

        let manifest = StoredManifest { digest: raw.digest, media_type: raw.media_type, bytes: raw.bytes };
        let (store, options, events) = (Arc::clone(self), options.clone(), Arc::clone(events));
        blocking(move || {
            store.enter_image(&session, &config, parsed.diff_ids(), Some(&manifest), &options, events.as_ref())
        })
        .await
    }

    /// Makes the checkout of an image whose layers are all there, and enters the image: all of it, or nothing.
    pub(crate) fn enter_image(
        &self,
        session: &Session,
        config: &[u8],
        diff_ids: &[Digest],
        manifest: Option<&StoredManifest>,
        options: &PullOptions,
        events: &dyn Events,
    ) -> Result<Pulled> {
        let id = Digest::of(config);
        let mut index = self.index()?;
        let mut merged = None;
        // All of them, whoever brought them: those of another image's that this one is made from too.
        let layers = index.pin_layers(diff_ids, session.number())?;
        let known = index.image(&id)?;
        let stored = if let Some(known) = known {
            known
        } else {
            let tree = self.merge(&layers)?;
            let stored = StoredImage {
                id,
                config: config.to_vec(),
                chain_id: chain_id(diff_ids),
                logical: tree.logical_bytes(),
                files: tree.len() as u64,
                stored: options.now,
            };
            merged = Some(tree);
            stored
        };
        let unnamed = Image::assemble(stored.clone(), diff_ids.to_vec(), &[])?;
        // Leased until the image is entered: a collector would find a checkout without an image.
        let mut checkout = None;
        if let Some(placement) = options.placement {
            events.event(Event::CheckoutStarts);
            checkout = Some(self.checkout_merged(session, &unnamed, placement, IdShift::default(), merged.as_ref())?);
        }
        // Layers that were here already may have come without a sync.
        self.settle()?;
        index.insert_image(&stored, diff_ids, manifest, &options.names)?;
        // Not read back: whoever removes the image at this moment has no quarrel with us.
        let image = Image::assemble(stored, diff_ids.to_vec(), &index.references()?)?;
        let lost = checkout.map(|checkout| checkout.lost).unwrap_or_default();
        index.unpin(session.number())?;
        events.event(Event::Done);
        Ok(Pulled { image, lost })
    }

    async fn config<R: Registry>(
        &self,
        registry: &Arc<R>,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<Vec<u8>> {
        if let Some(known) = self.index()?.image(&manifest.config.digest)? {
            return Ok(known.config);
        }
        let stream = registry.blob(reference, &manifest.config, 0).await?;
        Ok(stream.into_bytes(&manifest.config).await?)
    }

    async fn ensure_layer<R>(
        self: &Arc<Self>,
        session: &Arc<Session>,
        registry: &Arc<R>,
        reference: &Reference,
        blob: &Descriptor,
        diff_id: &Digest,
        events: &Arc<dyn Events>,
    ) -> Result<StoredLayer>
    where
        R: Registry + Send + Sync + 'static,
    {
        if let Some(layer) = self.known_layer(session, blob, diff_id)? {
            events.event(Event::LayerExists { blob: blob.digest });
            return Ok(layer);
        }
        let (store, name) = (Arc::clone(self), format!("blob-{}", blob.digest.hex()));
        events.event(Event::LayerWaits { blob: blob.digest });
        let alone = blocking(move || store.lock(&name)).await?;
        // Whoever held the lock before may have brought the layer.
        if let Some(layer) = self.known_layer(session, blob, diff_id)? {
            events.event(Event::LayerExists { blob: blob.digest });
            return Ok(layer);
        }
        events.event(Event::LayerStarts { blob: blob.digest, size: blob.size });
        let progress = {
            let (events, digest) = (Arc::clone(events), blob.digest);
            move |bytes: u64| events.event(Event::LayerProgress { blob: digest, bytes })
        };
        let received = BlobReader::start(Arc::clone(registry), reference.clone(), blob.clone(), progress);
        let (store, session, events) = (Arc::clone(self), Arc::clone(session), Arc::clone(events));
        let (blob, diff_id) = (blob.clone(), *diff_id);
        blocking(move || {
            let _alone = alone;
            let mut tar: Box<dyn Read + Send> = decompress::reader(received, &blob)?;
            let promise = Promise { blob: Some(&blob.digest), diff_id: Some(&diff_id) };
            let (layer, new) = store.ingest(&session, &mut tar, promise)?;
            events.event(Event::LayerDone { blob: blob.digest, new });
            Ok(layer)
        })
        .await
    }

    /// The layer of a blob that was verified before. A diff ID alone is only a claim of the image's config: a blob that
    /// was never seen is fetched even where a layer of that diff ID is here.
    fn known_layer(&self, session: &Session, blob: &Descriptor, diff_id: &Digest) -> Result<Option<StoredLayer>> {
        match self.index()?.find_layer_of_blob(&blob.digest, Some(session.number()))? {
            Some(layer) if layer.diff_id == *diff_id => Ok(Some(layer)),
            Some(layer) => Err(Error::DiffIdMismatch { blob: blob.digest, found: layer.diff_id, promised: *diff_id }),
            None => Ok(None),
        }
    }
}

/// Follows an index to the manifest of the platform.
async fn resolve<R: Registry>(
    registry: &R,
    reference: &Reference,
    platform: &Platform,
) -> Result<(RawManifest, Manifest)> {
    let raw = registry.manifest(reference).await?;
    match Document::parse(&raw.bytes, &raw.media_type)? {
        Document::Manifest(manifest) => Ok((raw, manifest)),
        Document::Index(index) => {
            let chosen = index.select(platform)?;
            let raw = registry.manifest_by_digest(reference, &chosen.digest).await?;
            match Document::parse(&raw.bytes, &raw.media_type)? {
                Document::Manifest(manifest) => Ok((raw, manifest)),
                Document::Index(_) => Err(crate::manifest::ManifestError::NestedIndex(chosen.digest).into()),
            }
        }
    }
}

/// Chain ID of a stack of layers (OCI image specification, "Layer `ChainID`"); that of no layers is empty.
pub(crate) fn chain_id(diff_ids: &[Digest]) -> String {
    let mut chain: Option<Digest> = None;
    for diff_id in diff_ids {
        chain = Some(match chain {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
    }
    chain.map(|digest| digest.to_string()).unwrap_or_default()
}

/// Runs blocking work on tokio's threads for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    result_of(tokio::task::spawn_blocking(work)).await
}

async fn result_of<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    match task.await {
        Ok(result) => result,
        // The task was neither cancelled nor is there anything to go on with after its panic.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let a: Digest = Digest::of(b"a");
        let b = Digest::of(b"b");
        assert_eq!(chain_id(&[a]), a.to_string());
        assert_eq!(chain_id(&[a, b]), Digest::of(format!("{a} {b}").as_bytes()).to_string());
        assert_eq!(chain_id(&[]), "");
    }
}
