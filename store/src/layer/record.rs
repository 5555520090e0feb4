//! A layer's record: all bytes of its tar, file contents replaced by references to objects. From it and the pool the
//! exact tar can be written again, whose SHA-256 is the diff ID; and the entries can be listed without the pool.
//!
//! # Format, version 1
//!
//! One zstd frame of: the 16 bytes of [`MAGIC`], then segments, then the end mark. Numbers are LEB128.
//!
//! | tag | then | is |
//! |---|---|---|
//! | 1 | length, that many bytes | bytes of the tar |
//! | 2 | object, offset, length | a part of an object's content |
//! | 0 | | the end; without it the record was cut short |
//!
//! A member with content has at least one segment of tag 2, of length 0 where all of the content is holes.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use super::entry::EntryKind;
use super::header::BLOCK;
use super::member::{self, Blocks, Member};
use super::pax::Globals;
use super::whiteout::{Change, Meaning, meaning};
use super::{LayerError, TarError};
use crate::pool::{ObjectId, Pool};

/// First bytes of a record, version included.
pub const MAGIC: &[u8; 16] = b"lstore layer  1\n";

const END: u8 = 0;
const INLINE: u8 = 1;
const OBJECT: u8 = 2;
/// Compression: the headers of a tar shrink to a tenth at the least effort, and gain little from more.
const LEVEL: i32 = 3;
/// Inline bytes are written out when so many have come together.
const INLINE_BYTES: usize = 64 * 1024;

/// Writes a record.
pub struct RecordWriter<W: Write> {
    out: zstd::Encoder<'static, W>,
    inline: Vec<u8>,
}

impl<W: Write> RecordWriter<W> {
    /// Starts a record.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = zstd::Encoder::new(out, LEVEL)?;
        out.write_all(MAGIC)?;
        Ok(Self { out, inline: Vec::with_capacity(INLINE_BYTES) })
    }

    /// Adds bytes of the tar.
    pub fn inline(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inline.extend_from_slice(bytes);
        if self.inline.len() >= INLINE_BYTES { self.flush_inline() } else { Ok(()) }
    }

    /// Adds a part of an object.
    pub fn object(&mut self, object: ObjectId, offset: u64, length: u64) -> io::Result<()> {
        self.flush_inline()?;
        let mut segment = vec![OBJECT];
        for number in [object.0, offset, length] {
            write_number(&mut segment, number);
        }
        self.out.write_all(&segment)
    }

    /// Ends the record.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush_inline()?;
        self.out.write_all(&[END])?;
        self.out.finish()?.flush()
    }

    fn flush_inline(&mut self) -> io::Result<()> {
        if self.inline.is_empty() {
            return Ok(());
        }
        let mut head = vec![INLINE];
        write_number(&mut head, self.inline.len() as u64);
        self.out.write_all(&head)?;
        self.out.write_all(&self.inline)?;
        self.inline.clear();
        Ok(())
    }
}

enum Segment {
    Inline(u64),
    Object(ObjectId, u64, u64),
}

/// Reads a record.
pub struct RecordReader<R: Read> {
    input: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    /// Bytes of the current inline segment that were not taken yet.
    inline: u64,
    /// A segment that was looked at and not taken.
    ahead: Option<Segment>,
    ended: bool,
    taken: u64,
}

impl<R: Read> RecordReader<R> {
    /// Checks the version.
    ///
    /// # Errors
    /// [`LayerError::Record`].
    pub fn new(input: R) -> Result<Self, LayerError> {
        let mut input = BufReader::with_capacity(INLINE_BYTES, zstd::Decoder::new(input)?);
        let mut magic = [0; 16];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(LayerError::Record("not a record of this version"));
        }
        Ok(Self { input, inline: 0, ahead: None, ended: false, taken: 0 })
    }

    /// The changes of the layer, in order.
    pub fn changes(self) -> Changes<R> {
        Changes { record: self, globals: Globals::default(), done: false }
    }

    fn number(&mut self) -> Result<u64, LayerError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(LayerError::Record("bad number"))
    }

    /// The next segment; `None` at the end mark.
    fn segment(&mut self) -> Result<Option<Segment>, LayerError> {
        if let Some(segment) = self.ahead.take() {
            return Ok(Some(segment));
        }
        if self.ended {
            return Ok(None);
        }
        let mut tag = [0];
        self.input.read_exact(&mut tag)?;
        match tag[0] {
            END => {
                self.ended = true;
                Ok(None)
            }
            INLINE => Ok(Some(Segment::Inline(self.number()?))),
            OBJECT => {
                let (object, offset, length) = (ObjectId(self.number()?), self.number()?, self.number()?);
                Ok(Some(Segment::Object(object, offset, length)))
            }
            _ => Err(LayerError::Record("unknown segment")),
        }
    }

    /// Makes sure that inline bytes are at hand. `false` at the end of the record.
    fn at_inline(&mut self) -> Result<bool, LayerError> {
        while self.inline == 0 {
            match self.segment()? {
                Some(Segment::Inline(length)) => self.inline = length,
                Some(Segment::Object(..)) => return Err(LayerError::Record("content where a header belongs")),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Passes over so many inline bytes.
    fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            if !self.at_inline()? {
                return Err(TarError::Truncated("a member").into());
            }
            let available = self.input.fill_buf()?.len() as u64;
            let step = count.min(self.inline).min(available);
            if step == 0 {
                return Err(LayerError::Record("cut short"));
            }
            self.input.consume(usize::try_from(step).unwrap_or(usize::MAX));
            self.inline -= step;
            self.taken += step;
            count -= step;
        }
        Ok(())
    }

    /// Takes the object segments of a member's content.
    fn content(&mut self, stored: u64) -> Result<ObjectId, LayerError> {
        let (mut found, mut total) = (None, 0);
        loop {
            if self.inline > 0 {
                break;
            }
            match self.segment()? {
                Some(Segment::Object(object, _, length)) if total < stored || found.is_none() => {
                    found = Some(object);
                    total += length;
                    self.taken += length;
                }
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        match found {
            Some(object) if total == stored => Ok(object),
            _ => Err(LayerError::Record("content is missing")),
        }
    }
}

impl<R: Read> Blocks for RecordReader<R> {
    type Error = LayerError;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            if !self.at_inline()? {
                return if filled == 0 { Ok(false) } else { Err(TarError::Truncated("a header").into()) };
            }
            let step = usize::try_from(self.inline).unwrap_or(usize::MAX).min(buffer.len() - filled);
            self.input.read_exact(&mut buffer[filled..filled + step])?;
            filled += step;
            self.inline -= step as u64;
            self.taken += step as u64;
        }
        Ok(true)
    }

    fn offset(&self) -> u64 {
        self.taken
    }
}

/// Iterates over a record's changes, contents unread.
pub struct Changes<R: Read> {
    record: RecordReader<R>,
    globals: Globals,
    done: bool,
}

impl<R: Read> Changes<R> {
    fn advance(&mut self) -> Result<Option<Change>, LayerError> {
        loop {
            let Some(Member { entry, body, .. }) = member::next(&mut self.record, &mut self.globals)? else {
                return Ok(None);
            };
            let has_content =
                matches!(&entry, Some(entry) if matches!(entry.kind, EntryKind::Regular { size } if size > 0));
            let padding = body.next_multiple_of(BLOCK as u64) - body;
            let Some(entry) = entry else {
                self.record.skip(body + padding)?;
                continue;
            };
            let meaning = meaning(&entry.path)?;
            if has_content && meaning == Meaning::Plain {
                let object = self.record.content(body)?;
                self.record.skip(padding)?;
                return Ok(Some(Change::Add(entry, Some(object))));
            }
            self.record.skip(body + padding)?;
            match meaning {
                Meaning::Plain => return Ok(Some(Change::Add(entry, None))),
                Meaning::Whiteout(path) => return Ok(Some(Change::Whiteout(path))),
                Meaning::Opaque(path) => return Ok(Some(Change::Opaque(path))),
                Meaning::Ignored => {}
            }
        }
    }
}

impl<R: Read> Iterator for Changes<R> {
    type Item = Result<Change, LayerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let change = self.advance().transpose();
        self.done = !matches!(change, Some(Ok(_)));
        change
    }
}

/// Writes the exact tar again; returns its length in bytes.
///
/// # Errors
/// A damaged record, an object that is missing or too short, or those of `out`.
pub fn write_tar<R: Read>(mut record: RecordReader<R>, pool: &Pool, out: &mut dyn Write) -> Result<u64, LayerError> {
    let mut written = 0;
    let mut open: Option<(ObjectId, std::fs::File)> = None;
    while let Some(segment) = record.segment()? {
        let (copied, length) = match segment {
            Segment::Inline(length) => (io::copy(&mut (&mut record.input).take(length), out)?, length),
            Segment::Object(_, _, 0) => (0, 0),
            Segment::Object(object, offset, length) => {
                if open.as_ref().is_none_or(|(opened, _)| *opened != object) {
                    open = Some((object, pool.open(object)?));
                }
                let Some((_, file)) = &mut open else { continue };
                file.seek(SeekFrom::Start(offset))?;
                (io::copy(&mut file.take(length), out)?, length)
            }
        };
        if copied != length {
            return Err(LayerError::Record("a content is shorter than recorded"));
        }
        written += copied;
    }
    Ok(written)
}

/// Copies a record with other object numbers.
///
/// # Errors
/// A damaged record, or those of `out`.
pub fn renumber(input: impl Read, out: impl Write, map: impl Fn(ObjectId) -> ObjectId) -> Result<(), LayerError> {
    let mut record = RecordReader::new(input)?;
    let mut writer = RecordWriter::new(out)?;
    while let Some(segment) = record.segment()? {
        match segment {
            Segment::Object(object, offset, length) => writer.object(map(object), offset, length)?,
            Segment::Inline(length) => {
                let mut bytes = Vec::new();
                (&mut record.input).take(length).read_to_end(&mut bytes)?;
                writer.inline(&bytes)?;
            }
        }
    }
    Ok(writer.finish()?)
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}
