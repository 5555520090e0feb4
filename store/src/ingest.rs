//! One layer into the store: decompressed bytes → objects, record, index row. Nothing is known before all is verified.

use std::io::{Read, Write};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::index::Counter;
use crate::index::layers::{Conflict, NewLayer, StoredLayer};
use crate::layer::ingest::{Ingested, ingest};
use crate::layer::record;
use crate::pool::Ingest;
use crate::session::Session;
use crate::store::Store;

/// What the bytes of a layer must turn out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise<'a> {
    /// Digest of the blob that they come from, if they come from one.
    pub(crate) blob: Option<&'a Digest>,
    /// The diff ID that the image's config names; none for a plain tar, which defines it.
    pub(crate) diff_id: Option<&'a Digest>,
}

impl Store {
    /// Reads a layer's tar to its end, verifies it, and enters it. Also tells how many file contents were new.
    ///
    /// `tar` fails at its end where the blob's digest is wrong, so that both digests hold before anything is entered.
    ///
    /// # Errors
    /// [`Error::DiffIdMismatch`], [`Error::Layer`], or those of the file system; then nothing is left of it.
    pub(crate) fn ingest(
        &self,
        session: &Session,
        tar: &mut (dyn Read + Send),
        promise: Promise<'_>,
    ) -> Result<(StoredLayer, u64)> {
        let mut index = self.index()?;
        let mut pool_ingest = self.start_ingest()?;
        let mut staged = self.tmp.nameless().context("create a file in", self.path().join("tmp"))?;
        let mut ingested = ingest(tar, &mut pool_ingest, &mut staged, &self.limits)?;
        if let Some(promised) = promise.diff_id
            && *promised != ingested.diff_id
        {
            let blob = *promise.blob.unwrap_or(promised);
            return Err(Error::DiffIdMismatch { blob, found: ingested.diff_id, promised: *promised });
        }
        loop {
            let layer = StoredLayer { id: pool_ingest.number(), diff_id: ingested.diff_id, size: ingested.size };
            self.publish_record(&mut staged, layer.id)?;
            self.settle()?;
            let new = NewLayer {
                layer: layer.clone(),
                blob: promise.blob,
                boot: self.unsettled_boot(),
                new: pool_ingest.new_objects(),
                objects: &ingested.objects,
            };
            match index.insert_layer(session.number(), &new)? {
                Ok(()) => {
                    let new = new.new.len() as u64;
                    pool_ingest.keep().context("keep the objects in", self.path().join("objects"))?;
                    return Ok((layer, new));
                }
                Err(Conflict::Known(known)) => {
                    self.withdraw_record(layer.id)?;
                    return Ok((known, 0));
                }
                Err(Conflict::Duplicates(theirs)) => {
                    self.withdraw_record(layer.id)?;
                    staged = self.renumber(&mut staged, &mut ingested, &theirs)?;
                    pool_ingest.yield_to(&theirs).context("remove duplicates from", self.path().join("objects"))?;
                }
            }
        }
    }

    fn start_ingest(&self) -> Result<Ingest> {
        loop {
            let number = self.index()?.next(Counter::Ingest)?;
            // A record may have outlived its row and its folder.
            if self.layers.exists(format!("{number:x}").as_bytes()).context("look into", self.path().join("layers"))? {
                continue;
            }
            match Ingest::start(&self.pool, self.open_index()?, number) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.context("create a folder in", self.path().join("objects")),
            }
        }
    }

    /// Writes the record again with the numbers of contents that others entered first.
    fn renumber(
        &self,
        staged: &mut std::fs::File,
        ingested: &mut Ingested,
        theirs: &std::collections::HashMap<crate::pool::ObjectId, crate::pool::ObjectId>,
    ) -> Result<std::fs::File> {
        rewind(staged).context("read a file in", self.path().join("tmp"))?;
        let mut fresh = self.tmp.nameless().context("create a file in", self.path().join("tmp"))?;
        record::renumber(&mut *staged, &mut fresh, |object| theirs.get(&object).copied().unwrap_or(object))?;
        for object in &mut ingested.objects {
            *object = theirs.get(object).copied().unwrap_or(*object);
        }
        ingested.objects.sort_unstable();
        ingested.objects.dedup();
        Ok(fresh)
    }

    /// Copies the staged record to its place; its number is this ingest's alone.
    fn publish_record(&self, staged: &mut std::fs::File, layer: u64) -> Result<()> {
        let name = format!("{layer:x}");
        let path = self.path().join("layers").join(&name);
        rewind(staged).context("read the record for", &path)?;
        let mut file = self.layers.create_new(name.as_bytes(), 0o400).context("create", &path)?;
        let copied = std::io::copy(staged, &mut file).and_then(|_| file.flush());
        if copied.is_err() {
            self.withdraw_record(layer)?;
        }
        copied.context("write", &path)
    }

    fn withdraw_record(&self, layer: u64) -> Result<()> {
        let name = format!("{layer:x}");
        self.layers.unlink(name.as_bytes()).context("remove", self.path().join("layers").join(&name))
    }
}

fn rewind(file: &mut std::fs::File) -> std::io::Result<()> {
    std::io::Seek::seek(file, std::io::SeekFrom::Start(0)).map(|_| ())
}
