//! The form of a pack: zstd frames one after another, each of some contents back to back.
//!
//! Small contents share a frame of about [`FRAME`] bytes, which is read as a whole; a larger content has a frame of its
//! own, which is streamed. The index says where each is; a frame carries its own checksum.

use std::io::{self, Read, Seek, SeekFrom, Write};

use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::ObjectId;

/// Decompressed bytes at which a frame is closed, and above which a content has a frame of its own.
const FRAME: u64 = 1 << 20;
/// zstd's own default: better ones cost several times the time for a few per cent.
const LEVEL: i32 = 3;

/// Where a content is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack's number, which names its file.
    pub pack: u64,
    /// Where in the file its frame begins.
    pub frame: u64,
    /// Where in the decompressed frame it begins.
    pub offset: u64,
}

/// An object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Its number.
    pub id: ObjectId,
    /// Bytes of content.
    pub size: u64,
    /// Its share of the pack, in bytes.
    pub disk: u64,
    /// Where it is.
    pub location: Location,
}

/// Whether a content shares its frame with others.
pub fn shares_frame(size: u64) -> bool {
    size <= FRAME
}

/// Writes one pack.
pub struct PackWriter<W> {
    pack: u64,
    out: W,
    end: u64,
    frame: Vec<u8>,
    compressor: Compressor<'static>,
    /// Those in `frame` are at the end, without a share of the disk yet.
    objects: Vec<Packed>,
    settled: usize,
}

impl<W: Write> PackWriter<W> {
    /// Begins pack `pack` in `out`.
    pub fn new(pack: u64, out: W) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self { pack, out, end: 0, frame: Vec::new(), compressor, objects: Vec::new(), settled: 0 })
    }

    /// Adds a content. `false`: it has not the size that it should have, and is left out.
    pub fn add(&mut self, id: ObjectId, size: u64, content: impl Read) -> io::Result<bool> {
        // One byte more shows a content that is too long.
        let mut content = content.take(size + 1);
        if !shares_frame(size) {
            self.close_frame()?;
            let frame = self.end;
            let mut counted = Counted { out: &mut self.out, count: 0 };
            let mut encoder = Encoder::new(&mut counted, LEVEL)?;
            encoder.include_checksum(true)?;
            let copied = io::copy(&mut content, &mut encoder)?;
            encoder.finish()?;
            let disk = counted.count;
            self.end += disk;
            if copied == size {
                let location = Location { pack: self.pack, frame, offset: 0 };
                self.objects.push(Packed { id, size, disk, location });
                self.settled = self.objects.len();
            }
            return Ok(copied == size);
        }
        let offset = self.frame.len();
        if content.read_to_end(&mut self.frame)? as u64 != size {
            self.frame.truncate(offset);
            return Ok(false);
        }
        let location = Location { pack: self.pack, frame: self.end, offset: offset as u64 };
        self.objects.push(Packed { id, size, disk: 0, location });
        if self.frame.len() as u64 >= FRAME {
            self.close_frame()?;
        }
        Ok(true)
    }

    fn close_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let compressed = self.compressor.compress(&self.frame)?;
        self.out.write_all(&compressed)?;
        let (disk, raw) = (compressed.len() as u64, self.frame.len() as u64);
        for object in &mut self.objects[self.settled..] {
            object.disk = disk * object.size / raw;
        }
        self.settled = self.objects.len();
        self.end += disk;
        self.frame.clear();
        Ok(())
    }

    /// Ends the pack; its objects.
    pub fn finish(mut self) -> io::Result<Vec<Packed>> {
        self.close_frame()?;
        self.out.flush()?;
        Ok(self.objects)
    }
}

struct Counted<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads the frame that begins at `frame`.
pub fn frame(mut pack: impl Read + Seek, frame: u64) -> io::Result<impl Read> {
    pack.seek(SeekFrom::Start(frame))?;
    Ok(Decoder::new(pack)?.single_frame())
}

/// Reads a frame of shared contents as a whole.
pub fn shared_frame(pack: impl Read + Seek, at: u64) -> io::Result<Vec<u8>> {
    // The last content may reach beyond the size at which a frame is closed. A damaged frame may claim anything.
    let (mut bytes, most) = (Vec::new(), 2 * FRAME);
    if frame(pack, at)?.take(most + 1).read_to_end(&mut bytes)? as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of the pack is too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn content(id: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&id.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn read(pack: &[u8], object: &Packed) -> io::Result<Vec<u8>> {
        let (at, size) = (object.location, usize::try_from(object.size).unwrap());
        if shares_frame(object.size) {
            let start = usize::try_from(at.offset).unwrap();
            return Ok(shared_frame(Cursor::new(pack), at.frame)?[start..start + size].to_vec());
        }
        let mut bytes = Vec::new();
        frame(Cursor::new(pack), at.frame)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Sizes around every bound, some of them twice.
    const SIZES: [usize; 8] = [1, 4096, 700_000, 1 << 20, (1 << 20) + 1, 5_000_000, 1, (1 << 20) - 1];

    fn packed() -> (Vec<u8>, Vec<Packed>) {
        let mut bytes = Vec::new();
        let mut writer = PackWriter::new(7, &mut bytes).unwrap();
        for (id, size) in (0..).zip(SIZES) {
            assert!(writer.add(ObjectId(id), size as u64, content(id, size).as_slice()).unwrap());
        }
        let objects = writer.finish().unwrap();
        (bytes, objects)
    }

    #[test]
    fn contents_of_every_size_read_back() {
        let (bytes, objects) = packed();
        assert_eq!(objects.len(), SIZES.len());
        for object in &objects {
            let wanted = content(object.id.0, usize::try_from(object.size).unwrap());
            assert!(read(&bytes, object).unwrap() == wanted, "{object:?}");
        }
        let disk: u64 = objects.iter().map(|object| object.disk).sum();
        assert!(bytes.len() as u64 - disk < SIZES.len() as u64, "the shares are the whole");
    }

    #[test]
    fn a_content_of_another_size_is_left_out_and_harms_no_other() {
        for size in [10, (1 << 20) + 10] {
            let mut bytes = Vec::new();
            let mut writer = PackWriter::new(1, &mut bytes).unwrap();
            assert!(writer.add(ObjectId(1), 3, b"one".as_slice()).unwrap());
            assert!(!writer.add(ObjectId(2), size, b"short".as_slice()).unwrap());
            assert!(!writer.add(ObjectId(3), 3, b"long".as_slice()).unwrap());
            assert!(writer.add(ObjectId(4), 4, b"four".as_slice()).unwrap());
            let objects = writer.finish().unwrap();
            let found: Vec<_> = objects.iter().map(|object| read(&bytes, object).unwrap()).collect();
            assert_eq!(found, [b"one".to_vec(), b"four".to_vec()]);
        }
    }

    #[test]
    fn damage_anywhere_is_an_error_and_never_another_content() {
        let (bytes, objects) = packed();
        for position in (0..bytes.len()).step_by(bytes.len() / 50) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x55;
            let errors = objects.iter().filter(|object| {
                let wanted = content(object.id.0, usize::try_from(object.size).unwrap());
                read(&damaged, object).map(|found| assert!(found == wanted, "{position}")).is_err()
            });
            assert!(errors.count() > 0, "{position}");
        }
    }
}
