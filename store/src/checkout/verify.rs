//! Compares a checkout with the tree that it was made from.

use std::io;

use rustix::fs::{FileType, Stat, fgetxattr};

use super::metadata::Owners;
use super::{Lost, Placement, REDIRECT};
use crate::lease::Checkout;
use crate::sys::dir::Dir;
use crate::tree::{Inode, InodeKind, Tree};

/// Enough to see what is wrong; a checkout that lost a folder would otherwise fill the screen.
const MOST_PROBLEMS: usize = 20;

/// The differences, one line each, up to a number that shows the picture. Contents are not read: what a stub or a node
/// refers to is hashed as object, sizes and redirects are compared here.
pub fn verify(tree: &Tree, checkout: &Checkout, owners: &Owners) -> Vec<String> {
    let mut problems = Vec::new();
    let mut stack = Vec::new();
    match checkout.root() {
        Ok(root) => stack.push((root, Tree::ROOT, Vec::new())),
        Err(error) => problems.push(error.to_string()),
    }
    while let Some((dir, id, path)) = stack.pop() {
        for (name, child) in tree.children(id) {
            let inode = tree.inode(child);
            let path = [path.as_slice(), name].join(&b'/');
            match compare(inode, &dir, name, checkout.placement, owners) {
                Ok(None) => {}
                Ok(Some(problem)) => problems.push(format!("{}: {problem}", path.escape_ascii())),
                Err(error) => problems.push(format!("{}: {error}", path.escape_ascii())),
            }
            if matches!(inode.kind, InodeKind::Directory(_))
                && let Ok(deeper) = dir.open_dir(name)
            {
                stack.push((deeper, child, path));
            }
            if problems.len() >= MOST_PROBLEMS {
                problems.push("and more".to_owned());
                return problems;
            }
        }
    }
    problems
}

fn compare(inode: &Inode, dir: &Dir, name: &[u8], placement: Placement, owners: &Owners) -> io::Result<Option<String>> {
    let stat = match dir.stat(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let device = matches!(inode.kind, InodeKind::CharDevice { .. } | InodeKind::BlockDevice { .. });
            return Ok((!device).then(|| "missing".to_owned()));
        }
        other => other?,
    };
    let wanted_type = match inode.kind {
        InodeKind::Directory(_) => FileType::Directory,
        InodeKind::Regular { .. } => FileType::RegularFile,
        InodeKind::Symlink(_) => FileType::Symlink,
        InodeKind::Fifo => FileType::Fifo,
        InodeKind::CharDevice { .. } => FileType::CharacterDevice,
        InodeKind::BlockDevice { .. } => FileType::BlockDevice,
    };
    if FileType::from_raw_mode(stat.st_mode) != wanted_type {
        return Ok(Some("is of another type".to_owned()));
    }
    if let InodeKind::Symlink(target) = &inode.kind {
        return Ok((dir.read_link(name)? != *target).then(|| "points elsewhere".to_owned()));
    }
    if let Some(problem) = metadata(inode, &stat, owners) {
        return Ok(Some(problem));
    }
    if let InodeKind::Regular { object, size } = inode.kind {
        if stat.st_size.unsigned_abs() != size {
            return Ok(Some(format!("has {} bytes instead of {size}", stat.st_size)));
        }
        if let (Placement::Stub, Some(object)) = (placement, object) {
            let mut redirect = Vec::with_capacity(64);
            let file = dir.open_file(name)?;
            let found = fgetxattr(&file, REDIRECT, rustix::buffer::spare_capacity(&mut redirect)).is_ok();
            if !found || redirect != object.name().as_bytes() {
                return Ok(Some("its stub points elsewhere".to_owned()));
            }
        }
    }
    Ok(None)
}

fn metadata(inode: &Inode, stat: &Stat, owners: &Owners) -> Option<String> {
    let wanted = &inode.metadata;
    let (owner, mode) = owners.decide(wanted, &mut Lost::default()).ok()?;
    if stat.st_mode & 0o7777 != mode {
        return Some(format!("has mode {:o} instead of {mode:o}", stat.st_mode & 0o7777));
    }
    if let Some(owner) = owner
        && (stat.st_uid, stat.st_gid) != owner
    {
        return Some(format!("belongs to {}:{} instead of {}:{}", stat.st_uid, stat.st_gid, owner.0, owner.1));
    }
    let time = (stat.st_mtime, stat.st_mtime_nsec);
    (time != (wanted.mtime.seconds, u64::from(wanted.mtime.nanoseconds))).then(|| "has another mtime".to_owned())
}
