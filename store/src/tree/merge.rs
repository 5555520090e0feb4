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
/// Entries that are held together, so that their memory is given back while the tree grows.
const CHUNK: usize = 4096;
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
                    match added.last_mut().filter(|chunk| chunk.len() < CHUNK) {
                        Some(chunk) => chunk.push((entry, object)),
                        None => {
                            let mut chunk = Vec::with_capacity(if added.is_empty() { 0 } else { CHUNK });
                            chunk.push((entry, object));
                            added.push(chunk);
                        }
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
mod tests {
    use super::*;
    use crate::layer::whiteout::{Meaning, meaning};

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    fn entry(text: &str, kind: EntryKind) -> Result<Change, LayerError> {
        let path = path(text);
        Ok(match meaning(&path)? {
            Meaning::Whiteout(path) => Change::Whiteout(path),
            Meaning::Opaque(path) => Change::Opaque(path),
            _ => {
                let object = matches!(kind, EntryKind::Regular { .. }).then_some(ObjectId(text.len() as u64));
                Change::Add(Entry { path, kind, metadata: Metadata::default() }, object)
            }
        })
    }

    fn file(text: &str) -> Result<Change, LayerError> {
        entry(text, EntryKind::Regular { size: 1 })
    }

    fn dir(text: &str) -> Result<Change, LayerError> {
        entry(text, EntryKind::Directory)
    }

    fn link(text: &str, target: &str) -> Result<Change, LayerError> {
        entry(text, EntryKind::Symlink { target: target.into() })
    }

    fn hard(text: &str, target: &str) -> Result<Change, LayerError> {
        entry(text, EntryKind::Hardlink { target: path(target) })
    }

    /// All paths of a tree.
    fn paths(tree: &Tree) -> Vec<String> {
        let mut paths = Vec::new();
        let mut stack = vec![(Tree::ROOT, String::new())];
        while let Some((id, prefix)) = stack.pop() {
            for (name, child) in tree.children(id) {
                let path = format!("{prefix}{}", name.escape_ascii());
                stack.push((child, format!("{path}/")));
                paths.push(path);
            }
        }
        paths.sort();
        paths
    }

    fn merged(layers: Vec<Vec<Result<Change, LayerError>>>) -> Result<Tree, MergeError> {
        let mut tree = Tree::new();
        for layer in layers {
            tree.apply(layer)?;
        }
        Ok(tree)
    }

    #[test]
    fn whiteouts_hide_lower_layers_only_whatever_the_order() {
        for upper in [vec![file("d/.wh.a"), file("d/a")], vec![file("d/a"), file("d/.wh.a")]] {
            let tree = merged(vec![vec![file("d/a"), file("d/b")], upper]).unwrap();
            assert_eq!(paths(&tree), ["d", "d/a", "d/b"]);
        }
        let tree = merged(vec![vec![file("d/a"), file("d/b")], vec![file("d/new"), file("d/.wh..wh..opq")]]).unwrap();
        assert_eq!(paths(&tree), ["d", "d/new"]);
    }

    #[test]
    fn a_whiteout_of_a_link_spares_its_target() {
        let tree = merged(vec![vec![file("t"), link("l", "t")], vec![file(".wh.l")]]).unwrap();
        assert_eq!(paths(&tree), ["t"]);
    }

    #[test]
    fn entries_land_behind_directory_links_as_merged_usr_needs() {
        let tree = merged(vec![vec![dir("usr/lib"), link("lib", "usr/lib")], vec![file("lib/x")]]).unwrap();
        assert_eq!(paths(&tree), ["lib", "usr", "usr/lib", "usr/lib/x"]);
    }

    #[test]
    fn links_that_lead_out_stay_inside() {
        let tree =
            merged(vec![vec![link("d", "/etc"), link("e", "../../../etc")], vec![file("d/passwd"), file("e/group")]]);
        assert_eq!(paths(&tree.unwrap()), ["d", "e", "etc", "etc/group", "etc/passwd"]);
    }

    #[test]
    fn link_loops_end_in_an_error() {
        let result = merged(vec![vec![link("a", "b"), link("b", "a"), file("a/x")]]);
        assert!(matches!(result, Err(MergeError::Loop(_))));
    }

    #[test]
    fn a_directory_replaces_a_link_and_a_file_replaces_a_directory() {
        let tree = merged(vec![vec![dir("t"), file("t/x"), link("l", "t")], vec![dir("l")]]).unwrap();
        assert_eq!(paths(&tree), ["l", "t", "t/x"]);
        let tree = merged(vec![vec![dir("t"), file("t/x")], vec![file("t")]]).unwrap();
        assert_eq!(paths(&tree), ["t"]);
        assert_eq!(tree.inodes().count(), 2);
    }

    #[test]
    fn hard_links_share_an_inode_until_a_name_is_replaced() {
        let tree = merged(vec![vec![file("a"), hard("b", "/a")], vec![hard("c", "a")], vec![file("a")]]).unwrap();
        let links: Vec<u32> = tree.children(Tree::ROOT).map(|(_, id)| tree.inode(id).links).collect();
        assert_eq!((paths(&tree), links), (vec!["a".into(), "b".into(), "c".into()], vec![1, 2, 2]));
    }

    #[test]
    fn hard_links_to_nothing_to_directories_and_to_themselves_are_refused() {
        for layer in [vec![hard("b", "a"), file("a")], vec![dir("a"), hard("b", "a")], vec![file("a"), hard("a", "a")]]
        {
            assert!(matches!(merged(vec![layer]), Err(MergeError::Hardlink { .. })));
        }
    }

    #[test]
    fn a_tree_is_no_larger_than_its_limit_whatever_the_number_of_layers() {
        let mut tree = Tree::within(MEMBER_BYTES * 10);
        tree.apply(vec![file("a"), file("b"), file(".wh.c")]).unwrap();
        tree.apply(vec![file("d")]).unwrap();
        // Six members more by one path, whose parents are made.
        let said = tree.apply(vec![file("e/f/g/h/i/j")]).unwrap_err();
        assert!(matches!(said, MergeError::Metadata(_)), "{said}");
    }

    #[test]
    fn links_that_stand_for_many_components_are_gone_through_so_often_only() {
        // Links one behind another, each with a target of two thousand components.
        let chain = (1..38).map(|number| link(&format!("l{number}"), &format!("{}l{}", "./".repeat(2000), number - 1)));
        let files = (0..100).map(|number| file(&format!("l37/{number}")));
        let mut all = vec![dir("d"), link("l0", "d")];
        all.extend(chain);
        all.extend(files);
        let said = Tree::new().apply_in(all, 1 << 20).unwrap_err();
        assert!(matches!(said, MergeError::Steps { .. }), "{said}");
    }

    #[test]
    fn missing_parents_are_made_and_files_are_no_parents() {
        assert_eq!(paths(&merged(vec![vec![file("a/b/c")]]).unwrap()), ["a", "a/b", "a/b/c"]);
        assert!(matches!(merged(vec![vec![file("a"), file("a/b")]]), Err(MergeError::NotDirectory(_))));
    }
}
