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
    for layer in [vec![hard("b", "a"), file("a")], vec![dir("a"), hard("b", "a")], vec![file("a"), hard("a", "a")]] {
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
