//! Reading packed objects: `packs/<pack>`, and the index that says where in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::ObjectId;
use super::pack::{Packed, frame, shared_frame, shares_frame};
use super::writer::write_sparse_from;
use crate::index::Index;
use crate::sys::dir::Dir;

/// The folder of packs. Contents that are read in the order of the packs decompress each frame once.
#[derive(Debug)]
pub struct Packs {
    folder: Dir,
    index: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Opened when it is first asked: most processes meet no packed object.
    index: Option<Index>,
    /// Pack and place of the frame that was read last, and its bytes.
    frame: Option<(u64, u64, Vec<u8>)>,
}

impl Packs {
    /// `folder` is the store's `packs/`, `index` the path of its index.
    pub fn new(folder: Dir, index: PathBuf) -> Self {
        Self { folder, index, state: Mutex::default() }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Dir {
        &self.folder
    }

    /// A packed content as a nameless file. `None`: the object is not packed, or was moved while it was looked for.
    pub fn open(&self, id: ObjectId) -> io::Result<Option<File>> {
        let packed = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.index.is_none() {
                state.index = Some(Index::open_read_only(&self.index).map_err(io::Error::other)?);
            }
            let found = state.index.as_ref().map(|index| index.packed(id)).transpose().map_err(io::Error::other)?;
            found.flatten()
        };
        let Some(packed) = packed else { return Ok(None) };
        let mut file = self.folder.nameless()?;
        match self.copy(&packed, &mut file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(()) => {
                io::Seek::rewind(&mut file)?;
                Ok(Some(file))
            }
        }
    }

    /// Writes a packed content into an empty file.
    pub fn copy(&self, packed: &Packed, file: &mut File) -> io::Result<()> {
        let at = packed.location;
        let pack = || self.folder.open_file(at.pack.to_string().as_bytes());
        let written = if shares_frame(packed.size) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = match &mut state.frame {
                Some((pack, frame, bytes)) if (*pack, *frame) == (at.pack, at.frame) => bytes,
                other => &mut other.insert((at.pack, at.frame, shared_frame(pack()?, at.frame)?)).2,
            };
            let range = usize::try_from(at.offset).ok().zip(usize::try_from(packed.size).ok());
            let content = range.and_then(|(start, length)| bytes.get(start..)?.get(..length));
            write_sparse_from(&mut content.unwrap_or_default(), file)?
        } else {
            write_sparse_from(&mut frame(pack()?, at.frame)?.take(packed.size + 1), file)?
        };
        if written != packed.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the pack holds less or more than recorded"));
        }
        Ok(())
    }
}
