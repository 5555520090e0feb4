//! Decompresses layers: gzip, zstd, or nothing, told by their first bytes and held against what the manifest says.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::BlobError;
use crate::manifest::Descriptor;

/// Bytes that a decompressor is fed with at once.
const BUFFER: usize = 256 * 1024;
/// What a layer may grow to: so many times its compressed size, and this much more. The densest real layers, all zeros,
/// reach gzip's own bound of 1032; beyond the first bytes nothing honest comes near.
const MOST_RATIO: u64 = 1100;
const MOST_BEYOND: u64 = 64 << 20;
/// Largest zstd window, as its own command accepts: 128 MiB.
const LARGEST_WINDOW: u32 = 27;

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    /// What a layer's media type says; `None` for one that is no layer's. Docker's name gzip in full.
    pub fn declared(media_type: &str) -> Option<Self> {
        let (_, packing) = media_type.split_once(".tar")?;
        match packing {
            "+gzip" | ".gzip" => Some(Self::Gzip),
            "+zstd" | ".zstd" => Some(Self::Zstd),
            "" => Some(Self::None),
            _ => None,
        }
    }
}

/// Reads the tar within a layer's blob.
///
/// At its end it takes the blob to its end too, so that the blob's digest is always checked; junk there is an error,
/// zeros are not.
///
/// # Errors
/// [`BlobError::Compression`] for what is neither, or not what the media type says; those of `blob`.
pub fn reader(blob: impl Read + Send + 'static, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, BlobError> {
    let digest = descriptor.digest;
    let mut blob = BufReader::with_capacity(BUFFER, blob);
    let first = peek(&mut blob).map_err(|source| into_blob_error(source, digest))?;
    let refuse = |problem: String| BlobError::Compression { digest, problem };
    let found = sniff(&first).map_err(refuse)?;
    if let Some(declared) = Compression::declared(&descriptor.media_type)
        && declared != found
    {
        return Err(refuse(format!("declared as {declared:?}, but its content is {found:?}")));
    }
    decompressor(blob, found, descriptor.size).map_err(|source| into_blob_error(source, digest))
}

/// Reads a tar that may be compressed, told by its first bytes alone; for files that come without a descriptor.
///
/// # Errors
/// An unknown compression; those of `input`.
pub fn sniffed(input: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let found = sniff(&peek(&mut input)?).map_err(io::Error::other)?;
    decompressor(input, found, u64::MAX / MOST_RATIO / 2)
}

/// Tells a compression by the first bytes.
fn sniff(first: &[u8]) -> Result<Compression, String> {
    match first {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err("compression xz is not supported; decompress it first".to_owned()),
        [b'B', b'Z', b'h', ..] => Err("compression bzip2 is not supported; decompress it first".to_owned()),
        _ => Ok(Compression::None),
    }
}

fn decompressor<R: BufRead + Send + 'static>(
    blob: R,
    compression: Compression,
    size: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let left = size.saturating_mul(MOST_RATIO).saturating_add(MOST_BEYOND);
    Ok(match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(Bounded { inner: Members::Between(blob), left }),
        Compression::Zstd => {
            // Reads frame after frame, skippable ones too, until the input ends.
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Box::new(Bounded { inner: decoder, left })
        }
    })
}

fn peek(blob: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let available = blob.fill_buf()?;
    Ok(available[..available.len().min(8)].to_vec())
}

fn into_blob_error(source: io::Error, digest: crate::digest::Digest) -> BlobError {
    match source.downcast::<BlobError>() {
        Ok(error) => error,
        Err(source) => BlobError::Transfer { digest, source },
    }
}

/// Ends a stream that grows beyond all measure.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("the layer decompresses to over 1100 times its size: a decompression bomb, refused")
        })?;
        Ok(count)
    }
}

/// The members of a gzip file, one after another (RFC 1952, section 2.2), then zeros or nothing.
enum Members<R: BufRead> {
    /// Before the first member, or behind one.
    Between(R),
    /// Within a member.
    Within(Box<GzDecoder<R>>),
    /// Behind the last byte.
    Ended,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Between(mut blob) => match blob.fill_buf()?.first() {
                    None => return Ok(0),
                    Some(0x1f) => *self = Self::Within(Box::new(GzDecoder::new(blob))),
                    Some(0) => return only_zeros(blob),
                    Some(_) => return Err(junk()),
                },
                Self::Within(mut decoder) => {
                    let count = decoder.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        *self = Self::Within(decoder);
                        return Ok(count);
                    }
                    *self = Self::Between(decoder.into_inner());
                }
            }
        }
    }
}

fn only_zeros(mut blob: impl BufRead) -> io::Result<usize> {
    loop {
        let rest = blob.fill_buf()?;
        if rest.is_empty() {
            return Ok(0);
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(junk());
        }
        let count = rest.len();
        blob.consume(count);
    }
}

fn junk() -> io::Error {
    io::Error::other("the layer holds something else behind its compressed data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(blob: Vec<u8>, media_type: &str) -> Result<Vec<u8>, String> {
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(&blob),
            size: blob.len() as u64,
            platform: None,
            urls: None,
            annotations: None,
        };
        let mut out = Vec::new();
        let mut reader = reader(io::Cursor::new(blob), &descriptor).map_err(|error| error.to_string())?;
        reader.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

    #[test]
    fn all_members_and_frames_are_read() {
        let twice = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(read(twice.clone(), GZIP).unwrap(), b"onetwo");
        assert_eq!(read([twice, vec![0; 100]].concat(), GZIP).unwrap(), b"onetwo");
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames =
            [zstd::encode_all(&b"one"[..], 1).unwrap(), skippable, zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(read(frames, ZSTD).unwrap(), b"onetwo");
        assert_eq!(read(b"plain".to_vec(), PLAIN).unwrap(), b"plain");
    }

    #[test]
    fn what_is_broken_or_declared_otherwise_is_refused() {
        let mut bad_crc = gzip(b"content");
        let at = bad_crc.len() - 6;
        bad_crc[at] ^= 1;
        let mut cut = gzip(&[7; 1000]);
        cut.truncate(cut.len() - 4);
        for (blob, media_type) in [
            (bad_crc, GZIP),
            (cut, GZIP),
            ([gzip(b"x"), b"junk".to_vec()].concat(), GZIP),
            (zstd::encode_all(&b"x"[..], 1).unwrap(), GZIP),
            (gzip(b"x"), PLAIN),
            (b"\xfd7zXZ\0rest".to_vec(), GZIP),
        ] {
            assert!(read(blob, media_type).is_err());
        }
    }

    #[test]
    fn a_bomb_is_stopped() {
        // Two stages of gzip would pass for one: zstd reaches any ratio on zeros.
        let bomb = zstd::encode_all(io::repeat(0).take(400 << 20), 1).unwrap();
        assert!(read(bomb, ZSTD).unwrap_err().contains("bomb"));
    }
}
