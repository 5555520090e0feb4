//! Layers out of their compression: gzip with any number of members, zstd with any number of frames, or none.
//!
//! What the bytes are is seen from their first ones and must be what the media type says. Nothing is ever handed to a
//! helper program. The input is read to its very end, so that a reader that verifies at the end gets to do so.

use std::fmt::{self, Display, Formatter};
use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::BlobError;
use crate::manifest::Descriptor;

/// Bytes of compressed input held at once.
const WINDOW: usize = 128 << 10;
/// Bytes by which a format is recognised.
const MAGIC: usize = 10;
/// Largest zstd window, as a power of two: what the reference decoder takes without being asked, 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes that each compressed byte may become. Deflate cannot exceed 1032, which a layer of zeros comes close to.
const RATIO: u64 = 1100;
/// Bytes that a layer may have whatever its ratio, so that small layers of zeros pass.
const ALLOWANCE: u64 = 64 << 20;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the media type of a layer says, of OCI and of Docker; `None` if it is not one of a layer.
    pub fn declared(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What the first ten bytes of a layer are; fewer only of a shorter one.
    ///
    /// # Errors
    /// A known format that is not read, in a sentence.
    fn sniff(first: &[u8]) -> Result<Self, String> {
        let refused = |name: &str| Err(format!("compression {name} is not supported; decompress it first"));
        match first {
            [0x1f, 0x8b, 8, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => refused("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => refused("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => refused("lz4"),
            _ => Ok(Self::None),
        }
    }
}

impl Display for Compression {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Gives the tar of the layer that `descriptor` names out of its compressed bytes.
///
/// The first bytes are read at once. Reading fails where the data is broken, is followed by anything but zeros, or
/// grows beyond 1100 times what was read of it and 64 MiB.
///
/// # Errors
/// [`BlobError::Compression`] for a format that is not read, or not the one of the media type; those of `blob`.
pub fn reader(blob: impl Read + Send + 'static, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, BlobError> {
    let digest = descriptor.digest;
    let refuse = |problem: String| BlobError::Compression { digest, problem };
    let lost = |source: io::Error| source.downcast().unwrap_or_else(|source| BlobError::Transfer { digest, source });
    let Some(declared) = Compression::declared(&descriptor.media_type) else {
        return Err(refuse(format!("media type {:?} is not that of a layer", descriptor.media_type)));
    };
    let mut window = Window::new(blob);
    let found = Compression::sniff(window.peek(MAGIC).map_err(lost)?).map_err(refuse)?;
    if found != declared {
        return Err(refuse(format!("its media type says {declared}, but its content is {found}")));
    }
    decompressor(window, found).map_err(lost)
}

/// Gives a tar that may be compressed, told by its first bytes alone; for files that come without a descriptor.
///
/// # Errors
/// A compression that is not read; those of `input`.
pub fn sniffed(input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut window = Window::new(input);
    let found = Compression::sniff(window.peek(MAGIC)?).map_err(io::Error::other)?;
    decompressor(window, found)
}

fn decompressor<R: Read + Send + 'static>(
    window: Window<R>,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::None => Box::new(window),
        Compression::Gzip => Box::new(Gzip { limit: Limit::default(), state: Member::Between(window) }),
        Compression::Zstd => Box::new(Zstd::new(window)?),
    })
}

/// Input of which the next bytes can be looked at, and counted as they are consumed.
struct Window<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> Window<R> {
    fn new(input: R) -> Self {
        Self { input, buffer: vec![0; WINDOW].into_boxed_slice(), start: 0, end: 0, consumed: 0 }
    }

    /// Looks at the next `count` bytes, fewer only at the end of the input.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.start + count > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }

    /// Reads the rest, which must be zeros: tar's padding that some tools put behind the compressed data.
    fn only_zeros(&mut self) -> io::Result<()> {
        loop {
            let rest = self.fill_buf()?;
            if rest.is_empty() {
                return Ok(());
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(invalid("bytes that are not part of it follow the compressed layer; the image is broken"));
            }
            let length = rest.len();
            self.consume(length);
        }
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Window<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.peek(1)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.consumed += count as u64;
    }
}

/// Stops what grows out of all proportion to the bytes that were read, whatever size the manifest claims.
#[derive(Default)]
struct Limit {
    produced: u64,
}

impl Limit {
    fn check(&mut self, length: usize, consumed: u64) -> io::Result<usize> {
        self.produced += length as u64;
        if self.produced > consumed.saturating_mul(RATIO).saturating_add(ALLOWANCE) {
            return Err(invalid(
                "the layer grows to over 1100 times its compressed size: a decompression bomb, refused",
            ));
        }
        Ok(length)
    }
}

struct Gzip<R> {
    limit: Limit,
    state: Member<R>,
}

/// Where in a row of gzip members.
enum Member<R> {
    Between(Window<R>),
    Within(Box<GzDecoder<Window<R>>>),
    Ended,
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            // An error leaves Ended behind, so it is remembered: there is no end of file after it.
            self.state = match std::mem::replace(&mut self.state, Member::Ended) {
                Member::Ended => return Ok(0),
                Member::Between(mut window) => {
                    if window.peek(2)? == [0x1f, 0x8b] {
                        Member::Within(Box::new(GzDecoder::new(window)))
                    } else {
                        window.only_zeros()?;
                        return Ok(0);
                    }
                }
                Member::Within(mut member) => match member.read(buffer)? {
                    0 => Member::Between((*member).into_inner()),
                    length => {
                        let length = self.limit.check(length, member.get_ref().consumed)?;
                        self.state = Member::Within(member);
                        return Ok(length);
                    }
                },
            }
        }
    }
}

struct Zstd<R> {
    limit: Limit,
    window: Window<R>,
    decoder: Decoder<'static>,
    /// Whether a frame has begun and not ended.
    within: bool,
    ended: bool,
}

impl<R: Read> Zstd<R> {
    fn new(window: Window<R>) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self { limit: Limit::default(), window, decoder, within: false, ended: false })
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            if !self.within {
                if Compression::sniff(self.window.peek(MAGIC)?).ok() != Some(Compression::Zstd) {
                    self.window.only_zeros()?;
                    self.ended = true;
                    break;
                }
                self.decoder.reinit()?;
                self.within = true;
            }
            let input = self.window.fill_buf()?;
            let at_end = input.is_empty();
            let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(&mut *buffer));
            let left = self.decoder.run(&mut source, &mut target)?;
            let (taken, length) = (source.pos(), target.pos());
            self.window.consume(taken);
            self.within = left != 0;
            if length > 0 {
                return self.limit.check(length, self.window.consumed);
            }
            if at_end && self.within {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the zstd frame of the layer is cut off"));
            }
        }
        Ok(0)
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;
    use crate::digest::Digest;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(b""),
            size: 0,
            platform: None,
            urls: None,
            annotations: None,
        }
    }

    fn media_type(compression: Compression) -> &'static str {
        match compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Gives one byte at a time, as a slow network may.
    struct Dribble(Cursor<Vec<u8>>);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn unpack(bytes: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
        let mut reader =
            reader(Cursor::new(bytes.to_vec()), &descriptor(media_type(compression))).map_err(io::Error::other)?;
        let mut unpacked = Vec::new();
        reader.read_to_end(&mut unpacked)?;
        Ok(unpacked)
    }

    #[test]
    fn members_frames_and_trailing_zeros_are_one_layer() {
        let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        for (bytes, compression) in [
            (b"onetwo".to_vec(), Compression::None),
            ([gzip(b"one"), gzip(b""), gzip(b"two"), vec![0; 700]].concat(), Compression::Gzip),
            ([zstandard(b"one"), skippable.to_vec(), zstandard(b"two"), vec![0; 700]].concat(), Compression::Zstd),
            ([skippable.to_vec(), zstandard(b"onetwo")].concat(), Compression::Zstd),
        ] {
            assert_eq!(unpack(&bytes, compression).unwrap(), b"onetwo", "{compression}");
            let mut slow = Vec::new();
            let dribble = Dribble(Cursor::new(bytes));
            reader(dribble, &descriptor(media_type(compression))).unwrap().read_to_end(&mut slow).unwrap();
            assert_eq!(slow, b"onetwo", "{compression} byte by byte");
        }
        let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(unpack(&gzip(&large), Compression::Gzip).unwrap(), large);
        assert_eq!(unpack(&zstandard(&large), Compression::Zstd).unwrap(), large);
        assert_eq!(unpack(b"", Compression::None).unwrap(), b"");
    }

    #[test]
    fn cut_broken_and_followed_data_are_refused() {
        for (whole, compression) in
            [(gzip(b"content of a layer"), Compression::Gzip), (zstandard(b"content of a layer"), Compression::Zstd)]
        {
            for length in MAGIC..whole.len() {
                assert!(
                    unpack(&whole[..length], compression).is_err(),
                    "{length} bytes of {compression} were accepted"
                );
            }
            assert!(unpack(&[&whole[..], &b"junk"[..]].concat(), compression).is_err());
            assert!(unpack(&[&whole[..], &[0; 9], &b"x"[..]].concat(), compression).is_err());
        }
        let mut broken = gzip(b"content of a layer");
        let checksum = broken.len() - 8;
        broken[checksum] ^= 1;
        assert!(unpack(&broken, Compression::Gzip).is_err());
    }

    #[test]
    fn label_and_bytes_must_agree() {
        let open = |bytes: Vec<u8>, compression: Compression| {
            reader(Cursor::new(bytes), &descriptor(media_type(compression))).map(|_| ()).unwrap_err().to_string()
        };
        assert!(open(gzip(b""), Compression::Zstd).contains("its media type says zstd, but its content is gzip"));
        assert!(open(zstandard(b""), Compression::None).contains("content is zstd"));
        assert!(open(b"plain".to_vec(), Compression::Gzip).contains("content is uncompressed"));
        assert!(open(Vec::new(), Compression::Gzip).contains("content is uncompressed"));
        assert!(open(b"\xfd7zXZ\0....".to_vec(), Compression::Gzip).contains("compression xz is not supported"));
        let unknown = reader(Cursor::new(Vec::new()), &descriptor("text/plain")).map(|_| ()).unwrap_err().to_string();
        assert!(unknown.contains("\"text/plain\" is not that of a layer"));
    }

    #[test]
    fn bombs_go_off_early() {
        let bomb = zstandard(&vec![0; 200 << 20]);
        // The size that the manifest claims must not widen the bound.
        let claimed = Descriptor { size: 1 << 40, ..descriptor(media_type(Compression::Zstd)) };
        let mut reader = reader(Cursor::new(bomb), &claimed).unwrap();
        let mut unpacked = 0;
        let error = loop {
            match reader.read(&mut [0; 1 << 13]) {
                Ok(0) => panic!("the bomb was unpacked whole"),
                Ok(length) => unpacked += length,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("bomb"), "{error}");
        assert!(unpacked < 128 << 20);
    }

    #[test]
    fn an_error_at_the_very_end_of_the_input_surfaces() {
        struct Unverified(Cursor<Vec<u8>>);
        impl Read for Unverified {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.read(buffer)? {
                    0 => Err(io::Error::other("digest")),
                    length => Ok(length),
                }
            }
        }
        for (bytes, compression) in [
            (vec![1; 100], Compression::None),
            (gzip(&[1; 100]), Compression::Gzip),
            (zstandard(&[1; 100]), Compression::Zstd),
        ] {
            let input = Unverified(Cursor::new(bytes));
            let mut reader = reader(input, &descriptor(media_type(compression))).unwrap();
            assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap_err().to_string(), "digest", "{compression}");
        }
    }
}
