//! Regular files, by each placement.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;

use super::metadata::apply;
use super::node::NodeKey;
use super::{Lost, METACOPY, Placement, REDIRECT};
use crate::layer::entry::Metadata;
use crate::pool::{ObjectId, Pool};
use crate::sys::dir::Dir;

/// One regular file that has content.
#[derive(Debug, Clone, Copy)]
pub struct Regular<'a> {
    /// Its content.
    pub object: ObjectId,
    /// Bytes of content.
    pub size: u64,
    /// Its metadata as the image has it.
    pub metadata: &'a Metadata,
    /// The owner to set, if any.
    pub owner: Option<(u32, u32)>,
    /// The mode to set.
    pub mode: u32,
}

/// The folders of `nodes/`, opened as they are needed and shared by all threads that place files.
#[derive(Debug)]
pub struct Folders<'a> {
    nodes: &'a Dir,
    opened: [OnceLock<Dir>; 256],
}

impl<'a> Folders<'a> {
    /// No folder is opened yet.
    pub fn new(nodes: &'a Dir) -> Self {
        Self { nodes, opened: [const { OnceLock::new() }; 256] }
    }

    /// The folder `name` that a key lies in, made where it is missing.
    fn of(&self, key: NodeKey, name: &str) -> io::Result<&Dir> {
        let cell = &self.opened[usize::from(key.0[0])];
        if let Some(folder) = cell.get() {
            return Ok(folder);
        }
        let folder = self.nodes.ensure_dir(name.as_bytes(), 0o700)?;
        Ok(cell.get_or_init(|| folder))
    }
}

/// Places regular files. Each thread has its own.
#[derive(Debug)]
pub struct Placer<'a> {
    /// Where contents come from.
    pub pool: &'a Pool,
    /// `nodes/`, shared by all checkouts; none for a checkout that is to be independent.
    pub nodes: Option<&'a Folders<'a>>,
    /// How.
    pub placement: Placement,
    objects: Option<(u64, Dir)>,
}

impl<'a> Placer<'a> {
    /// A placer without any folder of objects opened yet.
    pub fn new(pool: &'a Pool, nodes: Option<&'a Folders<'a>>, placement: Placement) -> Self {
        Self { pool, nodes, placement, objects: None }
    }

    /// Makes `file` as `name` in `dir`. `node` is its key among the shared inodes; `claimed` says that this node is
    /// the one that the object's own inode carries (hardlink placement).
    pub fn place(
        &mut self,
        file: Regular<'_>,
        node: Option<NodeKey>,
        claimed: bool,
        dir: &Dir,
        name: &[u8],
        lost: &mut Lost,
    ) -> io::Result<()> {
        let Some((node, nodes)) = node.zip(self.nodes) else { return self.make(file, dir, name, lost) };
        let (folder_name, node_name) = node.name();
        let folder = nodes.of(node, &folder_name)?;
        match folder.link(node_name.as_bytes(), dir, name) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_link_limit(&error) => {
                // The inode is full of names: a fresh one takes its place for those to come.
                self.make(file, dir, name, lost)?;
                folder.unlink(node_name.as_bytes())?;
                return publish(dir, name, folder, node_name.as_bytes());
            }
            Err(error) => return Err(error),
        }
        if claimed && self.adopt(file, dir, name, lost)? {
            return publish(dir, name, folder, node_name.as_bytes());
        }
        self.make(file, dir, name, lost)?;
        publish(dir, name, folder, node_name.as_bytes())
    }

    /// Lets the object's own inode be the file, metadata and all. `false`: it has as many names as it can have.
    fn adopt(&mut self, file: Regular<'_>, dir: &Dir, name: &[u8], lost: &mut Lost) -> io::Result<bool> {
        let object_name = format!("{:x}", file.object.sequence()).into_bytes();
        let objects = self.objects(file.object)?;
        match objects.link(&object_name, dir, name) {
            Ok(()) => {}
            Err(error) if is_link_limit(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        apply(objects.open_file(&object_name)?, file.metadata, file.owner, file.mode, lost)?;
        Ok(true)
    }

    /// Makes an inode of its own.
    fn make(&mut self, file: Regular<'_>, dir: &Dir, name: &[u8], lost: &mut Lost) -> io::Result<()> {
        let made = dir.create_new(name, 0o600)?;
        match self.placement {
            Placement::Stub => {
                made.set_len(file.size)?;
                fsetxattr(&made, METACOPY, &[], XattrFlags::empty())?;
                fsetxattr(&made, REDIRECT, file.object.name().as_bytes(), XattrFlags::empty())?;
            }
            Placement::Hardlink | Placement::Reflink | Placement::Copy => {
                let content = self.open(file.object)?;
                self.fill(&content, &made, file.size)?;
            }
        }
        apply(&made, file.metadata, file.owner, file.mode, lost)
    }

    fn fill(&self, content: &File, made: &File, size: u64) -> io::Result<()> {
        if self.placement != Placement::Copy {
            match rustix::fs::ioctl_ficlone(made, content) {
                Ok(()) => return Ok(()),
                // A further node of an object is a copy where extents cannot be shared; a reflink checkout cannot.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::AGAIN)
                    if self.placement == Placement::Hardlink => {}
                Err(error) => return Err(error.into()),
            }
        }
        copy_sparse(content, made, size)
    }

    fn open(&mut self, object: ObjectId) -> io::Result<File> {
        let name = format!("{:x}", object.sequence());
        match self.objects(object).and_then(|folder| folder.open_file(name.as_bytes())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.pool.open(object),
            other => other,
        }
    }

    /// The folder of an object; contents of one layer lie in one folder, so the last one is kept open.
    fn objects(&mut self, object: ObjectId) -> io::Result<&Dir> {
        if self.objects.as_ref().is_none_or(|(number, _)| *number != object.directory()) {
            self.objects = Some((object.directory(), self.pool.locate(object)?.0));
        }
        self.objects.as_ref().map(|(_, dir)| dir).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Makes a finished file known as a node. Another process may have been first: then both inodes serve.
fn publish(dir: &Dir, name: &[u8], folder: &Dir, node: &[u8]) -> io::Result<()> {
    match dir.link(name, folder, node) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || is_link_limit(&error) => Ok(()),
        other => other,
    }
}

fn is_link_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MLINK.raw_os_error())
}

/// Copies content and holes (`lseek(2)` `SEEK_DATA`, `SEEK_HOLE`).
fn copy_sparse(from: &File, to: &File, size: u64) -> io::Result<()> {
    use rustix::fs::{SeekFrom, copy_file_range, seek};
    let mut end = 0;
    while end < size {
        let start = match seek(from, SeekFrom::Data(end)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        end = seek(from, SeekFrom::Hole(start))?;
        let (mut read, mut written) = (start, start);
        while read < end {
            let length = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(from, Some(&mut read), to, Some(&mut written), length)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    to.set_len(size)
}
