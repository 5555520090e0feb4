//! Where the members of an image archive are: names and places, so that the archive is read in place. No name is ever
//! a path on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};

use crate::layer::entry::EntryKind;
use crate::layer::header::BLOCK;
use crate::layer::member::{self, Blocks};
use crate::layer::pax::Globals;
use crate::layer::{LayerError, TarError, path::EntryPath};

/// Most members of an image archive: layers, manifests and links between them.
const MOST_MEMBERS: usize = 100_000;

/// An archive and its members.
#[derive(Debug)]
pub(super) struct TarIndex {
    file: File,
    members: HashMap<Vec<u8>, Place>,
}

#[derive(Debug, Clone)]
enum Place {
    /// Content, at an offset, of a length.
    File(u64, u64),
    /// Another name: docker links equal layers to each other.
    Link(Vec<u8>),
}

impl TarIndex {
    /// Reads through the headers of an uncompressed archive.
    pub(super) fn read(file: File) -> Result<Self, LayerError> {
        let mut blocks = FileBlocks { input: BufReader::new(file.try_clone()?), offset: 0 };
        blocks.input.seek(SeekFrom::Start(0))?;
        let mut members = HashMap::new();
        let mut globals = Globals::default();
        while let Some(member) = member::next(&mut blocks, &mut globals)? {
            let begin = blocks.offset;
            let length = member.body.next_multiple_of(BLOCK as u64);
            blocks.input.seek_relative(i64::try_from(length).map_err(io::Error::other)?)?;
            blocks.offset += length;
            let Some(entry) = member.entry else { continue };
            let place = match (entry.kind, &member.sparse) {
                (EntryKind::Regular { size }, None) => Place::File(begin, size),
                (EntryKind::Hardlink { target }, _) => Place::Link(target.as_bytes().to_vec()),
                (EntryKind::Symlink { target }, _) => match link_target(&entry.path, &target) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            members.insert(entry.path.as_bytes().to_vec(), place);
            if members.len() > MOST_MEMBERS {
                return Err(TarError::Limit { what: "members of an image archive", limit: MOST_MEMBERS as u64 }.into());
            }
        }
        Ok(Self { file, members })
    }

    /// Whether a member has this name.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path.as_bytes()).is_some()
    }

    /// Opens a member at its beginning; its length beside it.
    pub(super) fn open(&self, path: &str) -> io::Result<(File, u64)> {
        let (begin, length) = self.find(path.as_bytes()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // A descriptor of its own: layers are read side by side, and a duplicate would share its position.
        let own = rustix::fs::open(
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.file)),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let mut own = File::from(own);
        own.seek(SeekFrom::Start(begin))?;
        Ok((own, length))
    }

    fn find(&self, path: &[u8]) -> Option<(u64, u64)> {
        let mut path = EntryPath::parse(path).ok()?.as_bytes().to_vec();
        for _ in 0..8 {
            match self.members.get(&path)? {
                Place::File(begin, length) => return Some((*begin, *length)),
                Place::Link(target) => path = target.clone(),
            }
        }
        None
    }
}

/// A symbolic link's target as a member's name, "../x/layer.tar" from "y/layer.tar" being "x/layer.tar".
fn link_target(path: &EntryPath, target: &[u8]) -> Option<Vec<u8>> {
    let (parent, _) = path.split_last()?;
    let mut components: Vec<&[u8]> = parent.components().collect();
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            name => components.push(name),
        }
    }
    Some(components.join(&b'/'))
}

struct FileBlocks {
    input: BufReader<File>,
    offset: u64,
}

impl Blocks for FileBlocks {
    type Error = LayerError;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LayerError> {
        let filled = crate::sys::read::fill(&mut self.input, buffer)?;
        self.offset += filled as u64;
        match filled {
            0 => Ok(false),
            filled if filled == buffer.len() => Ok(true),
            _ => Err(TarError::Truncated("a header").into()),
        }
    }

    fn offset(&self) -> u64 {
        self.offset
    }
}
