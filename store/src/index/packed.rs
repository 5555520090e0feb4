//! Queries on `packed`: which contents are in packs, and which may be.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Index;
use crate::error::Result;
use crate::pool::{Location, ObjectId, Packed};

const COLUMNS: &str = "SELECT id, size, disk, pack, frame, offset FROM packed JOIN object ON object = id";

impl Index {
    /// Where an object is packed; `None` for one that is a file.
    pub fn packed(&self, object: ObjectId) -> Result<Option<Packed>> {
        let mut statement = self.connection.prepare_cached(&format!("{COLUMNS} WHERE object = ?1"))?;
        Ok(statement.query_row([object], packed).optional()?)
    }

    /// All packed objects, in the order in which the packs hold them.
    pub fn all_packed(&self) -> Result<Vec<Packed>> {
        let mut statement = self.connection.prepare(&format!("{COLUMNS} ORDER BY pack, frame, offset"))?;
        let rows = statement.query_map([], packed)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Disk of what the index knows in each pack.
    pub fn packs(&self) -> Result<HashMap<u64, u64>> {
        let sql = "SELECT pack, sum(disk) FROM packed JOIN object ON object = id GROUP BY pack";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Objects that can go into a pack, with size and disk, in order of number: those that are files and that no checkout
    /// shows, the checkouts `gone` aside, and those in the packs `again`.
    pub fn cold_objects(&self, gone: &[u64], again: &HashSet<u64>) -> Result<Vec<(ObjectId, u64, u64)>> {
        let shown = shown(&self.connection, gone)?;
        let sql = "SELECT id, size, disk, pack FROM object LEFT JOIN packed ON object = id
                   WHERE condemned IS NULL ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let mut cold = Vec::new();
        for row in rows {
            let (id, size, disk, pack): (_, _, _, Option<u64>) = row?;
            if !shown.contains(&id) && pack.is_none_or(|pack| again.contains(&pack)) {
                cold.push((id, size, disk));
            }
        }
        Ok(cold)
    }

    /// Says of objects that they are in a pack now, but for those that a checkout came to show or that were condemned
    /// since. Returns the objects of which it holds.
    pub fn enter_packed(&mut self, objects: &[Packed]) -> Result<Vec<ObjectId>> {
        self.write(|index| {
            let shown = shown(index, &[])?;
            // The inode with the metadata of a node goes with the file.
            let sql = "UPDATE object SET disk = ?2, claim = NULL WHERE id = ?1 AND condemned IS NULL";
            let mut update = index.prepare_cached(sql)?;
            let mut enter = index.prepare_cached("INSERT OR REPLACE INTO packed VALUES (?1, ?2, ?3, ?4)")?;
            let mut entered = Vec::with_capacity(objects.len());
            for packed in objects.iter().filter(|packed| !shown.contains(&packed.id)) {
                if update.execute(params![packed.id, packed.disk])? == 1 {
                    let Location { pack, frame, offset } = packed.location;
                    enter.execute(params![packed.id, pack, frame, offset])?;
                    entered.push(packed.id);
                }
            }
            Ok(entered)
        })
    }

    /// Says of packed objects, given with the disk that they take, that they are files again, which are on disk.
    pub fn leave_packs(&mut self, objects: &[(ObjectId, u64)]) -> Result<()> {
        self.write(|index| {
            let mut leave = index.prepare_cached("DELETE FROM packed WHERE object = ?1")?;
            let mut update = index.prepare_cached("UPDATE object SET disk = ?2 WHERE id = ?1")?;
            for (object, disk) in objects {
                leave.execute([object])?;
                update.execute(params![object, disk])?;
            }
            Ok(())
        })
    }
}

/// Objects that checkouts need as files, the checkouts `gone` aside: all of their layers'. Copies need none.
fn shown(index: &Connection, gone: &[u64]) -> Result<HashSet<ObjectId>> {
    let gone = serde_json::to_string(gone).unwrap_or_default();
    let sql = "SELECT DISTINCT object FROM tree JOIN tree_layer ON tree = tree.id JOIN layer_object USING (layer)
               WHERE placement <> 'copy' AND tree.id NOT IN (SELECT value FROM json_each(?1))";
    let mut statement = index.prepare_cached(sql)?;
    let rows = statement.query_map([gone], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn packed(row: &Row<'_>) -> rusqlite::Result<Packed> {
    let location = Location { pack: row.get(3)?, frame: row.get(4)?, offset: row.get(5)? };
    Ok(Packed { id: row.get(0)?, size: row.get(1)?, disk: row.get(2)?, location })
}
