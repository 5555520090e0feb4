//! Queries on `object`.

use rusqlite::{Connection, OptionalExtension, params};

use super::Index;
use crate::error::Result;
use crate::pool::{Hash, NewObject, ObjectId};

impl Index {
    /// The object that holds a content, if the pool has one that is not condemned.
    pub fn find_object(&self, hash: &Hash) -> Result<Option<ObjectId>> {
        find(&self.connection, hash)
    }

    /// Claims objects for nodes of the hardlink placement: the first node to come gets the object's own inode. Returns
    /// for each pair whether its node has the claim.
    pub fn claim(&mut self, wishes: &[(ObjectId, [u8; 16])]) -> Result<Vec<bool>> {
        self.write(|index| {
            let mut set = index.prepare_cached("UPDATE object SET claim = ?2 WHERE id = ?1 AND claim IS NULL")?;
            let mut get = index.prepare_cached("SELECT claim = ?2 FROM object WHERE id = ?1")?;
            let mut granted = Vec::with_capacity(wishes.len());
            for (object, node) in wishes {
                set.execute(params![object, node.as_slice()])?;
                granted.push(get.query_row(params![object, node.as_slice()], |row| row.get(0))?);
            }
            Ok(granted)
        })
    }

    /// Every object with its hash and size, in order of number.
    pub fn objects(&self) -> Result<Vec<(ObjectId, Hash, u64)>> {
        let mut statement = self.connection.prepare("SELECT id, hash, size FROM object ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The objects that a layer refers to, with hash and size.
    pub fn objects_of_layer(&self, layer: u64) -> Result<Vec<(ObjectId, Hash, u64)>> {
        let sql = "SELECT id, hash, size FROM object JOIN layer_object ON object = id WHERE layer = ?1";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([layer], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Numbers of the objects that one ingest wrote and that the index knows as files, condemned ones too.
    pub fn files_of_ingest(&self, ingest: u64) -> Result<Vec<ObjectId>> {
        let sql =
            "SELECT id FROM object WHERE id BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM packed WHERE object = id)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let range = params![ObjectId::new(ingest, 0), ObjectId::new(ingest, ObjectId::LAST_SEQUENCE)];
        let rows = statement.query_map(range, |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(super) fn find(index: &Connection, hash: &Hash) -> Result<Option<ObjectId>> {
    let sql = "SELECT id FROM object WHERE substr(hash, 1, 8) = ?1 AND hash = ?2 AND condemned IS NULL LIMIT 1";
    let mut statement = index.prepare_cached(sql)?;
    Ok(statement.query_row(params![&hash.0[..8], hash], |row| row.get(0)).optional()?)
}

pub(super) fn insert(index: &Connection, object: &NewObject) -> Result<()> {
    let mut statement = index.prepare_cached("INSERT INTO object (id, hash, size, disk) VALUES (?1, ?2, ?3, ?4)")?;
    statement.execute(params![object.id, object.hash, object.size, object.disk])?;
    Ok(())
}
