//! Programs that run with the rights of their owner, in a directory that is not the store's own: others may enter it.
//!
//! The store is closed to others, so that its checkouts can have what the image has. Elsewhere a setuid file of the image's
//! root, who is the caller, would be a door to the caller's account for every user of the machine.

use crate::sys::kernel::MappedIds;
use crate::tree::{InodeKind, Tree};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
/// Attribute with a file's capabilities (`capabilities(7)`).
const CAPABILITY: &[u8] = b"security.capability";

/// What becomes of set-id bits and file capabilities in a checkout into a directory of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetId {
    /// Those are left off that would lend the caller's rights: of files that become the caller's; for real root, whose
    /// checkouts have the host's ids, all, and capabilities too. Those of other users in a namespace of the caller's own hold
    /// there only.
    Off,
    /// All are kept. Real root alone may ask for it.
    Kept,
}

/// Takes them off in a tree; how many files had any.
pub(crate) fn take_off(tree: &mut Tree, users: &MappedIds) -> u64 {
    let are_hosts = users.are_hosts();
    let mut count = 0;
    for inode in tree.inodes_mut() {
        if !matches!(inode.kind, InodeKind::Regular { .. }) {
            continue;
        }
        let metadata = &mut inode.metadata;
        let off = if are_hosts || metadata.uid == 0 { SETUID } else { 0 }
            | if are_hosts || metadata.gid == 0 { SETGID } else { 0 };
        let had_capability = are_hosts && metadata.xattrs.remove(CAPABILITY).is_some();
        count += u64::from(metadata.mode & off != 0 || had_capability);
        metadata.mode &= !off;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::{Entry, EntryKind, Metadata};
    use crate::layer::path::EntryPath;
    use crate::layer::whiteout::Change;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let member = |name: &str, kind, uid, gid| {
            let xattrs = [(CAPABILITY.to_vec(), vec![0; 20])].into();
            let metadata = Metadata { mode: 0o6755, uid, gid, xattrs, ..Metadata::default() };
            Ok(Change::Add(Entry { path: EntryPath::parse(name.as_bytes()).unwrap(), kind, metadata }, None))
        };
        let file = EntryKind::Regular { size: 0 };
        let members = [
            member("0", file.clone(), 0, 0),
            member("1", file.clone(), 0, 7),
            member("2", file, 7, 8),
            member("3", EntryKind::Directory, 0, 0),
        ];
        tree.apply(members).unwrap();
        tree
    }

    fn modes(tree: &Tree) -> Vec<(u32, usize)> {
        let children = tree.children(Tree::ROOT).map(|(_, id)| &tree.inode(id).metadata);
        children.map(|metadata| (metadata.mode, metadata.xattrs.len())).collect()
    }

    #[test]
    fn what_would_lend_the_callers_rights_is_taken_off() {
        let mut own = tree();
        assert_eq!(take_off(&mut own, &MappedIds::parse("0 1000 1\n1 100000 65536\n")), 2);
        assert_eq!(modes(&own), [(0o755, 1), (0o2755, 1), (0o6755, 1), (0o6755, 1)]);
        let mut host = tree();
        assert_eq!(take_off(&mut host, &MappedIds::parse("0 0 4294967295\n")), 3);
        assert_eq!(modes(&host), [(0o755, 0), (0o755, 0), (0o755, 0), (0o6755, 1)]);
    }
}
