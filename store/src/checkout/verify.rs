//! Compares a checkout with the tree that it was made from: every name, what it is, its metadata, and its content.
//!
//! Not compared are what this machine could not make (`Lost`): owners that it cannot set, devices, and attributes that the
//! kernel refused.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat, fgetxattr};
use rustix::io::Errno;

use super::metadata::Owners;
use super::{Lost, Placement, REDIRECT};
use crate::lease::Checkout;
use crate::pool::{Hash, ObjectId, Pool};
use crate::sys::dir::Dir;
use crate::sys::walk::Walk;
use crate::tree::{Inode, InodeId, InodeKind, Tree};

/// Enough to see what is wrong; a checkout that lost a folder would otherwise fill the screen.
const MOST_PROBLEMS: usize = 20;

/// Compares checkouts, and reads each content that they have beside the pool once, however many of them show it.
///
/// What a stub refers to, and the object's own inode where that is the file, are for whoever hashes the pool.
#[derive(Debug)]
pub struct Verifier<'a> {
    pool: &'a Pool,
    owners: &'a Owners,
    /// What each object's content must be.
    contents: HashMap<ObjectId, (Hash, u64)>,
    /// Inode number, object and verdict of files that were read.
    read: HashMap<(u64, ObjectId), Option<String>>,
    bytes: u64,
}

/// One checkout while it is looked through.
struct Look<'l> {
    tree: &'l Tree,
    placement: Placement,
    /// Whether the kernel took all extended attributes.
    all_xattrs: bool,
    /// Which inode of the tree a file is, and the file's number.
    files: HashMap<u64, InodeId>,
    numbers: HashMap<InodeId, u64>,
    problems: Vec<String>,
}

/// A folder that is being compared, and the names in it that are still to come.
struct Folder<'l> {
    children: Box<dyn Iterator<Item = (&'l [u8], InodeId)> + 'l>,
    /// Bytes of its path.
    path: usize,
}

impl<'a> Verifier<'a> {
    /// `contents` are the pool's objects as the index has them.
    pub fn new(pool: &'a Pool, owners: &'a Owners, contents: HashMap<ObjectId, (Hash, u64)>) -> Self {
        Self { pool, owners, contents, read: HashMap::new(), bytes: 0 }
    }

    /// Bytes that were read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The differences, one line each, up to a number that shows the picture.
    pub fn compare(&mut self, tree: &Tree, checkout: &Checkout) -> Vec<String> {
        let mut look = Look {
            tree,
            placement: checkout.placement,
            all_xattrs: checkout.lost.xattrs == 0,
            files: HashMap::new(),
            numbers: HashMap::new(),
            problems: Vec::new(),
        };
        // Whatever keeps a folder from being read is a difference too.
        if let Err(error) = checkout.root().and_then(|root| self.walk(&mut look, root)) {
            look.problems.push(error.to_string());
        }
        look.problems
    }

    fn walk<'l>(&mut self, look: &mut Look<'l>, root: Dir) -> io::Result<()> {
        let tree = look.tree;
        let mut path = Vec::new();
        look.say(&path, self.inode(look, Tree::ROOT, &root.stat_self()?, Some(&root))?);
        look.find_unknown(&root, Tree::ROOT, &path)?;
        let folder = |id, path| Folder { children: Box::new(tree.children(id)), path };
        let mut walk: Walk<Folder<'l>> = Walk::new(root, folder(Tree::ROOT, 0))?;
        while let Some((dir, here)) = walk.here() {
            path.truncate(here.path);
            let Some((name, child)) = here.children.next() else {
                walk.leave()?;
                continue;
            };
            if here.path > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let is_folder = matches!(tree.inode(child).kind, InodeKind::Directory(_));
            let deeper = if is_folder { dir.open_dir(name).ok() } else { None };
            match self.name(look, child, dir, name, deeper.as_ref()) {
                Ok(problem) => look.say(&path, problem),
                Err(error) => look.say(&path, Some(error.to_string())),
            }
            if look.problems.len() >= MOST_PROBLEMS {
                look.problems.push("and more".to_owned());
                return Ok(());
            }
            // One that cannot be opened has been told as missing, or as another type.
            if let Some(deeper) = deeper {
                look.find_unknown(&deeper, child, &path)?;
                walk.enter(deeper, folder(child, path.len()))?;
            }
        }
        Ok(())
    }

    /// What is wrong with a name.
    fn name(
        &mut self,
        look: &mut Look<'_>,
        id: InodeId,
        dir: &Dir,
        name: &[u8],
        opened: Option<&Dir>,
    ) -> io::Result<Option<String>> {
        let inode = look.tree.inode(id);
        let stat = match dir.stat(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let device = matches!(inode.kind, InodeKind::CharDevice { .. } | InodeKind::BlockDevice { .. });
                return Ok((!device).then(|| "missing".to_owned()));
            }
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != wanted_type(&inode.kind) {
            return Ok(Some("is of another type".to_owned()));
        }
        if let InodeKind::Symlink(target) = &inode.kind
            && dir.read_link(name)? != *target
        {
            return Ok(Some("points elsewhere".to_owned()));
        }
        if let Some(problem) = look.links(id, &stat) {
            return Ok(Some(problem));
        }
        if let Some(problem) = self.inode(look, id, &stat, opened)? {
            return Ok(Some(problem));
        }
        let InodeKind::Regular { object, size } = inode.kind else { return Ok(None) };
        if stat.st_size.unsigned_abs() != size {
            return Ok(Some(format!("has {} bytes instead of {size}", stat.st_size)));
        }
        let Some(object) = object else { return look.xattrs(inode, || dir.open_file(name)) };
        if look.placement == Placement::Stub {
            let file = dir.open_file(name)?;
            let redirect = xattr(&file, REDIRECT.as_bytes())?;
            if redirect.as_deref() != Some(object.name().as_bytes()) {
                return Ok(Some("its stub points elsewhere".to_owned()));
            }
        } else if let Some(problem) = self.content(object, &stat, || dir.open_file(name))? {
            return Ok(Some(problem));
        }
        look.xattrs(inode, || dir.open_file(name))
    }

    /// What is wrong with the metadata of an inode, as far as it tells without being opened; all of it for a folder.
    fn inode(&self, look: &Look<'_>, id: InodeId, stat: &Stat, opened: Option<&Dir>) -> io::Result<Option<String>> {
        let inode = look.tree.inode(id);
        let wanted = &inode.metadata;
        let Ok((owner, mode)) = self.owners.decide(wanted, &mut Lost::default()) else {
            return Ok(Some("has an owner that does not exist here".to_owned()));
        };
        if stat.st_mode & 0o7777 != mode && !matches!(inode.kind, InodeKind::Symlink(_)) {
            return Ok(Some(format!("has mode {:o} instead of {mode:o}", stat.st_mode & 0o7777)));
        }
        if let Some(owner) = owner
            && (stat.st_uid, stat.st_gid) != owner
        {
            let (uid, gid) = (stat.st_uid, stat.st_gid);
            return Ok(Some(format!("belongs to {uid}:{gid} instead of {}:{}", owner.0, owner.1)));
        }
        let time = (stat.st_mtime, stat.st_mtime_nsec);
        if time != (wanted.mtime.seconds, u64::from(wanted.mtime.nanoseconds)) {
            return Ok(Some("has another mtime".to_owned()));
        }
        opened.map_or(Ok(None), |dir| look.xattrs(inode, || Ok(dir)))
    }

    /// What is wrong with a file's content.
    fn content(
        &mut self,
        object: ObjectId,
        stat: &Stat,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Option<String>> {
        if let Some(verdict) = self.read.get(&(stat.st_ino, object)) {
            return Ok(verdict.clone());
        }
        let is_object = |(folder, name): (Dir, Vec<u8>)| folder.stat(&name).map(|own| own.st_ino == stat.st_ino);
        let verdict = match self.pool.locate(object).and_then(is_object) {
            Ok(true) => None,
            // A packed object has no file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(false) | Err(_) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(open()?)?;
                self.bytes += hasher.count();
                let found = (Hash::from(hasher.finalize()), hasher.count());
                // An object that the index does not know is told with the layer that it belongs to.
                let wanted = self.contents.get(&object).copied().unwrap_or(found);
                (found != wanted).then(|| "has another content".to_owned())
            }
        };
        self.read.insert((stat.st_ino, object), verdict.clone());
        Ok(verdict)
    }
}

impl Look<'_> {
    fn say(&mut self, path: &[u8], problem: Option<String>) {
        let path = if path.is_empty() { b"." } else { path };
        self.problems.extend(problem.map(|problem| format!("{}: {problem}", path.escape_ascii())));
    }

    /// Names that the tree does not have.
    fn find_unknown(&mut self, dir: &Dir, id: InodeId, path: &[u8]) -> io::Result<()> {
        let known: HashSet<&[u8]> = self.tree.children(id).map(|(name, _)| name).collect();
        for (name, _) in dir.entries()? {
            if !known.contains(name.as_slice()) && self.problems.len() < MOST_PROBLEMS {
                let whole = if path.is_empty() { name } else { [path, &name].join(&b'/') };
                self.say(&whole, Some("is not in the image".to_owned()));
            }
        }
        Ok(())
    }

    /// Two names are one file where the image says so, and nowhere else.
    fn links(&mut self, id: InodeId, stat: &Stat) -> Option<String> {
        // Devices that were left out have no names, and those that were made are made for each name.
        if !matches!(self.tree.inode(id).kind, InodeKind::Regular { .. } | InodeKind::Symlink(_) | InodeKind::Fifo) {
            return None;
        }
        if *self.numbers.entry(id).or_insert(stat.st_ino) != stat.st_ino {
            return Some("is not the file of its other names".to_owned());
        }
        (*self.files.entry(stat.st_ino).or_insert(id) != id).then(|| "is one with another file".to_owned())
    }

    /// What is wrong with the extended attributes of an inode, which is opened if it is to have any.
    fn xattrs<F: AsFd>(&self, inode: &Inode, open: impl FnOnce() -> io::Result<F>) -> io::Result<Option<String>> {
        if inode.metadata.xattrs.is_empty() || !self.all_xattrs {
            return Ok(None);
        }
        let file = open()?;
        for (name, value) in &inode.metadata.xattrs {
            // The kernel gives capabilities and access lists back in forms of its own.
            match xattr(&file, name)? {
                Some(found) if found == **value || !name.starts_with(b"user.") => {}
                _ => return Ok(Some(format!("lacks its attribute {}", name.escape_ascii()))),
            }
        }
        Ok(None)
    }
}

fn wanted_type(kind: &InodeKind) -> FileType {
    match kind {
        InodeKind::Directory(_) => FileType::Directory,
        InodeKind::Regular { .. } => FileType::RegularFile,
        InodeKind::Symlink(_) => FileType::Symlink,
        InodeKind::Fifo => FileType::Fifo,
        InodeKind::CharDevice { .. } => FileType::CharacterDevice,
        InodeKind::BlockDevice { .. } => FileType::BlockDevice,
    }
}

/// The value of an attribute; `None` where there is none.
fn xattr(file: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    /// The longest value that the kernel takes.
    const LONGEST: usize = 64 << 10;
    let mut value = Vec::with_capacity(LONGEST);
    match fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
