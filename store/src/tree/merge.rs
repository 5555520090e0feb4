//! Applies a layer to a tree (OCI image specification, "Applying Changesets").
//!
//! Whiteouts come first, entries second, whatever their order in the layer: a whiteout hides what *lower* layers have,
//! never what its own layer adds. Parent directories are resolved within the tree, symbolic links included, as they
//! would be inside of the image; the last component is never followed.

use std::collections::VecDeque;

use super::{Inode, InodeId, InodeKind, Names, Tree};
use crate::layer::LayerError;
use crate::layer::entry::{Entry, EntryKind, Metadata};
use crate::layer::limits::{MEMBER_BYTES, metadata_bytes};
use crate::layer::path::EntryPath;
use crate::layer::whiteout::Change;
use crate::pool::ObjectId;

/// Symbolic links that one path may lead through, as `path_resolution(7)` has it.
const MOST_LINKS: usize = 40;
/// Steps that the paths of one layer may take within the targets of symbolic links, all together: a short link can stand
/// for two thousand components, and be gone through forty times for each of a million members.
const MOST_LINK_STEPS: u64 = 64 << 20;
/// Entries that are held together, some 4 MiB: large enough that their memory goes back to the system while the tree grows.
const CHUNK: usize = 1 << 15;
/// Most inodes of a tree.
const MOST_INODES: usize = u32::MAX as usize;

/// A layer that does not fit on those below it.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The layer itself cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A path that leads through too many symbolic links.
    #[error("{0}: too many levels of symbolic links in the image")]
    Loop(EntryPath),
    /// A path that leads through something that is no directory.
    #[error("{0}: a parent of it is not a directory in the image")]
    NotDirectory(EntryPath),
    /// A hard link to nothing, to itself, or to a directory.
    #[error("{path}: hard link to {target}, which {reason}")]
    Hardlink {
        /// The link.
        path: EntryPath,
        /// What it names.
        target: EntryPath,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// Paths that take too many steps within symbolic links.
    #[error("{path}: the paths of the layer lead through more than {limit} components of symbolic links")]
    Steps {
        /// The one that is too much.
        path: EntryPath,
        /// How many are accepted.
        limit: u64,
    },
    /// More metadata than is kept in memory.
    #[error("the layers of the image exceed the limit of {0} bytes of names and metadata; LSTORE_LIMITS can raise it")]
    Metadata(u64),
    /// More inodes than can be numbered.
    #[error("the image has more than {MOST_INODES} files")]
    TooMany,
}

/// Where a path leads: a directory and the name in it.
struct Place {
    directory: InodeId,
    name: Box<[u8]>,
}

impl Tree {
    /// Applies one layer.
    ///
    /// # Errors
    /// [`MergeError`]; the tree is then of no further use.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Result<Change, LayerError>>) -> Result<(), MergeError> {
        self.apply_in(changes, MOST_LINK_STEPS)
    }

    fn apply_in(
        &mut self,
        changes: impl IntoIterator<Item = Result<Change, LayerError>>,
        most_link_steps: u64,
    ) -> Result<(), MergeError> {
        let mut added: Vec<Vec<(Entry, Option<ObjectId>)>> = Vec::new();
        let mut hidden = Vec::new();
        (self.link_steps, self.most_link_steps) = (0, most_link_steps);
        for change in changes {
            match change? {
                Change::Add(entry, object) => {
                    self.count(metadata_bytes(&entry))?;
                    if added.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                        added.push(Vec::with_capacity(if added.is_empty() { 0 } else { CHUNK }));
                    }
                    if let Some(chunk) = added.last_mut() {
                        chunk.push((entry, object));
                    }
                }
                Change::Whiteout(path) => {
                    self.count(MEMBER_BYTES + path.as_bytes().len() as u64)?;
                    hidden.push(Change::Whiteout(path));
                }
                Change::Opaque(path) => {
                    self.count(MEMBER_BYTES + path.as_bytes().len() as u64)?;
                    hidden.push(Change::Opaque(path));
                }
            }
        }
        for change in hidden {
            match change {
                Change::Whiteout(path) => self.hide(&path)?,
                Change::Opaque(path) => self.clear(&path)?,
                Change::Add(..) => {}
            }
        }
        for (entry, object) in added.into_iter().flatten() {
            self.add(entry, object)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), MergeError> {
        self.metadata_bytes += bytes;
        if self.metadata_bytes > self.most_metadata { Err(MergeError::Metadata(self.most_metadata)) } else { Ok(()) }
    }

    fn hide(&mut self, path: &EntryPath) -> Result<(), MergeError> {
        if let Some(place) = self.place(path, false)? {
            self.remove(&place);
        }
        Ok(())
    }

    fn clear(&mut self, path: &EntryPath) -> Result<(), MergeError> {
        let directory = match self.place(path, false)? {
            None if path.is_root() => Some(Self::ROOT),
            None => None,
            Some(place) => self.child(&place),
        };
        let Some(directory) = directory else { return Ok(()) };
        if let InodeKind::Directory(names) = &mut self.inode_mut(directory).kind {
            let names = std::mem::take(names);
            self.release(names.into_values().collect());
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry, object: Option<ObjectId>) -> Result<(), MergeError> {
        let Entry { path, kind, metadata } = entry;
        let Some(place) = self.place(&path, true)? else {
            self.inode_mut(Self::ROOT).metadata = metadata;
            return Ok(());
        };
        let present = self.child(&place);
        if let EntryKind::Hardlink { target } = kind {
            return self.link(&path, target, &place, present);
        }
        let kind = match kind {
            EntryKind::Directory => {
                // A directory over a directory keeps what is in it; over anything else, a link to one included, it is new.
                if let Some(id) = present.filter(|&id| matches!(self.inode(id).kind, InodeKind::Directory(_))) {
                    self.inode_mut(id).metadata = metadata;
                    return Ok(());
                }
                InodeKind::Directory(Names::new())
            }
            EntryKind::Regular { size } => InodeKind::Regular { object, size },
            EntryKind::Symlink { target } => InodeKind::Symlink(target),
            EntryKind::CharDevice { major, minor } => InodeKind::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
            EntryKind::Fifo => InodeKind::Fifo,
            EntryKind::Hardlink { .. } => return Ok(()),
        };
        self.remove(&place);
        let id = self.new_inode(metadata, kind)?;
        self.attach(&place, id);
        Ok(())
    }

    fn link(
        &mut self,
        path: &EntryPath,
        target: EntryPath,
        place: &Place,
        present: Option<InodeId>,
    ) -> Result<(), MergeError> {
        let found = self.place(&target, false)?.and_then(|target| self.child(&target));
        let refuse = |target, reason| MergeError::Hardlink { path: path.clone(), target, reason };
        let Some(id) = found else { return Err(refuse(target, "is not there")) };
        if matches!(self.inode(id).kind, InodeKind::Directory(_)) {
            return Err(refuse(target, "is a directory"));
        }
        if present == Some(id) {
            // Already a name of that file, from a lower layer: nothing to change, unless it is the very same name.
            return if *path == target { Err(refuse(target, "is the link itself")) } else { Ok(()) };
        }
        self.remove(place);
        self.inode_mut(id).links += 1;
        self.attach(place, id);
        Ok(())
    }

    /// Resolves a path but for its last component. With `create`, missing parents are made; else a missing one gives
    /// `None`, as the root does.
    fn place(&mut self, path: &EntryPath, create: bool) -> Result<Option<Place>, MergeError> {
        let mut left: VecDeque<Box<[u8]>> = path.components().map(Box::from).collect();
        let Some(name) = left.pop_back() else { return Ok(None) };
        // The directories from the root to where we are, for ".." in links.
        let mut trail = vec![Self::ROOT];
        let mut links = 0;
        while let Some(component) = left.pop_front() {
            if links > 0 {
                self.link_steps += 1;
                if self.link_steps > self.most_link_steps {
                    return Err(MergeError::Steps { path: path.clone(), limit: self.most_link_steps });
                }
            }
            let here = *trail.last().unwrap_or(&Self::ROOT);
            match &*component {
                b"" | b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let step = Place { directory: here, name: component };
            let Some(id) = self.child(&step) else {
                if !create {
                    return Ok(None);
                }
                self.count(MEMBER_BYTES + step.name.len() as u64)?;
                let id = self
                    .new_inode(Metadata { mode: 0o755, ..Metadata::default() }, InodeKind::Directory(Names::new()))?;
                self.attach(&step, id);
                trail.push(id);
                continue;
            };
            match &self.inode(id).kind {
                InodeKind::Directory(_) => trail.push(id),
                InodeKind::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(MergeError::Loop(path.clone()));
                    }
                    if target.first() == Some(&b'/') {
                        trail.truncate(1);
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        left.push_front(part.into());
                    }
                }
                _ if create => return Err(MergeError::NotDirectory(path.clone())),
                _ => return Ok(None),
            }
        }
        let directory = *trail.last().unwrap_or(&Self::ROOT);
        Ok(Some(Place { directory, name }))
    }

    fn child(&self, place: &Place) -> Option<InodeId> {
        match &self.inode(place.directory).kind {
            InodeKind::Directory(names) => names.get(&place.name).copied(),
            _ => None,
        }
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    fn new_inode(&mut self, metadata: Metadata, kind: InodeKind) -> Result<InodeId, MergeError> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| MergeError::TooMany)?;
        self.inodes.push(Inode { metadata, kind, links: 1 });
        Ok(InodeId(id))
    }

    fn attach(&mut self, place: &Place, id: InodeId) {
        if let InodeKind::Directory(names) = &mut self.inode_mut(place.directory).kind {
            names.insert(place.name.clone(), id);
        }
    }

    fn remove(&mut self, place: &Place) {
        if let InodeKind::Directory(names) = &mut self.inode_mut(place.directory).kind
            && let Some(id) = names.remove(&place.name)
        {
            self.release(vec![id]);
        }
    }

    /// Takes one name from each inode, and all names below those that are directories. No recursion: the depth is the
    /// image's choice.
    fn release(&mut self, mut ids: Vec<InodeId>) {
        while let Some(id) = ids.pop() {
            let inode = self.inode_mut(id);
            inode.links -= 1;
            if let InodeKind::Directory(names) = &mut inode.kind {
                ids.extend(std::mem::take(names).into_values());
            }
        }
    }
}

#[cfg(test)]
mod tests;
