//! The parts of a tree that lie so deep that not every folder above them can be held open: made by one thread.

use super::writer::{Hand, at};
use crate::error::Result;
use crate::sys::dir::Dir;
use crate::sys::walk::Walk;
use crate::tree::{InodeId, InodeKind};

/// A folder that is being filled, and what is still to be made in it.
struct Folder<'t> {
    id: InodeId,
    children: Box<dyn Iterator<Item = (&'t [u8], InodeId)> + 't>,
    /// Bytes of its path.
    path: usize,
}

impl Hand<'_> {
    /// Makes the directory `path`, whose name in `parent` is `name`, with all that is in it.
    pub(super) fn make_deep(&mut self, parent: &Dir, name: &[u8], id: InodeId, mut path: Vec<u8>) -> Result<()> {
        let made = make(parent, name).map_err(|error| at(&path)(error))?;
        let tree = self.tree;
        let folder = |id, path| Folder { id, children: Box::new(tree.children(id)), path };
        let first = folder(id, path.len());
        let mut walk = Walk::new(made, first).map_err(|error| at(&path)(error))?;
        while let Some((dir, here)) = walk.here() {
            path.truncate(here.path);
            let Some((name, child)) = here.children.next() else {
                // Upwards first: its own mode may close it.
                let left = walk.leave().map_err(|error| at(&path)(error))?;
                if let Some((dir, Folder { id, .. })) = left {
                    self.finish(id, &dir).map_err(|failure| failure.explain(tree, id, &path))?;
                }
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(name);
            if matches!(tree.inode(child).kind, InodeKind::Directory(_)) {
                let deeper = make(dir, name).map_err(|error| at(&path)(error))?;
                walk.enter(deeper, folder(child, path.len())).map_err(|error| at(&path)(error))?;
            } else {
                self.file(child, dir, name, || path.clone()).map_err(|failure| failure.explain(tree, child, &path))?;
            }
        }
        Ok(())
    }
}

fn make(parent: &Dir, name: &[u8]) -> std::io::Result<Dir> {
    parent.make_dir(name, 0o700)?;
    parent.open_dir(name)
}
