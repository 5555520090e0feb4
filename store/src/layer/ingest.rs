//! Reads a layer's tar once: hashes every byte, takes the contents out into a sink, and records the rest.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use super::entry::EntryKind;
use super::header::BLOCK;
use super::limits::{Counted, Limits};
use super::member::{self, Blocks};
use super::pax::Globals;
use super::record::RecordWriter;
use super::sparse::Expanded;
use super::whiteout::{Meaning, meaning};
use super::{LayerError, TarError};
use crate::digest::{Digest, Hasher};
use crate::pool::{Ingest, ObjectId};
use crate::sys::read::fill;

/// Bytes that are read at once, and handed from the reading thread to the parsing one.
const CHUNK: usize = 512 * 1024;
/// Chunks under way between the two.
const CHUNKS: usize = 4;

/// Takes file contents.
pub trait ContentSink {
    /// Stores a content, which is never empty; tells its number and its length in bytes.
    ///
    /// # Errors
    /// Those of `content` and of the storing.
    fn put(&mut self, content: &mut dyn Read) -> io::Result<(ObjectId, u64)>;
}

impl ContentSink for Ingest {
    fn put(&mut self, content: &mut dyn Read) -> io::Result<(ObjectId, u64)> {
        Self::put(self, content)
    }
}

/// A layer that was read to its end.
#[derive(Debug)]
pub struct Ingested {
    /// SHA-256 of its tar.
    pub diff_id: Digest,
    /// Bytes of its tar.
    pub size: u64,
    /// Objects that it refers to, distinct, in order.
    pub objects: Vec<ObjectId>,
}

/// Reads `tar` to its end. Reading and decompressing run in a thread of their own beside hashing and parsing.
///
/// # Errors
/// Those of `tar`, which win over what the parser then finds; what is broken, hostile or too much.
pub fn ingest(
    tar: &mut (dyn Read + Send),
    sink: &mut dyn ContentSink,
    record: &mut dyn Write,
    limits: &Limits,
) -> Result<Ingested, LayerError> {
    thread::scope(|scope| {
        let (send, receive) = sync_channel(CHUNKS);
        // Buffers go round: fresh memory would cost a fault for every page of the tar.
        let (give_back, spare) = channel::<Vec<u8>>();
        scope.spawn(move || {
            loop {
                let mut chunk = spare.try_recv().unwrap_or_default();
                chunk.resize(CHUNK, 0);
                let end = match fill(tar, &mut chunk) {
                    Ok(count) => {
                        chunk.truncate(count);
                        let end = count < CHUNK;
                        if send.send(Ok(chunk)).is_err() {
                            return;
                        }
                        end
                    }
                    Err(error) => {
                        // A receiver that has gone has an error of its own to tell.
                        let _ = send.send(Err(error));
                        return;
                    }
                };
                if end {
                    return;
                }
            }
        });
        let mut stream = Stream::new(receive, give_back, record, limits)?;
        let mut objects = Vec::new();
        members(&mut stream, sink, &mut objects, limits)?;
        stream.drain()?;
        stream.record.finish()?;
        objects.sort_unstable();
        objects.dedup();
        Ok(Ingested { diff_id: stream.hasher.finish(), size: stream.offset, objects })
    })
}

fn members(
    stream: &mut Stream<'_>,
    sink: &mut dyn ContentSink,
    objects: &mut Vec<ObjectId>,
    limits: &Limits,
) -> Result<(), LayerError> {
    let mut globals = Globals::default();
    let mut counted = Counted::new(limits);
    while let Some(member) = member::next(stream, &mut globals)? {
        counted.add(&member, stream.offset.saturating_add(member.body))?;
        let padding = member.body.next_multiple_of(BLOCK as u64) - member.body;
        let size = match &member.entry {
            Some(entry) if meaning(&entry.path)? == Meaning::Plain => match entry.kind {
                EntryKind::Regular { size } => size,
                _ => 0,
            },
            _ => 0,
        };
        if size == 0 {
            stream.copy_inline(member.body + padding)?;
            continue;
        }
        let mut body = Body { stream: &mut *stream, left: member.body };
        let put = match &member.sparse {
            None => sink.put(&mut body),
            Some(map) => {
                let path = member.entry.as_ref().map_or(&[][..], |entry| entry.path.as_bytes());
                let before = counted.logical() - size;
                sink.put(&mut Bounded { file: Expanded::new(&mut body, map), given: before, path, limits })
            }
        };
        let (object, stored) = put.map_err(from_io)?;
        if body.left > 0 || stored != size {
            return Err(TarError::Truncated("a file").into());
        }
        match &member.sparse {
            None => stream.record.object(object, 0, size)?,
            Some(map) if map.regions.is_empty() => stream.record.object(object, 0, 0)?,
            Some(map) => {
                for &(offset, length) in &map.regions {
                    stream.record.object(object, offset, length)?;
                }
            }
        }
        objects.push(object);
        stream.copy_inline(padding)?;
    }
    Ok(())
}

/// The tar's bytes on their way: hashed, counted, and recorded unless they are content.
struct Stream<'a> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    give_back: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    ended: bool,
    hasher: Hasher,
    offset: u64,
    limit: u64,
    record: RecordWriter<&'a mut dyn Write>,
}

impl<'a> Stream<'a> {
    fn new(
        chunks: Receiver<io::Result<Vec<u8>>>,
        give_back: Sender<Vec<u8>>,
        record: &'a mut dyn Write,
        limits: &Limits,
    ) -> io::Result<Self> {
        let record = RecordWriter::new(record)?;
        let (hasher, limit) = (Hasher::new(), limits.bytes);
        Ok(Self { chunks, give_back, chunk: Vec::new(), position: 0, ended: false, hasher, offset: 0, limit, record })
    }

    /// Bytes at hand; none at the end.
    fn available(&mut self) -> Result<&[u8], LayerError> {
        while self.position == self.chunk.len() && !self.ended {
            match self.chunks.recv() {
                Ok(chunk) => {
                    let used = std::mem::replace(&mut self.chunk, chunk?);
                    // The reading thread may have ended by now, and needs no more.
                    let _ = self.give_back.send(used);
                    self.position = 0;
                    self.hasher.update(&self.chunk);
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn take(&mut self, count: usize) -> Result<(), LayerError> {
        self.position += count;
        self.offset += count as u64;
        if self.offset > self.limit {
            return Err(LayerError::Limit { what: "bytes", limit: self.limit });
        }
        Ok(())
    }

    fn copy_inline(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            let available = self.available()?;
            if available.is_empty() {
                return Err(TarError::Truncated("a member").into());
            }
            let step = available.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            let end = self.position + step;
            self.record.inline(&self.chunk[self.position..end])?;
            self.take(step)?;
            count -= step as u64;
        }
        Ok(())
    }

    /// What follows the end mark belongs to the diff ID as well.
    fn drain(&mut self) -> Result<(), LayerError> {
        loop {
            let step = self.available()?.len();
            if step == 0 {
                return Ok(());
            }
            self.copy_inline(step as u64)?;
        }
    }
}

impl Blocks for Stream<'_> {
    type Error = LayerError;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.available()?;
            if available.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(TarError::Truncated("a header").into()) };
            }
            let step = available.len().min(buffer.len() - filled);
            buffer[filled..filled + step].copy_from_slice(&available[..step]);
            self.take(step)?;
            filled += step;
        }
        self.record.inline(buffer)?;
        Ok(true)
    }

    fn offset(&self) -> u64 {
        self.offset
    }
}

/// The body of one file.
struct Body<'s, 'a> {
    stream: &'s mut Stream<'a>,
    left: u64,
}

impl Read for Body<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let available = self.stream.available().map_err(into_io)?;
        let step = available.len().min(wanted);
        if step == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated("a file")));
        }
        buffer[..step].copy_from_slice(&available[..step]);
        self.stream.take(step).map_err(into_io)?;
        self.left -= step as u64;
        Ok(step)
    }
}

/// A sparse file that is read no further than the tar, as far as that has come, makes room for. What the header says of data
/// to come is not believed: holes before it would be hashed first.
struct Bounded<'b, 's, 'a> {
    file: Expanded<'b, &'b mut Body<'s, 'a>>,
    /// Bytes of all files of the layer so far.
    given: u64,
    path: &'b [u8],
    limits: &'b Limits,
}

impl Read for Bounded<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.given += count as u64;
        let known = self.file.data().stream.offset;
        self.limits.check_logical(self.path, self.given, known).map_err(into_io)?;
        Ok(count)
    }
}

fn from_io(error: io::Error) -> LayerError {
    error.downcast().unwrap_or_else(LayerError::Io)
}

fn into_io(error: LayerError) -> io::Error {
    match error {
        LayerError::Io(error) => error,
        other => io::Error::other(other),
    }
}
