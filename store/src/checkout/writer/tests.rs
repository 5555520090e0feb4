use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::index::Durability;
use crate::layer::LayerError;
use crate::layer::entry::{Entry, EntryKind, Metadata, Timestamp};
use crate::layer::path::EntryPath;
use crate::layer::whiteout::Change;
use crate::pool::{Ingest, NewObject, ObjectId, Packs};

/// What two checkouts of a tree must agree in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    path: String,
    mode: u32,
    links: u64,
    size: u64,
    mtime: (i64, i64),
    /// Content of a file, target of a link.
    content: Vec<u8>,
    /// The least path that leads to the same inode.
    alias: String,
}

fn metadata(mode: u32, seconds: i64) -> Metadata {
    Metadata { mode, mtime: Timestamp { seconds, nanoseconds: 7 }, ..Metadata::default() }
}

/// 1200 files in 60 directories, one below another and side by side, with every kind of inode and with links across.
fn changes(objects: &[(ObjectId, u64)]) -> Vec<std::result::Result<Change, LayerError>> {
    let mut changes = Vec::new();
    let mut add = |path: String, kind, metadata, object| {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        changes.push(Ok(Change::Add(Entry { path, kind, metadata }, object)));
    };
    for folder in 0..60 {
        let parent = if folder % 3 == 0 { String::new() } else { format!("d{}/", folder / 3 * 3) };
        let parent = format!("{parent}d{folder}");
        let mode = if folder % 5 == 0 { 0 } else { 0o2755 };
        add(parent.clone(), EntryKind::Directory, metadata(mode, 1000 + folder), None);
        for file in 0..20 {
            let path = format!("{parent}/f{file}");
            let (object, size) = objects[file % objects.len()];
            match file {
                0 if folder > 0 => {
                    let target = EntryPath::parse(b"d0/f1").unwrap();
                    add(path, EntryKind::Hardlink { target }, Metadata::default(), None);
                }
                2 => add(path, EntryKind::Regular { size: 0 }, metadata(0o600, 5), None),
                3 => add(path, EntryKind::Symlink { target: b"../f4".to_vec() }, metadata(0o777, 6), None),
                4 => add(path, EntryKind::Fifo, metadata(0o4711, 8), None),
                _ => add(path, EntryKind::Regular { size }, metadata(0o4444, 9), Some(object)),
            }
        }
    }
    changes
}

fn look(root: &Dir, at: &Path) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut first = HashMap::new();
    let mut stack = vec![(root.try_clone().unwrap(), String::new())];
    while let Some((dir, prefix)) = stack.pop() {
        for (name, kind) in dir.entries().unwrap() {
            let path = format!("{prefix}{}", name.escape_ascii());
            let info = std::fs::symlink_metadata(at.join(&path)).unwrap();
            let content = match kind {
                FileType::Directory => {
                    dir.set_mode(&name, 0o700).unwrap();
                    stack.push((dir.open_dir(&name).unwrap(), format!("{path}/")));
                    Vec::new()
                }
                FileType::Symlink => dir.read_link(&name).unwrap(),
                FileType::RegularFile => std::fs::read(at.join(&path)).unwrap(),
                _ => Vec::new(),
            };
            let alias = first.entry(info.ino()).or_insert_with(|| path.clone());
            if path < *alias {
                alias.clone_from(&path);
            }
            let links = if kind == FileType::Directory { 0 } else { info.nlink() };
            let (mode, size) = (info.mode(), if kind == FileType::Directory { 0 } else { info.size() });
            let mtime = (info.mtime(), info.mtime_nsec());
            seen.push((info.ino(), Seen { path, mode, links, size, mtime, content, alias: String::new() }));
        }
    }
    let mut seen: Vec<Seen> =
        seen.into_iter().map(|(inode, seen)| Seen { alias: first[&inode].clone(), ..seen }).collect();
    seen.sort();
    seen
}

fn written(placement: Placement, threads: usize) -> Vec<Seen> {
    let scratch = tempfile::tempdir().unwrap();
    let base = Dir::open(scratch.path()).unwrap();
    let path = scratch.path().join("index.db");
    let packs = Packs::new(base.ensure_dir(b"packs", 0o700).unwrap(), path.clone());
    let pool = Pool::new(base.ensure_dir(b"objects", 0o700).unwrap(), packs);
    let open = || Index::open(&path, Durability::Consistent).unwrap();
    let mut ingest = Ingest::start(&pool, open(), 1).unwrap();
    let objects: Vec<_> =
        (1_u8..8).map(|byte| ingest.put(&mut vec![byte; usize::from(byte) * 900].as_slice()).unwrap()).collect();
    let mut index = open();
    let new: Vec<NewObject> = ingest.new_objects().to_vec();
    index
        .insert_layer(
            1,
            &crate::index::layers::NewLayer {
                layer: crate::index::layers::StoredLayer { id: 1, diff_id: crate::digest::Digest::of(b""), size: 0 },
                blob: None,
                boot: None,
                new: &new,
                objects: &[],
            },
        )
        .unwrap()
        .unwrap();
    ingest.keep().unwrap();
    let mut tree = Tree::new();
    tree.apply(changes(&objects)).unwrap();
    let nodes = base.ensure_dir(b"nodes", 0o700).unwrap();
    let root = base.ensure_dir(b"root", 0o700).unwrap();
    let shares = matches!(placement, Placement::Stub | Placement::Hardlink);
    let writer = Writer::new(&pool, shares.then_some(&nodes), placement, Owners::Caller);
    let lost = writer.write_with(threads, &tree, &mut index, &root).unwrap();
    assert!(lost.is_nothing(), "{lost:?}");
    let seen = look(&root, &scratch.path().join("root"));
    assert_eq!(seen.len(), tree.len() - 1);
    seen
}

#[test]
fn several_threads_write_what_one_writes() {
    for placement in [Placement::Copy, Placement::Hardlink, Placement::Stub] {
        let one = written(placement, 1);
        let alias = &one.iter().find(|seen| seen.path == "d0/f1").unwrap().alias;
        let shared = one.iter().filter(|seen| seen.alias == *alias).count();
        assert_eq!(shared, 60, "the names of the hard-linked file by {placement}");
        for _ in 0..4 {
            assert_eq!(written(placement, 4), one, "{placement}");
        }
    }
}

#[test]
fn an_error_in_one_thread_ends_all_and_names_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let base = Dir::open(scratch.path()).unwrap();
    let path = scratch.path().join("index.db");
    let mut index = Index::open(&path, Durability::Consistent).unwrap();
    let packs = Packs::new(base.ensure_dir(b"packs", 0o700).unwrap(), path);
    let pool = Pool::new(base.ensure_dir(b"objects", 0o700).unwrap(), packs);
    let mut tree = Tree::new();
    // Contents that the pool has not.
    tree.apply(changes(&[(ObjectId::new(9, 9), 5)])).unwrap();
    for threads in [1, 4] {
        let root = base.ensure_dir(format!("root{threads}").as_bytes(), 0o700).unwrap();
        let writer = Writer::new(&pool, None, Placement::Copy, Owners::Caller);
        let error = writer.write_with(threads, &tree, &mut index, &root).unwrap_err().to_string();
        assert!(error.contains("checkout:/d") && error.contains("/f"), "{error}");
    }
}

#[test]
fn a_whiteout_in_the_shape_of_a_device_is_made_nowhere() {
    let scratch = tempfile::tempdir().unwrap();
    let base = Dir::open(scratch.path()).unwrap();
    let path = scratch.path().join("index.db");
    let mut index = Index::open(&path, Durability::Consistent).unwrap();
    let packs = Packs::new(base.ensure_dir(b"packs", 0o700).unwrap(), path);
    let pool = Pool::new(base.ensure_dir(b"objects", 0o700).unwrap(), packs);
    let mut tree = Tree::new();
    let add = |path: &str, kind| {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        Ok(Change::Add(Entry { path, kind, metadata: metadata(0o600, 1) }, None))
    };
    let target = EntryPath::parse(b"w").unwrap();
    let device = EntryKind::CharDevice { major: 0, minor: 0 };
    tree.apply([add("w", device), add("v", EntryKind::Hardlink { target })]).unwrap();
    let root = base.ensure_dir(b"root", 0o700).unwrap();
    let writer = Writer::new(&pool, None, Placement::Copy, Owners::Caller);
    let lost = writer.write(&tree, &mut index, &root).unwrap();
    assert_eq!((lost.whiteouts, lost.devices), (2, 0));
    assert!(root.entries().unwrap().is_empty());
    for (numbers, kind) in [
        ((0, 0), FileType::CharacterDevice),
        ((4104, 0), FileType::CharacterDevice),
        ((8, 1 << 20), FileType::BlockDevice),
    ] {
        assert_eq!(root.make_node(b"n", kind, 0o600, numbers).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
