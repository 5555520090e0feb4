//! What is in the store's folders and is not the store's: nothing of it is ever removed.

use std::io;

use crate::ballast::BALLAST;
use crate::error::{Context, Result};
use crate::marker::MARKER;
use crate::names;
use crate::store::{INDEX, Store};
use crate::sys::dir::Dir;

/// Names at the top of a store.
const TOP: [&str; 16] = [
    MARKER,
    BALLAST,
    "boot",
    "boot.new",
    "roots",
    "objects",
    "packs",
    "layers",
    "trees",
    "nodes",
    "locks",
    "sessions",
    "starts",
    "tmp",
    "lost+found",
    INDEX,
];
/// What is in these is the runner's.
const RUNNERS: [&str; 3] = ["containers", "volumes", "secrets"];
/// What SQLite keeps beside the index.
const BESIDE_INDEX: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Tells whether a name in a folder is the store's.
type IsOwn = fn(&[u8]) -> bool;

/// The folders whose names are all of one form.
const FOLDERS: [(&str, IsOwn); 9] = [
    ("objects", |name| names::number(name, 16).is_some()),
    ("packs", |name| names::number(name, 10).is_some() || names::is_unnamed(name)),
    ("layers", |name| names::number(name, 16).is_some()),
    ("trees", |name| names::number(name, 10).is_some()),
    ("nodes", names::is_node_folder),
    ("locks", names::is_lock),
    ("sessions", |name| names::number(name, 10).is_some()),
    ("starts", names::is_start),
    ("tmp", names::is_scratch),
];

/// The folders with folders of one form in them.
const DEEPER: [(&str, IsOwn); 2] = [("objects", names::is_object), ("nodes", names::is_node)];

fn is_top(name: &[u8]) -> bool {
    let is = |own: &&str| own.as_bytes() == name;
    let beside = name.strip_prefix(INDEX.as_bytes());
    TOP.iter().chain(&RUNNERS).any(is)
        || beside.is_some_and(|rest| BESIDE_INDEX.iter().any(|own| own.as_bytes() == rest))
}

impl Store {
    /// Paths below the store of what has no name of the store's own form, escaped for reading. The folders of the runner are
    /// not looked into.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn foreign(&self) -> Result<Vec<String>> {
        let root = Dir::open(self.path()).context("open", self.path())?;
        let mut foreign = Vec::new();
        list(&root, "", is_top, &mut foreign).context("list", self.path())?;
        for (name, is_own) in FOLDERS {
            let path = self.path().join(name);
            let Some(folder) = open(&root, name.as_bytes()).context("open", &path)? else { continue };
            list(&folder, name, is_own, &mut foreign).context("list", &path)?;
            let Some((_, is_own_deeper)) = DEEPER.iter().find(|(deeper, _)| *deeper == name) else { continue };
            for (inner, _) in folder.entries().context("list", &path)?.iter().filter(|(inner, _)| is_own(inner)) {
                let Some(deeper) = open(&folder, inner).context("open", &path)? else { continue };
                let place = format!("{name}/{}", String::from_utf8_lossy(inner));
                list(&deeper, &place, *is_own_deeper, &mut foreign).context("list", &path)?;
            }
        }
        foreign.sort();
        Ok(foreign)
    }
}

/// A folder, unless it has gone or is none.
fn open(parent: &Dir, name: &[u8]) -> io::Result<Option<Dir>> {
    match parent.open_dir(name) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        other => other.map(Some),
    }
}

fn list(folder: &Dir, place: &str, is_own: IsOwn, foreign: &mut Vec<String>) -> io::Result<()> {
    let names = folder.entries()?.into_iter().map(|(name, _)| name).filter(|name| !is_own(name));
    let slash = if place.is_empty() { "" } else { "/" };
    foreign.extend(names.map(|name| format!("{place}{slash}{}", name.escape_ascii())));
    Ok(())
}
