//! Writes a tree into a directory.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;

use super::crew::{self, HandOver};
use super::metadata::{Owners, apply};
use super::node::NodeKey;
use super::regular::{Folders, Placer, Regular};
use super::{Lost, Placement};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::pool::Pool;
use crate::sys::dir::Dir;
use crate::tree::{InodeId, InodeKind, Tree};

/// Most files that one thread takes at once.
const FILES: usize = 256;
/// Folders above one that is being filled, all of which are held open. Few images have any deeper.
const NEAR: usize = 24;

/// Writes trees by one placement.
#[derive(Debug)]
pub struct Writer<'a> {
    pool: &'a Pool,
    nodes: Option<&'a Dir>,
    placement: Placement,
    owners: Owners,
}

/// Key and claim of every regular file's node, by inode.
type Nodes = HashMap<InodeId, (NodeKey, bool)>;

impl<'a> Writer<'a> {
    /// `nodes` is the store's `nodes/` for a checkout that may share inodes, none for an independent one.
    pub fn new(pool: &'a Pool, nodes: Option<&'a Dir>, placement: Placement, owners: Owners) -> Self {
        Self { pool, nodes, placement, owners }
    }

    /// Writes the tree into `root`, an empty directory. What is there after an error is for the caller to remove.
    ///
    /// # Errors
    /// [`Error::OwnerUnmapped`], or those of the file system.
    pub fn write(self, tree: &Tree, index: &mut Index, root: &Dir) -> Result<Lost> {
        self.write_with(crew::threads(tree.len()), tree, index, root)
    }

    fn write_with(self, threads: usize, tree: &Tree, index: &mut Index, root: &Dir) -> Result<Lost> {
        let nodes = self.plan(tree, index)?;
        let folders = self.nodes.map(Folders::new);
        let linked = Mutex::default();
        let hand = || Hand {
            placer: Placer::new(self.pool, folders.as_ref(), self.placement),
            owners: &self.owners,
            tree,
            root,
            nodes: &nodes,
            linked: &linked,
            lost: Lost::default(),
        };
        let dir = root.try_clone().map_err(at(b""))?;
        let first = Level { id: Tree::ROOT, dir, name: b"", depth: 0, parent: None };
        crew::work(threads, hand, |hand, hand_over| hand.walk(first, hand_over), Hand::fill).map(|hands| {
            hands.into_iter().fold(Lost::default(), |mut all, hand| {
                all += hand.lost;
                all
            })
        })
    }

    /// Gives every regular file its node's key, and for the hardlink placement asks which nodes the objects carry.
    fn plan(&self, tree: &Tree, index: &mut Index) -> Result<Nodes> {
        let kind = match self.placement {
            Placement::Stub => b's',
            Placement::Hardlink => b'h',
            Placement::Reflink | Placement::Copy => return Ok(Nodes::new()),
        };
        if self.nodes.is_none() {
            return Ok(Nodes::new());
        }
        let mut alike: HashMap<NodeKey, u32> = HashMap::new();
        let mut keys = Vec::new();
        for (id, inode) in tree.inodes() {
            let InodeKind::Regular { object: Some(object), size } = inode.kind else { continue };
            let key = NodeKey::new(kind, object, &inode.metadata, size, 0);
            let ordinal = alike.entry(key).or_insert(0);
            let own = if *ordinal == 0 { key } else { NodeKey::new(kind, object, &inode.metadata, size, *ordinal) };
            *ordinal += 1;
            keys.push((id, object, own));
        }
        let claims = if kind == b'h' {
            index.claim(&keys.iter().map(|(_, object, key)| (*object, key.0)).collect::<Vec<_>>())?
        } else {
            vec![false; keys.len()]
        };
        Ok(keys.into_iter().zip(claims).map(|((id, _, key), claimed)| (id, (key, claimed))).collect())
    }
}

/// What one thread works with.
pub(super) struct Hand<'t> {
    placer: Placer<'t>,
    owners: &'t Owners,
    pub(super) tree: &'t Tree,
    root: &'t Dir,
    nodes: &'t Nodes,
    /// Where the first name of an inode with several names was made.
    linked: &'t Mutex<HashMap<InodeId, Vec<u8>>>,
    lost: Lost,
}

/// Some of the files of a directory.
struct Files<'t> {
    level: Arc<Level<'t>>,
    names: Vec<(&'t [u8], InodeId)>,
}

impl<'t> Hand<'t> {
    /// Makes all directories, and hands over the files in them. The order in which files are made is nobody's concern:
    /// a directory gets its metadata from whoever makes the last thing in it.
    fn walk(&mut self, first: Level<'t>, hand_over: &mut HandOver<'_, Self, Files<'t>>) -> Result<()> {
        let mut levels = vec![first];
        let mut waiting: Vec<(Arc<Level<'t>>, &'t [u8], InodeId)> = Vec::new();
        while let Some(level) = levels.pop() {
            let level = Arc::new(level);
            let mut names = Vec::new();
            for (name, child) in self.tree.children(level.id) {
                if matches!(self.tree.inode(child).kind, InodeKind::Directory(_)) {
                    waiting.push((Arc::clone(&level), name, child));
                    continue;
                }
                names.push((name, child));
                if names.len() == FILES {
                    hand_over(self, Files { level: Arc::clone(&level), names: std::mem::take(&mut names) })?;
                }
            }
            hand_over(self, Files { level, names })?;
            while let Some((parent, name, id)) = waiting.pop() {
                if parent.depth < NEAR {
                    let made = parent.dir.make_dir(name, 0o700).and_then(|()| parent.dir.open_dir(name));
                    let dir = made.map_err(|error| at(&parent.path(name))(error))?;
                    levels.push(Level { id, dir, name, depth: parent.depth + 1, parent: Some(parent) });
                    break;
                }
                self.make_deep(&parent.dir, name, id, parent.path(name))?;
                self.leave(parent)?;
            }
        }
        Ok(())
    }

    /// Makes files of one directory.
    fn fill(&mut self, files: Files<'t>) -> Result<()> {
        let Files { level, names } = files;
        for (name, id) in names {
            // Spelled out only where it is needed: most files have no error.
            self.file(id, &level.dir, name, || level.path(name))
                .map_err(|failure| failure.explain(self.tree, id, &level.path(name)))?;
        }
        self.leave(level)
    }

    /// Makes one name of what is no directory. Of an inode that has several, the inode is made with the first, whichever
    /// that is, and links with the others.
    pub(super) fn file(
        &mut self,
        id: InodeId,
        dir: &Dir,
        name: &[u8],
        path: impl FnOnce() -> Vec<u8>,
    ) -> std::result::Result<(), Failure> {
        let inode = self.tree.inode(id);
        if inode.links < 2 || !is_made_everywhere(&inode.kind) {
            return self.leaf(id, dir, name);
        }
        // Held while the inode is made, so that nobody else takes a further name for the first one.
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = linked.get(&id) {
            return Ok(link(self.root, first, dir, name)?);
        }
        self.leaf(id, dir, name)?;
        linked.insert(id, path());
        Ok(())
    }

    /// Finishes a directory that nobody else works in any more, and those above it for which that was the last. No
    /// recursion: the depth is the image's choice.
    fn leave(&mut self, level: Arc<Level<'t>>) -> Result<()> {
        let mut left = Some(level);
        while let Some(level) = left.and_then(Arc::into_inner) {
            self.finish(level.id, &level.dir)
                .map_err(|failure| failure.explain(self.tree, level.id, &level.own_path()))?;
            left = level.parent;
        }
        Ok(())
    }

    fn leaf(&mut self, id: InodeId, dir: &Dir, name: &[u8]) -> std::result::Result<(), Failure> {
        let lost = &mut self.lost;
        let inode = self.tree.inode(id);
        let (owner, mode) = self.owners.decide(&inode.metadata, lost).map_err(|_| Failure::Unmapped)?;
        let metadata = &inode.metadata;
        match &inode.kind {
            InodeKind::Directory(_) => return Ok(()),
            InodeKind::Regular { object: Some(object), size } => {
                let file = Regular { object: *object, size: *size, metadata, owner, mode };
                let node = self.nodes.get(&id);
                let (key, claimed) = node.map_or((None, false), |(key, claimed)| (Some(*key), *claimed));
                self.placer.place(file, key, claimed, dir, name, lost)?;
            }
            InodeKind::Regular { object: None, .. } => {
                apply(dir.create_new(name, 0o600)?, metadata, owner, mode, lost)?;
            }
            InodeKind::Symlink(target) => {
                dir.symlink(target, name)?;
                if let Some((uid, gid)) = owner {
                    dir.set_owner(name, uid, gid)?;
                }
                lost.xattrs += metadata.xattrs.len() as u64;
                dir.set_mtime(name, metadata.mtime.seconds, metadata.mtime.nanoseconds)?;
            }
            InodeKind::Fifo => special(dir, name, FileType::Fifo, (0, 0), inode, owner, mode)?,
            // It would be a whiteout to the overlay that the tree is a layer of.
            InodeKind::CharDevice { major: 0, minor: 0 } => lost.whiteouts += 1,
            InodeKind::CharDevice { major, minor } => {
                let made = special(dir, name, FileType::CharacterDevice, (*major, *minor), inode, owner, mode);
                return device(made, lost);
            }
            InodeKind::BlockDevice { major, minor } => {
                let made = special(dir, name, FileType::BlockDevice, (*major, *minor), inode, owner, mode);
                return device(made, lost);
            }
        }
        Ok(())
    }

    /// A directory gets its metadata when all is in it: its mode may forbid entry, its time must not move again.
    pub(super) fn finish(&mut self, id: InodeId, dir: &Dir) -> std::result::Result<(), Failure> {
        let metadata = &self.tree.inode(id).metadata;
        let (owner, mode) = self.owners.decide(metadata, &mut self.lost).map_err(|_| Failure::Unmapped)?;
        Ok(apply(dir.as_fd(), metadata, owner, mode, &mut self.lost)?)
    }
}

/// A directory that is being filled. Who makes something in it, or in a directory below it, holds it until that is done.
struct Level<'t> {
    id: InodeId,
    dir: Dir,
    name: &'t [u8],
    /// Folders above it.
    depth: usize,
    parent: Option<Arc<Self>>,
}

impl Level<'_> {
    /// Path of a name in it.
    fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut components = vec![name];
        let mut level = Some(self);
        while let Some(here) = level {
            components.push(here.name);
            level = here.parent.as_deref();
        }
        // The root's own name is empty.
        components.pop();
        components.reverse();
        components.join(&b'/')
    }

    fn own_path(&self) -> Vec<u8> {
        self.parent.as_ref().map_or_else(Vec::new, |parent| parent.path(self.name))
    }
}

/// Devices may be left out, and then there is nothing to link to: each of their names is tried anew.
fn is_made_everywhere(kind: &InodeKind) -> bool {
    matches!(kind, InodeKind::Regular { .. } | InodeKind::Symlink(_) | InodeKind::Fifo)
}

/// Links the file that was made at `first`, a path of this tree's own directories, once more.
fn link(root: &Dir, first: &[u8], dir: &Dir, name: &[u8]) -> io::Result<()> {
    let mut components: Vec<&[u8]> = first.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
    let last = components.pop().ok_or(io::ErrorKind::NotFound)?;
    let mut folder = root.try_clone()?;
    for component in components {
        folder = folder.open_dir(component)?;
    }
    folder.link(last, dir, name)
}

fn special(
    dir: &Dir,
    name: &[u8],
    kind: FileType,
    numbers: (u32, u32),
    inode: &crate::tree::Inode,
    owner: Option<(u32, u32)>,
    mode: u32,
) -> io::Result<()> {
    dir.make_node(name, kind, 0o600, numbers)?;
    if let Some((uid, gid)) = owner {
        dir.set_owner(name, uid, gid)?;
    }
    dir.set_mode(name, mode)?;
    dir.set_mtime(name, inode.metadata.mtime.seconds, inode.metadata.mtime.nanoseconds)
}

fn device(made: io::Result<()>, lost: &mut Lost) -> std::result::Result<(), Failure> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            lost.devices += 1;
            Ok(())
        }
        other => Ok(other?),
    }
}

pub(super) enum Failure {
    Unmapped,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    pub(super) fn explain(self, tree: &Tree, id: InodeId, path: &[u8]) -> Error {
        match self {
            Self::Unmapped => {
                let metadata = &tree.inode(id).metadata;
                let path = path.escape_ascii().to_string();
                Error::OwnerUnmapped { path, uid: metadata.uid, gid: metadata.gid }
            }
            Self::Io(source) => at(path)(source),
        }
    }
}

pub(super) fn at(path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    let path = PathBuf::from(format!("checkout:/{}", path.escape_ascii()));
    move |source| Error::Io { action: "write", path, source }
}

#[cfg(test)]
mod tests;
