//! Queries on `image`, `image_layer`, `manifest` and `reference`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, layers};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// An image that the store has.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Digest of its config, by which it is known.
    pub id: Digest,
    /// The config, as the registry gave it: JSON of the OCI image specification.
    pub config: Vec<u8>,
    /// Chain ID of all its layers (OCI image specification, "Layer `ChainID`").
    pub chain_id: String,
    /// Bytes of the regular files of its merged tree.
    pub logical: u64,
    /// Entries of its merged tree.
    pub files: u64,
    /// When it came to the store, seconds since 1970.
    pub stored: i64,
}

/// A name of an image.
#[derive(Debug, Clone)]
pub struct StoredReference {
    /// Canonical name.
    pub name: String,
    /// The image.
    pub image: Digest,
    /// The manifest digest that the registry gave for the name.
    pub manifest: Option<Digest>,
}

/// A manifest of an image, as its registry gave it.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

const IMAGE: &str = "SELECT id, config, chain_id, logical, files, stored FROM image";

impl Index {
    /// All images, newest first.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut statement = self.connection.prepare(&format!("{IMAGE} ORDER BY stored DESC, id"))?;
        let rows = statement.query_map([], stored_image)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The image with an id.
    pub fn image(&self, id: &Digest) -> Result<Option<StoredImage>> {
        let mut statement = self.connection.prepare_cached(&format!("{IMAGE} WHERE id = ?1"))?;
        Ok(statement.query_row([id], stored_image).optional()?)
    }

    /// The image that a canonical name stands for.
    pub fn image_by_name(&self, name: &str) -> Result<Option<StoredImage>> {
        let sql = format!("{IMAGE} WHERE id = (SELECT image FROM reference WHERE name = ?1)");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([name], stored_image).optional()?)
    }

    /// The image that has a manifest of this digest.
    pub fn image_by_manifest(&self, manifest: &Digest) -> Result<Option<StoredImage>> {
        let sql = format!("{IMAGE} WHERE id = (SELECT image FROM manifest WHERE digest = ?1)");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([manifest], stored_image).optional()?)
    }

    /// The images whose id begins with these hexadecimal digits.
    pub fn images_by_prefix(&self, prefix: &str) -> Result<Vec<StoredImage>> {
        let mut statement = self.connection.prepare_cached(&format!("{IMAGE} WHERE substr(id, 8, ?2) = ?1"))?;
        let rows = statement.query_map(params![prefix, prefix.len()], stored_image)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Diff IDs of an image's layers, lowest first.
    pub fn diff_ids(&self, image: &Digest) -> Result<Vec<Digest>> {
        let sql = "SELECT diff_id FROM image_layer WHERE image = ?1 ORDER BY position";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([image], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Diff IDs of those of an image's layers that the store does not have, lowest first.
    pub fn missing_layers(&self, image: &Digest) -> Result<Vec<Digest>> {
        let sql = "SELECT diff_id FROM image_layer WHERE image = ?1 AND diff_id NOT IN (SELECT diff_id FROM layer)
                   ORDER BY position";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([image], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All names, in order.
    pub fn references(&self) -> Result<Vec<StoredReference>> {
        let mut statement = self.connection.prepare("SELECT name, image, manifest FROM reference ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(StoredReference { name: row.get(0)?, image: row.get(1)?, manifest: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The manifests that an image came by.
    pub fn manifests(&self, image: &Digest) -> Result<Vec<StoredManifest>> {
        let sql = "SELECT digest, media_type, bytes FROM manifest WHERE image = ?1 ORDER BY digest";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([image], |row| {
            Ok(StoredManifest { digest: row.get(0)?, media_type: row.get(1)?, bytes: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Enters an image whose layers are all there, with its names.
    ///
    /// # Errors
    /// [`Error::LayerMissing`] if a layer is not known.
    pub fn insert_image(
        &mut self,
        image: &StoredImage,
        diff_ids: &[Digest],
        manifest: Option<&StoredManifest>,
        names: &[String],
    ) -> Result<()> {
        self.write(|index| {
            for diff_id in diff_ids {
                if layers::by_diff_id(index, diff_id)?.is_none() {
                    return Err(Error::LayerMissing(*diff_id));
                }
            }
            index.execute(
                "INSERT OR IGNORE INTO image (id, config, chain_id, logical, files, stored) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![image.id, image.config, image.chain_id, image.logical, image.files, image.stored],
            )?;
            for (position, diff_id) in diff_ids.iter().enumerate() {
                index.execute(
                    "INSERT OR IGNORE INTO image_layer (image, position, diff_id) VALUES (?1, ?2, ?3)",
                    params![image.id, position, diff_id],
                )?;
            }
            if let Some(manifest) = manifest {
                index.execute(
                    "INSERT OR REPLACE INTO manifest (digest, image, media_type, bytes) VALUES (?1, ?2, ?3, ?4)",
                    params![manifest.digest, image.id, manifest.media_type, manifest.bytes],
                )?;
            }
            for name in names {
                set_reference(index, name, &image.id, manifest.map(|manifest| &manifest.digest))?;
            }
            Ok(())
        })
    }

    /// Gives an image a name, taking it from whichever had it; within a transaction of the caller's.
    pub fn name_image(&self, name: &str, image: &Digest) -> Result<()> {
        set_reference(&self.connection, name, image, None)
    }

    /// Takes a name away; within a transaction of the caller's.
    pub fn forget_name(&self, name: &str) -> Result<()> {
        self.connection.execute("DELETE FROM reference WHERE name = ?1", [name])?;
        Ok(())
    }

    /// Forgets an image with all its names; within a transaction of the caller's.
    pub fn forget_image(&self, image: &Digest) -> Result<()> {
        self.connection.execute("DELETE FROM image WHERE id = ?1", [image])?;
        Ok(())
    }
}

fn set_reference(index: &Connection, name: &str, image: &Digest, manifest: Option<&Digest>) -> Result<()> {
    index.execute(
        "INSERT OR REPLACE INTO reference (name, image, manifest) VALUES (?1, ?2, ?3)",
        params![name, image, manifest],
    )?;
    Ok(())
}

fn stored_image(row: &Row<'_>) -> rusqlite::Result<StoredImage> {
    Ok(StoredImage {
        id: row.get(0)?,
        config: row.get(1)?,
        chain_id: row.get(2)?,
        logical: row.get(3)?,
        files: row.get(4)?,
        stored: row.get(5)?,
    })
}
