//! What makes a folder a store: a small file in it. `FORMAT.md` tells its form and who writes it when.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::index;
use crate::store::INDEX;
use crate::sys::dir::Dir;
use crate::sys::flock;

/// Name of the file.
pub(crate) const MARKER: &str = "lstore-store";
/// Its first line.
const FIRST_LINE: &str = "lstore store\n";
/// What its second line begins with.
const VERSION_WORD: &str = "version ";
/// The layout of files that this program knows.
const VERSION: u64 = 1;
/// More than this is not read of a file with the marker's name.
const LARGEST: u64 = 256;
/// What a file system that was made a moment ago has in its root.
const RECOVERED: &[u8] = b"lost+found";

/// What a folder is to a program that looks for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folder {
    /// Missing or empty: there is no store, and one may be made.
    Vacant,
    /// A store that was made before there were markers.
    Unmarked,
    /// A store.
    Marked,
}

/// What a marker says.
#[derive(Debug, PartialEq, Eq)]
enum Marker {
    Missing,
    /// A store is being made, or its maker was killed.
    Empty,
    Version(u64),
    Foreign,
}

fn parse(bytes: &[u8]) -> Marker {
    if bytes.is_empty() {
        return Marker::Empty;
    }
    let version = || {
        let (line, _) = std::str::from_utf8(bytes).ok()?.strip_prefix(FIRST_LINE)?.split_once('\n')?;
        crate::names::number(line.strip_prefix(VERSION_WORD)?.as_bytes(), 10)
    };
    version().map_or(Marker::Foreign, Marker::Version)
}

fn read(file: &File) -> io::Result<Marker> {
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

fn read_in(root: &Dir) -> io::Result<Marker> {
    match root.open_file(MARKER.as_bytes()) {
        Ok(file) => read(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Marker::Missing),
        // A folder, a link or a device with the marker's name.
        Err(error) if is_no_file(&error) => Ok(Marker::Foreign),
        Err(error) => Err(error),
    }
}

fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Says what the folder at `path` is; changes nothing.
///
/// # Errors
/// [`Error::NotAStore`] for a folder that has something else in it, [`Error::NewerStore`], or those of the file system.
pub(crate) fn look(path: &Path) -> Result<Folder> {
    match Dir::open(path) {
        Ok(root) => look_into(&root, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Folder::Vacant),
        Err(error) => Err(error).context("open the store at", path),
    }
}

fn look_into(root: &Dir, path: &Path) -> Result<Folder> {
    match read_in(root).context("read the marker of", path)? {
        Marker::Version(VERSION) => return Ok(Folder::Marked),
        Marker::Version(found) => return Err(newer(path, found)),
        Marker::Foreign => return Err(Error::NotAStore(path.to_path_buf())),
        Marker::Missing | Marker::Empty => {}
    }
    if is_empty(root).context("list", path)? {
        Ok(Folder::Vacant)
    } else if has_index(root, path).context("read the index of", path)? {
        Ok(Folder::Unmarked)
    } else {
        Err(Error::NotAStore(path.to_path_buf()))
    }
}

fn newer(path: &Path, found: u64) -> Error {
    Error::NewerStore { path: path.to_path_buf(), found, known: VERSION }
}

fn is_empty(root: &Dir) -> io::Result<bool> {
    Ok(root.entries()?.iter().all(|(name, kind)| {
        name == MARKER.as_bytes() || name == RECOVERED && matches!(kind, FileType::Directory | FileType::Unknown)
    }))
}

/// Whether the folder has an index of ours, by the header of its file, or where that is not written yet, by its log.
fn has_index(root: &Dir, path: &Path) -> io::Result<bool> {
    let file = match root.open_file(INDEX.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_file(&error) => return Ok(false),
        other => other?,
    };
    let mut header = Vec::with_capacity(index::HEADER);
    file.take(index::HEADER as u64).read_to_end(&mut header)?;
    if index::is_header_of_ours(&header) {
        return Ok(true);
    }
    let has_log = root.exists(format!("{INDEX}-wal").as_bytes())?;
    Ok(has_log && index::is_header(&header) && index::is_ours(&path.canonicalize()?.join(INDEX)))
}

/// Makes the folder of a store that is to be made, private to its owner; one that is there keeps its mode.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes the marker of a store that has none. Others may do so at the same time.
///
/// # Errors
/// Those of [`look`].
pub(crate) fn write(root: &Dir, path: &Path) -> Result<()> {
    let file = root.open_lock(MARKER.as_bytes()).context("create the marker of", path)?;
    flock::exclusive(&file).context("lock the marker of", path)?;
    match read(&file).context("read the marker of", path)? {
        Marker::Version(VERSION) => return Ok(()),
        Marker::Version(found) => return Err(newer(path, found)),
        Marker::Foreign => return Err(Error::NotAStore(path.to_path_buf())),
        Marker::Missing | Marker::Empty => {}
    }
    // Nobody makes anything in a store that has no marker yet: what is there now was there before.
    look_into(root, path)?;
    let text = format!("{FIRST_LINE}{VERSION_WORD}{VERSION}\n");
    let written = file.write_all_at(text.as_bytes(), 0).and_then(|()| file.sync_all());
    written.context("write the marker of", path)?;
    rustix::fs::fsync(root).context("sync", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_written_to_the_byte() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Dir::open(scratch.path()).unwrap();
        assert_eq!(look(scratch.path()).unwrap(), Folder::Vacant);
        write(&root, scratch.path()).unwrap();
        write(&root, scratch.path()).unwrap();
        let written = std::fs::read(scratch.path().join("lstore-store")).unwrap();
        assert_eq!(written, b"lstore store\nversion 1\n");
        assert_eq!(look(scratch.path()).unwrap(), Folder::Marked);
        let documented = include_str!("../FORMAT.md");
        assert!(documented.contains("\n    lstore store\n    version 1\n"));
    }

    #[test]
    fn only_a_number_that_is_known_is_accepted() {
        assert_eq!(parse(b"lstore store\nversion 1\nand more\n"), Marker::Version(1));
        assert_eq!(parse(b"lstore store\nversion 27\n"), Marker::Version(27));
        assert_eq!(parse(b""), Marker::Empty);
        for foreign in ["lstore store\nversion 1", "lstore store\nversion 01\n", "lstore store\n", "my notes\n", "\0\0"]
        {
            assert_eq!(parse(foreign.as_bytes()), Marker::Foreign, "{foreign}");
        }
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(MARKER), "lstore store\nversion 2\n").unwrap();
        assert!(matches!(look(scratch.path()), Err(Error::NewerStore { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_folder_is_vacant_with_what_a_new_file_system_or_a_killed_maker_leaves() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(look(&scratch.path().join("missing")).unwrap(), Folder::Vacant);
        std::fs::create_dir(scratch.path().join("lost+found")).unwrap();
        std::fs::write(scratch.path().join(MARKER), "").unwrap();
        assert_eq!(look(scratch.path()).unwrap(), Folder::Vacant);
        std::fs::write(scratch.path().join("thesis"), "").unwrap();
        assert!(matches!(look(scratch.path()), Err(Error::NotAStore(_))));
    }

    #[test]
    fn what_only_has_the_markers_name_is_foreign() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join(MARKER)).unwrap();
        assert!(matches!(look(scratch.path()), Err(Error::NotAStore(_))));
        std::fs::remove_dir(scratch.path().join(MARKER)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", scratch.path().join(MARKER)).unwrap();
        assert!(matches!(look(scratch.path()), Err(Error::NotAStore(_))));
    }

    #[test]
    fn an_index_of_another_program_makes_no_store() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(INDEX);
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (c)").unwrap();
        assert!(matches!(look(scratch.path()), Err(Error::NotAStore(_))));
        drop(other);
        std::fs::remove_file(&path).unwrap();
        let ours = index::Index::open(&path, index::Durability::Consistent).unwrap();
        // Its first transaction is in the log alone.
        assert_eq!(look(scratch.path()).unwrap(), Folder::Unmarked);
        drop(ours);
        assert_eq!(look(scratch.path()).unwrap(), Folder::Unmarked);
    }

    #[test]
    fn many_make_the_same_store_at_once() {
        for _ in 0..20 {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("a/b");
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        make_folder(&path).unwrap();
                        let root = Dir::open(&path).unwrap();
                        write(&root, &path).unwrap();
                        root.ensure_dir(b"objects", 0o700).unwrap();
                    });
                }
            });
            assert_eq!(look(&path).unwrap(), Folder::Marked);
        }
    }
}
