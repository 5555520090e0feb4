//! SHA-256 digests as the OCI specifications write them.
//!
//! A [`Digest`] is the only form in which a digest travels through the store. Text from a registry or a file becomes one
//! by [`Digest::from_str`] or not at all, so what reaches a query, a file name or a request is 64 lowercase hex digits.

use std::fmt::{self, Display, Formatter, Write as _};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Prefix of every digest that the store accepts.
const PREFIX: &str = "sha256:";

/// A SHA-256 digest, written `sha256:` and 64 lowercase hexadecimal digits.
///
/// The text form is that of the OCI image specification, `descriptor.md`, section Digests. Other algorithms, uppercase
/// digits and any other length are refused when parsing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is not the digest of the form `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest: expected sha256: followed by 64 lowercase hexadecimal digits")]
pub struct ParseDigestError {
    /// What was given, cut after 100 characters.
    text: String,
}

impl Digest {
    /// Hashes `bytes`, all of them in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes of a SHA-256 value, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Gives the 32 bytes of the value, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Gives the 64 lowercase hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl Display for Digest {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        formatter.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or_else(|| ParseDigestError { text: text.chars().take(100).collect() })
    }
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let hex: &[u8; 64] = text.strip_prefix(PREFIX)?.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes that arrive piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` after those added before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Gives the digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Hashes and counts the bytes that are read through it.
#[derive(Debug)]
pub struct Sha256Reader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R> Sha256Reader<R> {
    /// Wraps `inner`; bytes read from it before are not part of the digest.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new(), count: 0 }
    }

    /// Gives the number of bytes read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Gives the digest of the bytes read so far and their number.
    ///
    /// What `inner` still holds is neither read nor hashed: read to the end first to have the digest of the whole.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.count)
    }
}

impl<R: Read> Read for Sha256Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.count += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn text_form_survives_a_round_trip() {
        let digest: Digest = ABC.parse().unwrap();
        assert_eq!(digest, Digest::of(b"abc"));
        assert_eq!(digest.to_string(), ABC);
        assert_eq!(digest.hex(), ABC["sha256:".len()..]);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn anything_but_64_lowercase_digits_is_refused() {
        for text in [
            "",
            "sha256:",
            "sha256:../../x",
            &ABC.to_uppercase(),
            &ABC.replace("ba78", "BA78"),
            &ABC.replace("ba78", "ga78"),
            &ABC[..ABC.len() - 1],
            &format!("{ABC}0"),
            &format!(" {ABC}"),
            &format!("{ABC}\n"),
            &ABC.replace("sha256", "sha512"),
            &ABC.replace("sha256:", "sha256-"),
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn reader_hashes_what_passes_through() {
        let mut reader = Sha256Reader::new(&b"abc"[..]);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 3);
        assert_eq!(reader.count(), 3);
        assert_eq!(reader.finish(), (Digest::of(b"abc"), 3));
    }
}
