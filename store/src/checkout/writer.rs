//! Writes a tree into a directory.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::metadata::{Owners, apply};
use super::node::NodeKey;
use super::regular::{Placer, Regular};
use super::{Lost, Placement};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::pool::Pool;
use crate::sys::dir::Dir;
use crate::tree::{InodeId, InodeKind, Tree};

/// Writes trees by one placement.
#[derive(Debug)]
pub struct Writer<'a> {
    placer: Placer<'a>,
    owners: Owners,
}

/// Key and claim of every regular file's node, by inode.
type Nodes = HashMap<InodeId, (NodeKey, bool)>;

impl<'a> Writer<'a> {
    /// `nodes` is the store's `nodes/` for a checkout that may share inodes, none for an independent one.
    pub fn new(pool: &'a Pool, nodes: Option<&'a Dir>, placement: Placement, owners: Owners) -> Self {
        Self { placer: Placer::new(pool, nodes, placement), owners }
    }

    /// Writes the tree into `root`, an empty directory. What is there after an error is for the caller to remove.
    ///
    /// # Errors
    /// [`Error::OwnerUnmapped`], or those of the file system.
    pub fn write(mut self, tree: &Tree, index: &mut Index, root: &Dir) -> Result<Lost> {
        let nodes = self.plan(tree, index)?;
        let mut lost = Lost::default();
        let mut linked: HashMap<InodeId, Vec<u8>> = HashMap::new();
        let mut stack = vec![Level::enter(tree, Tree::ROOT, root.try_clone().map_err(at(b""))?, Vec::new())];
        while let Some(level) = stack.last_mut() {
            let Some((name, child)) = level.children.next() else {
                let path = path(&stack);
                if let Some(level) = stack.pop() {
                    let finished = self.finish(tree, &level, &mut lost);
                    finished.map_err(|failure| failure.explain(tree, level.id, &path))?;
                }
                continue;
            };
            let inode = tree.inode(child);
            if matches!(inode.kind, InodeKind::Directory(_)) {
                level.dir.make_dir(name, 0o700).map_err(at(name))?;
                let dir = level.dir.open_dir(name).map_err(at(name))?;
                stack.push(Level::enter(tree, child, dir, name.to_vec()));
                continue;
            }
            let made = match linked.get(&child) {
                Some(first) => link(root, first, &level.dir, name).map_err(Failure::Io),
                None => self.leaf(tree, child, nodes.get(&child).copied(), &level.dir, name, &mut lost),
            };
            // Spelled out only where it is needed: most files have one name and no error.
            let full_path = || [path(&stack), name.to_vec()].join(&b'/');
            made.map_err(|failure| failure.explain(tree, child, &full_path()))?;
            if inode.links > 1 && is_made_everywhere(&inode.kind) {
                linked.entry(child).or_insert_with(full_path);
            }
        }
        Ok(lost)
    }

    /// Gives every regular file its node's key, and for the hardlink placement asks which nodes the objects carry.
    fn plan(&self, tree: &Tree, index: &mut Index) -> Result<Nodes> {
        let kind = match self.placer.placement {
            Placement::Stub => b's',
            Placement::Hardlink => b'h',
            Placement::Reflink | Placement::Copy => return Ok(Nodes::new()),
        };
        if self.placer.nodes.is_none() {
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

    fn leaf(
        &mut self,
        tree: &Tree,
        id: InodeId,
        node: Option<(NodeKey, bool)>,
        dir: &Dir,
        name: &[u8],
        lost: &mut Lost,
    ) -> std::result::Result<(), Failure> {
        let inode = tree.inode(id);
        let (owner, mode) = self.owners.decide(&inode.metadata, lost).map_err(|_| Failure::Unmapped)?;
        let metadata = &inode.metadata;
        match &inode.kind {
            InodeKind::Directory(_) => return Ok(()),
            InodeKind::Regular { object: Some(object), size } => {
                let file = Regular { object: *object, size: *size, metadata, owner, mode };
                let (key, claimed) = node.map_or((None, false), |(key, claimed)| (Some(key), claimed));
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
            // A character device 0:0 would be a whiteout to the overlay that the tree is a layer of.
            InodeKind::CharDevice { major: 0, minor: 0 } => {
                return {
                    let _: () = lost.devices += 1;
                    Ok(())
                };
            }
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
    fn finish(&self, tree: &Tree, level: &Level<'_>, lost: &mut Lost) -> std::result::Result<(), Failure> {
        let metadata = &tree.inode(level.id).metadata;
        let (owner, mode) = self.owners.decide(metadata, lost).map_err(|_| Failure::Unmapped)?;
        Ok(apply(level.dir.as_fd(), metadata, owner, mode, lost)?)
    }
}

/// A directory that is being filled.
struct Level<'t> {
    id: InodeId,
    dir: Dir,
    name: Vec<u8>,
    children: Box<dyn Iterator<Item = (&'t [u8], InodeId)> + 't>,
}

impl<'t> Level<'t> {
    fn enter(tree: &'t Tree, id: InodeId, dir: Dir, name: Vec<u8>) -> Self {
        Self { id, dir, name, children: Box::new(tree.children(id)) }
    }
}

fn path(stack: &[Level<'_>]) -> Vec<u8> {
    stack.iter().skip(1).map(|level| level.name.as_slice()).collect::<Vec<_>>().join(&b'/')
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

enum Failure {
    Unmapped,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn explain(self, tree: &Tree, id: InodeId, path: &[u8]) -> Error {
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

fn at(path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    let path = PathBuf::from(format!("checkout:/{}", path.escape_ascii()));
    move |source| Error::Io { action: "write", path, source }
}
