//! The transactions of a collection.

use rusqlite::{Connection, OptionalExtension, Params, Transaction, TransactionBehavior};

use super::{Index, trees};
use crate::digest::Digest;
use crate::error::Result;
use crate::gc::{Facts, KnownImage};
use crate::pool::ObjectId;

/// Layers and objects that nothing refers to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Layers, by the numbers of their ingests.
    pub layers: Vec<u64>,
    /// Objects that no layer refers to.
    pub objects: u64,
    /// Bytes of disk of those that are files.
    pub bytes: u64,
}

/// Condemned objects.
#[derive(Debug, Default)]
pub struct Taken {
    /// Those that the index does not know any more.
    pub objects: Vec<ObjectId>,
    /// How many must wait for sessions to end.
    pub deferred: u64,
}

/// An object is condemned that no layer refers to. In this form SQLite looks each up in the index that there is.
const UNREFERENCED: &str = "condemned IS NULL AND id NOT IN (SELECT object FROM layer_object)";
/// The same once the layers of ?1 are gone.
const TO_BE_UNREFERENCED: &str = "condemned IS NULL AND NOT EXISTS (
    SELECT 1 FROM layer_object WHERE object = object.id AND layer NOT IN (SELECT value FROM json_each(?1)))";

impl Index {
    /// Runs `work` in one write transaction: all of it, or nothing. As [`Index::write`], for work that asks the index by
    /// its own methods.
    pub fn write_by<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.within(TransactionBehavior::Immediate, work)
    }

    /// Runs `work` on one snapshot of the index.
    pub fn read_by<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.within(TransactionBehavior::Deferred, work)
    }

    fn within<T>(&mut self, behaviour: TransactionBehavior, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        // No other can be open on a connection that nobody else has.
        let transaction = Transaction::new_unchecked(&self.connection, behaviour)?;
        let value = work(self)?;
        transaction.commit()?;
        Ok(value)
    }

    /// What is to be known to decide which images and checkouts stay; within a transaction of the caller's.
    pub fn facts(&self) -> Result<Facts> {
        let sql = "SELECT id, chain_id, EXISTS (SELECT 1 FROM reference WHERE image = image.id) FROM image ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let images = statement
            .query_map([], |row| Ok(KnownImage { id: row.get(0)?, chain_id: row.get(1)?, is_named: row.get(2)? }))?;
        Ok(Facts { images: images.collect::<Result<_, _>>()?, trees: trees::all(&self.connection)? })
    }

    /// Forgets images and checkouts, and the pins of all sessions but the `living`; within a transaction of the caller's.
    pub fn forget(&self, images: &[Digest], trees: &[u64], living: &[u64]) -> Result<()> {
        let sql = "DELETE FROM pin WHERE session NOT IN (SELECT value FROM json_each(?1))";
        self.connection.execute(sql, [json(living)])?;
        for image in images {
            self.forget_image(image)?;
        }
        for tree in trees {
            self.connection.execute("DELETE FROM tree WHERE id = ?1", [tree])?;
        }
        Ok(())
    }

    /// Forgets layers without an image, a checkout or a living session's pin, and condemns objects without a layer.
    /// `living` tells the sessions that are alive, and is asked within the transaction: one that starts later finds
    /// nothing of what is condemned here.
    pub fn condemn(&mut self, living: impl FnOnce() -> Result<Vec<u64>>) -> Result<Dead> {
        self.write(|index| {
            let layers = unneeded(index, &living()?, &[], &[])?;
            for layer in &layers {
                index.execute("DELETE FROM layer WHERE id = ?1", [layer])?;
            }
            let (objects, bytes) = unreferenced(index, UNREFERENCED, [])?;
            let newest: u64 =
                index.query_row("SELECT value FROM counter WHERE name = 'session'", [], |row| row.get(0))?;
            index.execute(&format!("UPDATE object SET condemned = ?1 WHERE {UNREFERENCED}"), [newest])?;
            Ok(Dead { layers, objects, bytes })
        })
    }

    /// Takes the condemned objects out of the index that no session which is alive now can have found.
    pub fn take_condemned(&mut self, living: impl FnOnce() -> Result<Vec<u64>>) -> Result<Taken> {
        self.write(|index| {
            let before = oldest(&living()?);
            let sql = "SELECT id FROM object WHERE condemned IS NOT NULL AND condemned < ?1";
            let objects: Vec<ObjectId> =
                index.prepare(sql)?.query_map([before], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut delete = index.prepare("DELETE FROM object WHERE id = ?1")?;
            for object in &objects {
                delete.execute([object])?;
            }
            // A commit of something in any case: with it all that was committed before is on disk, by whomever, before
            // files go.
            index.execute("UPDATE counter SET value = value WHERE name = 'session'", [])?;
            Ok(Taken { objects, deferred: deferred(index, before)? })
        })
    }

    /// What condemning would find once these images and checkouts are forgotten; within a transaction of the caller's.
    pub fn foresee(&self, living: &[u64], images: &[Digest], trees: &[u64]) -> Result<Dead> {
        let layers = unneeded(&self.connection, living, images, trees)?;
        let (objects, bytes) = unreferenced(&self.connection, TO_BE_UNREFERENCED, [json(&layers)])?;
        Ok(Dead { layers, objects, bytes })
    }

    /// How many condemned objects must wait for these sessions to end.
    pub fn deferred(&self, living: &[u64]) -> Result<u64> {
        deferred(&self.connection, oldest(living))
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

/// Layers that only these images and checkouts, and no living session, need.
fn unneeded(index: &Connection, living: &[u64], images: &[Digest], trees: &[u64]) -> Result<Vec<u64>> {
    // Layers of a checkout in use whose image was removed stay too: their objects are what its stubs point at.
    let sql = "SELECT id FROM layer
               WHERE id NOT IN (SELECT layer FROM pin WHERE session IN (SELECT value FROM json_each(?1)))
               AND diff_id NOT IN (SELECT diff_id FROM image_layer
                                   WHERE image NOT IN (SELECT value FROM json_each(?2)))
               AND id NOT IN (SELECT layer FROM tree_layer WHERE tree NOT IN (SELECT value FROM json_each(?3)))";
    let images: Vec<String> = images.iter().map(Digest::to_string).collect();
    let mut statement = index.prepare(sql)?;
    let rows = statement.query_map([json(living), json(&images), json(trees)], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many objects a condition holds for, and the disk of those that are files.
fn unreferenced(index: &Connection, condition: &str, parameters: impl Params) -> Result<(u64, u64)> {
    let sql = format!(
        "SELECT count(*), coalesce(sum(disk) FILTER (WHERE id NOT IN (SELECT object FROM packed)), 0)
         FROM object WHERE {condition}"
    );
    Ok(index.query_row(&sql, parameters, |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The session before which condemned objects were condemned that may go.
fn oldest(living: &[u64]) -> i64 {
    living.iter().min().map_or(i64::MAX, |number| i64::try_from(*number).unwrap_or(i64::MAX))
}

fn deferred(index: &Connection, before: i64) -> Result<u64> {
    let sql = "SELECT count(*) FROM object WHERE condemned IS NOT NULL AND condemned >= ?1";
    Ok(index.query_row(sql, [before], |row| row.get(0))?)
}

/// A list for `json_each`.
fn json<T: Clone + Into<serde_json::Value>>(list: &[T]) -> String {
    serde_json::Value::from(list).to_string()
}
