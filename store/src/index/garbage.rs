//! The transactions of a collection.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, trees};
use crate::error::Result;
use crate::index::trees::StoredTree;
use crate::pool::ObjectId;

/// What one pass of condemning found.
#[derive(Debug, Default)]
pub struct Condemned {
    /// Images that were forgotten.
    pub images: u64,
    /// Layers that were forgotten.
    pub layers: u64,
    /// Objects that no layer refers to.
    pub objects: u64,
    /// Bytes of disk of those that are files.
    pub bytes: u64,
    /// Checkouts without an image.
    pub trees: Vec<u64>,
}

impl Index {
    /// Forgets what nothing needs, and condemns its objects. `busy` tells the chain IDs of the checkouts in use;
    /// `living` are the sessions whose pins count. With `dry_run` all is undone again.
    pub fn condemn(
        &mut self,
        living: &[u64],
        busy: impl FnOnce(&[StoredTree]) -> HashSet<String>,
        dry_run: bool,
    ) -> Result<Condemned> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let all = {
            let mut statement = transaction.prepare("SELECT id, chain_id, placement, lost FROM tree")?;
            let rows = statement.query_map([], trees::stored_tree)?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        let busy = busy(&all);
        let dead = condemn(&transaction, living, &busy, &all)?;
        if dry_run {
            transaction.rollback()?;
        } else {
            transaction.commit()?;
        }
        Ok(dead)
    }

    /// Takes the condemned objects out of the index that no living session can have found; `oldest` is the oldest of
    /// these. Also tells how many must wait.
    pub fn take_condemned(&mut self, oldest: Option<u64>, dry_run: bool) -> Result<(Vec<ObjectId>, u64)> {
        let before = oldest.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        self.write(|index| {
            let sql = "SELECT id FROM object WHERE condemned IS NOT NULL AND condemned < ?1";
            let ready: Vec<ObjectId> =
                index.prepare(sql)?.query_map([before], |row| row.get(0))?.collect::<Result<_, _>>()?;
            if !dry_run {
                let mut delete = index.prepare("DELETE FROM object WHERE id = ?1")?;
                for object in &ready {
                    delete.execute([object])?;
                }
            }
            let sql = "SELECT count(*) FROM object WHERE condemned IS NOT NULL AND condemned >= ?1";
            let waiting = index.query_row(sql, [before], |row| row.get(0))?;
            Ok((ready, waiting))
        })
    }

    /// Whether an ingest became a layer.
    pub fn has_layer(&self, ingest: u64) -> Result<bool> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM layer WHERE id = ?1")?;
        Ok(statement.query_row([ingest], |_| Ok(())).optional()?.is_some())
    }

    /// Whether a folder is a checkout.
    pub fn has_tree(&self, id: u64) -> Result<bool> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM tree WHERE id = ?1")?;
        Ok(statement.query_row([id], |_| Ok(())).optional()?.is_some())
    }
}

fn condemn(index: &Connection, living: &[u64], busy: &HashSet<String>, all: &[StoredTree]) -> Result<Condemned> {
    let mut dead = Condemned::default();
    index.execute_batch("CREATE TEMP TABLE IF NOT EXISTS alive (session INTEGER PRIMARY KEY); DELETE FROM alive;")?;
    for session in living {
        index.execute("INSERT INTO alive VALUES (?1)", [session])?;
    }
    index.execute("DELETE FROM pin WHERE session NOT IN (SELECT session FROM alive)", [])?;

    let sql = "SELECT id, chain_id FROM image WHERE id NOT IN (SELECT image FROM reference)";
    let unnamed: Vec<(String, String)> =
        index.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (id, _) in unnamed.iter().filter(|(_, chain_id)| !busy.contains(chain_id)) {
        index.execute("DELETE FROM image WHERE id = ?1", [id])?;
        dead.images += 1;
    }
    let mut needed: HashSet<String> = busy.clone();
    let mut chains = index.prepare("SELECT chain_id FROM image")?;
    for chain in chains.query_map([], |row| row.get(0))? {
        needed.insert(chain?);
    }
    dead.trees = all.iter().filter(|tree| !needed.contains(&tree.chain_id)).map(|tree| tree.id).collect();

    // Layers of a checkout in use whose image was removed stay too: their objects are what its stubs point at.
    let sql = "DELETE FROM layer WHERE id NOT IN (SELECT layer FROM pin)
               AND diff_id NOT IN (SELECT diff_id FROM image_layer)
               AND id NOT IN (SELECT layer FROM tree_layer JOIN tree ON tree.id = tree_layer.tree
                              WHERE chain_id IN (SELECT value FROM json_each(?1)))";
    let busy_json = serde_json::to_string(busy).unwrap_or_default();
    dead.layers = index.execute(sql, [busy_json])? as u64;

    let newest: u64 = index.query_row("SELECT value FROM counter WHERE name = 'session'", [], |row| row.get(0))?;
    let unreferenced = "condemned IS NULL AND id NOT IN (SELECT object FROM layer_object)";
    let sql = format!(
        "SELECT count(*), coalesce(sum(disk) FILTER (WHERE id NOT IN (SELECT object FROM packed)), 0)
         FROM object WHERE {unreferenced}"
    );
    (dead.objects, dead.bytes) = index.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    index.execute(&format!("UPDATE object SET condemned = ?1 WHERE {unreferenced}"), params![newest])?;
    Ok(dead)
}
