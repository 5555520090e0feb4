//! Queries on `layer`, `layer_object`, `blob` and `pin`.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, objects};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::pool::{NewObject, ObjectId};

/// A layer that the store has.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    /// Number of its ingest: names its record.
    pub id: u64,
    /// SHA-256 of its tar.
    pub diff_id: Digest,
    /// Bytes of its tar.
    pub size: u64,
}

/// A layer that was read and verified, ready to be known.
#[derive(Debug)]
pub struct NewLayer<'a> {
    /// What the index will say of it.
    pub layer: StoredLayer,
    /// The blob it came from, where it came from one.
    pub blob: Option<&'a Digest>,
    /// The boot since which it is unsettled, `None` when it was synced.
    pub boot: Option<&'a str>,
    /// Objects that this ingest wrote.
    pub new: &'a [NewObject],
    /// All objects that the layer refers to, distinct.
    pub objects: &'a [ObjectId],
}

/// Why a layer was not entered.
#[derive(Debug)]
pub enum Conflict {
    /// Another process entered the same layer first.
    Known(StoredLayer),
    /// Some of the new contents came in meanwhile: which of ours they replace.
    Duplicates(HashMap<ObjectId, ObjectId>),
}

impl Index {
    /// The layer with a diff ID. With `session`, a layer that is found is pinned for it in the same transaction.
    pub fn find_layer(&mut self, diff_id: &Digest, session: Option<u64>) -> Result<Option<StoredLayer>> {
        self.find_and_pin(session, |index| by_diff_id(index, diff_id))
    }

    /// The layer that a blob was seen to hold; pinned as by [`Index::find_layer`].
    pub fn find_layer_of_blob(&mut self, blob: &Digest, session: Option<u64>) -> Result<Option<StoredLayer>> {
        self.find_and_pin(session, |index| {
            let sql = "SELECT id, diff_id, size FROM layer JOIN blob ON layer = id WHERE digest = ?1";
            Ok(index.prepare_cached(sql)?.query_row([blob], stored_layer).optional()?)
        })
    }

    /// The layers with these diff IDs, all pinned for the session in one transaction: from here on they stay.
    ///
    /// # Errors
    /// [`Error::LayerMissing`].
    pub fn pin_layers(&mut self, diff_ids: &[Digest], session: u64) -> Result<Vec<StoredLayer>> {
        self.write(|index| {
            let one = |diff_id: &Digest| {
                let layer = by_diff_id(index, diff_id)?.ok_or(Error::LayerMissing(*diff_id))?;
                pin(index, session, layer.id)?;
                Ok(layer)
            };
            diff_ids.iter().map(one).collect()
        })
    }

    fn find_and_pin(
        &mut self,
        session: Option<u64>,
        find: impl FnOnce(&Connection) -> Result<Option<StoredLayer>>,
    ) -> Result<Option<StoredLayer>> {
        let Some(session) = session else { return find(&self.connection) };
        self.write(|index| {
            let layer = find(index)?;
            if let Some(layer) = &layer {
                pin(index, session, layer.id)?;
            }
            Ok(layer)
        })
    }

    /// Enters a verified layer with its objects, and pins it for the session.
    ///
    /// Objects that were condemned after this ingest found them are acquitted. Nothing is written on a [`Conflict`].
    pub fn insert_layer(&mut self, session: u64, new: &NewLayer<'_>) -> Result<std::result::Result<(), Conflict>> {
        self.write(|index| {
            let layer = &new.layer;
            if let Some(known) = by_diff_id(index, &layer.diff_id)? {
                if let Some(blob) = new.blob {
                    name_blob(index, blob, known.id)?;
                }
                pin(index, session, known.id)?;
                return Ok(Err(Conflict::Known(known)));
            }
            let mut duplicates = HashMap::new();
            for object in new.new {
                if let Some(known) = objects::find(index, &object.hash)? {
                    duplicates.insert(object.id, known);
                }
            }
            if !duplicates.is_empty() {
                return Ok(Err(Conflict::Duplicates(duplicates)));
            }
            for object in new.new {
                objects::insert(index, object)?;
            }
            index
                .prepare_cached("INSERT INTO layer (id, diff_id, size, boot) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![layer.id, layer.diff_id, layer.size, new.boot])?;
            let mut refer = index.prepare_cached("INSERT INTO layer_object (layer, object) VALUES (?1, ?2)")?;
            let mut acquit =
                index.prepare_cached("UPDATE object SET condemned = NULL WHERE id = ?1 AND condemned IS NOT NULL")?;
            for object in new.objects {
                acquit.execute([object])?;
                refer.execute(params![layer.id, object])?;
            }
            if let Some(blob) = new.blob {
                name_blob(index, blob, layer.id)?;
            }
            pin(index, session, layer.id)?;
            Ok(Ok(()))
        })
    }

    /// Remembers that a blob holds a layer that the store has.
    pub fn insert_blob(&mut self, blob: &Digest, layer: u64) -> Result<()> {
        self.write(|index| name_blob(index, blob, layer))
    }

    /// All layers, oldest first.
    pub fn layers(&self) -> Result<Vec<StoredLayer>> {
        let mut statement = self.connection.prepare("SELECT id, diff_id, size FROM layer ORDER BY id")?;
        let rows = statement.query_map([], stored_layer)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Layers that were written without a sync under another boot than this one: suspect until hashed again.
    pub fn unsettled_layers(&self, boot: &str) -> Result<Vec<StoredLayer>> {
        let sql = "SELECT id, diff_id, size FROM layer WHERE boot IS NOT NULL AND boot <> ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([boot], stored_layer)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Layers that were written without a sync under this boot.
    pub fn layers_of_boot(&self, boot: &str) -> Result<Vec<StoredLayer>> {
        let mut statement = self.connection.prepare_cached("SELECT id, diff_id, size FROM layer WHERE boot = ?1")?;
        let rows = statement.query_map([boot], stored_layer)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Marks layers as known to be on disk.
    pub fn settle_layers(&mut self, layers: &[StoredLayer]) -> Result<()> {
        self.write(|index| {
            let mut settle = index.prepare_cached("UPDATE layer SET boot = NULL WHERE id = ?1")?;
            for layer in layers {
                settle.execute([layer.id])?;
            }
            Ok(())
        })
    }

    /// Forgets damaged layers and condemns the damaged objects at once, so that the next pull writes them anew.
    pub fn forget_damaged(&mut self, layers: &[u64], damaged: &[ObjectId]) -> Result<()> {
        self.write(|index| {
            for layer in layers {
                index.execute("DELETE FROM layer WHERE id = ?1", [layer])?;
            }
            for object in damaged {
                index.execute("DELETE FROM layer_object WHERE object = ?1", [object])?;
                index.execute("DELETE FROM object WHERE id = ?1", [object])?;
            }
            Ok(())
        })
    }

    /// Drops the pins of a session that has ended.
    pub fn unpin(&mut self, session: u64) -> Result<()> {
        self.write(|index| {
            index.execute("DELETE FROM pin WHERE session = ?1", [session])?;
            Ok(())
        })
    }
}

pub(super) fn by_diff_id(index: &Connection, diff_id: &Digest) -> Result<Option<StoredLayer>> {
    let mut statement = index.prepare_cached("SELECT id, diff_id, size FROM layer WHERE diff_id = ?1")?;
    Ok(statement.query_row([diff_id], stored_layer).optional()?)
}

fn stored_layer(row: &Row<'_>) -> rusqlite::Result<StoredLayer> {
    Ok(StoredLayer { id: row.get(0)?, diff_id: row.get(1)?, size: row.get(2)? })
}

fn name_blob(index: &Connection, blob: &Digest, layer: u64) -> Result<()> {
    index
        .prepare_cached("INSERT OR REPLACE INTO blob (digest, layer) VALUES (?1, ?2)")?
        .execute(params![blob, layer])?;
    Ok(())
}

fn pin(index: &Connection, session: u64, layer: u64) -> Result<()> {
    index
        .prepare_cached("INSERT OR IGNORE INTO pin (session, layer) VALUES (?1, ?2)")?
        .execute(params![session, layer])?;
    Ok(())
}
