//! Queries on `tree`.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Index;
use crate::checkout::{IdShift, Placement};
use crate::error::{Error, Result};
use crate::index::layers::StoredLayer;

/// A checkout that the store has.
#[derive(Debug, Clone)]
pub struct StoredTree {
    /// Names its folder, `trees/<id>`.
    pub id: u64,
    /// Chain ID of its layers.
    pub chain_id: String,
    /// How it was made.
    pub placement: Placement,
    /// Whose its files are.
    pub shift: IdShift,
    /// JSON: what of the image's metadata could not be made.
    pub lost: String,
}

impl Index {
    /// The checkout of a chain by a placement.
    pub fn find_tree(&self, chain_id: &str, placement: Placement, shift: IdShift) -> Result<Option<StoredTree>> {
        let sql = "SELECT id, chain_id, placement, lost FROM tree WHERE chain_id = ?1 AND placement = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([chain_id, &form(placement, shift)], stored_tree).optional()?)
    }

    /// All checkouts.
    pub fn trees(&self) -> Result<Vec<StoredTree>> {
        all(&self.connection)
    }

    /// The checkouts of a chain, by whichever placement.
    pub fn trees_of_chain(&self, chain_id: &str) -> Result<Vec<StoredTree>> {
        let sql = "SELECT id, chain_id, placement, lost FROM tree WHERE chain_id = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([chain_id], stored_tree)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The checkouts that show any of these layers.
    pub fn trees_of_layers(&self, layers: &HashSet<u64>) -> Result<Vec<u64>> {
        let mut statement = self.connection.prepare("SELECT tree, layer FROM tree_layer")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut trees: Vec<u64> = Vec::new();
        for row in rows {
            let (tree, layer) = row?;
            if layers.contains(&layer) && !trees.contains(&tree) {
                trees.push(tree);
            }
        }
        Ok(trees)
    }

    /// Enters a finished checkout of these layers. `false`: another process entered one for the same chain and form first.
    ///
    /// # Errors
    /// [`Error::LayerMissing`] where one of the very layers that it was made from is no more: then nothing is entered. A
    /// layer of the same diff ID may have come anew, with other objects than those that the checkout shows.
    pub fn insert_tree(&mut self, tree: &StoredTree, layers: &[StoredLayer]) -> Result<bool> {
        self.write(|index| {
            let mut look = index.prepare_cached("SELECT 1 FROM layer WHERE id = ?1 AND diff_id = ?2")?;
            for layer in layers {
                let found = look.query_row(params![layer.id, layer.diff_id], |_| Ok(())).optional()?;
                found.ok_or(Error::LayerMissing(layer.diff_id))?;
            }
            let sql = "INSERT OR IGNORE INTO tree (id, chain_id, placement, lost) VALUES (?1, ?2, ?3, ?4)";
            let row = params![tree.id, tree.chain_id, form(tree.placement, tree.shift), tree.lost];
            if index.prepare_cached(sql)?.execute(row)? == 0 {
                return Ok(false);
            }
            for layer in layers {
                let sql = "INSERT OR IGNORE INTO tree_layer (tree, layer) VALUES (?1, ?2)";
                index.prepare_cached(sql)?.execute(params![tree.id, layer.id])?;
            }
            Ok(true)
        })
    }

    /// Forgets a checkout.
    pub fn delete_tree(&mut self, tree: u64) -> Result<()> {
        self.write(|index| {
            index.execute("DELETE FROM tree WHERE id = ?1", [tree])?;
            Ok(())
        })
    }
}

/// All checkouts, oldest first.
pub(super) fn all(index: &Connection) -> Result<Vec<StoredTree>> {
    let mut statement = index.prepare("SELECT id, chain_id, placement, lost FROM tree ORDER BY id")?;
    let rows = statement.query_map([], stored_tree)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn stored_tree(row: &Row<'_>) -> rusqlite::Result<StoredTree> {
    let form: String = row.get(2)?;
    let (placement, shift) = form.split_once(' ').map_or((form.as_str(), None), |(word, ids)| (word, Some(ids)));
    let placement = placement.parse().map_err(|error| unknown(Box::new(error)))?;
    let shift = shift.map(str::parse).transpose().map_err(|error| unknown(Box::new(error)))?.unwrap_or_default();
    Ok(StoredTree { id: row.get(0)?, chain_id: row.get(1)?, placement, shift, lost: row.get(3)? })
}

/// The word in the index: a placement, and where owners are moved, the ids that say how.
fn form(placement: Placement, shift: IdShift) -> String {
    if shift.is_none() { placement.name().to_owned() } else { format!("{placement} {shift}") }
}

fn unknown(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::index::Durability;

    #[test]
    fn a_checkout_is_entered_only_while_the_very_layers_that_it_shows_are_there() {
        let scratch = tempfile::tempdir().unwrap();
        let mut index = Index::open(&scratch.path().join("index.db"), Durability::Consistent).unwrap();
        let layer = |id| StoredLayer { id, diff_id: Digest::of(b"layer"), size: 1 };
        let enter = |id: u64| {
            index.connection.execute("DELETE FROM layer", []).unwrap();
            let sql = "INSERT INTO layer (id, diff_id, size) VALUES (?1, ?2, 1)";
            index.connection.execute(sql, params![id, layer(id).diff_id]).unwrap();
        };
        enter(2);
        let (placement, shift) = (Placement::Stub, IdShift::default());
        let tree = StoredTree { id: 7, chain_id: "chain".to_owned(), placement, shift, lost: "{}".to_owned() };
        // The layer that it was made from was collected, and came again.
        assert!(matches!(index.insert_tree(&tree, &[layer(1)]), Err(Error::LayerMissing(_))));
        assert!(!index.has_tree(7).unwrap());
        assert!(index.insert_tree(&tree, &[layer(2)]).unwrap());
        assert_eq!(index.trees_of_layers(&HashSet::from([2])).unwrap(), [7]);
        assert!(!index.insert_tree(&StoredTree { id: 8, ..tree }, &[layer(2)]).unwrap());
    }
}
