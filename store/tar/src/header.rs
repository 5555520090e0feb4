//! One 512-byte header block: V7, ustar and GNU (POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").

use crate::TarError;
use crate::error::escape;

/// Offset and length of each data region of a sparse file.
pub type Regions = Vec<(u64, u64)>;

/// Size of a header, and the unit to which everything in a tar is padded.
pub const BLOCK: usize = 512;

/// A header block whose checksum holds.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Reads a block; `offset` is its place in the stream. `None`: it is all zeros.
    ///
    /// # Errors
    /// [`TarError::Checksum`]. Both the unsigned sum and the signed one of old tars are accepted.
    pub fn parse(block: &'a [u8; BLOCK], offset: u64) -> Result<Option<Self>, TarError> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Self(block);
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        let stated = octal(&block[148..156]).and_then(|sum| i64::try_from(sum).ok());
        if stated == Some(unsigned) || stated == Some(signed) {
            Ok(Some(header))
        } else {
            Err(TarError::Checksum(offset))
        }
    }

    /// Type flag.
    pub fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Name, with the prefix of ustar.
    pub fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.is_ustar() { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    /// Link target.
    pub fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    /// Bytes of body that follow, as this header has it.
    pub fn size(&self) -> Result<u64, TarError> {
        self.number(124..136, "size")
    }

    /// Permission bits.
    pub fn mode(&self) -> Result<u32, TarError> {
        Ok((self.number(100..108, "mode")? & 0o7777) as u32)
    }

    /// Owner.
    pub fn uid(&self) -> Result<u64, TarError> {
        self.number(108..116, "uid")
    }

    /// Group.
    pub fn gid(&self) -> Result<u64, TarError> {
        self.number(116..124, "gid")
    }

    /// Modification time, seconds since 1970; base-256 ones may be negative.
    pub fn mtime(&self) -> Result<i64, TarError> {
        signed(&self.0[136..148]).ok_or_else(|| self.bad("mtime"))
    }

    /// Device numbers, major and minor.
    pub fn device(&self) -> Result<(u32, u32), TarError> {
        let number = |range, field| {
            let number = self.number(range, field)?;
            u32::try_from(number).map_err(|_| self.bad(field))
        };
        Ok((number(329..337, "major device number")?, number(337..345, "minor device number")?))
    }

    /// Old GNU sparse format: the four pairs of offset and length in the header, the real size, and whether more follow.
    pub fn gnu_sparse(&self) -> Result<(Regions, u64, bool), TarError> {
        let pairs = sparse_pairs(&self.0[386..482]).ok_or_else(|| self.bad("sparse map"))?;
        Ok((pairs, self.number(483..495, "real size")?, self.0[482] != 0))
    }

    fn is_ustar(self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    fn number(self, range: std::ops::Range<usize>, field: &'static str) -> Result<u64, TarError> {
        let number = signed(&self.0[range]).ok_or_else(|| self.bad(field))?;
        u64::try_from(number).map_err(|_| self.bad(field))
    }

    fn bad(self, field: &'static str) -> TarError {
        TarError::Number { path: escape(&self.name()), field }
    }
}

/// Pairs of 12-byte numbers, up to the first that is empty.
pub fn sparse_pairs(bytes: &[u8]) -> Option<Regions> {
    let mut pairs = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[12] == 0 {
            break;
        }
        let number = |bytes: &[u8]| signed(bytes).and_then(|number| u64::try_from(number).ok());
        pairs.push((number(&pair[..12])?, number(&pair[12..])?));
    }
    Some(pairs)
}

/// Bytes up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number field: octal digits among blanks, or base-256 with the first bit set. Empty is zero.
fn signed(field: &[u8]) -> Option<i64> {
    match field[0] {
        0x80 => {
            let (high, low) = field[1..].split_at(field.len() - 1 - field.len().saturating_sub(1).min(8));
            if high.iter().any(|&byte| byte != 0) {
                return None;
            }
            let value = low.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
            i64::try_from(value).ok()
        }
        0xff => {
            let (high, low) = field.split_at(field.len() - field.len().min(8));
            if high.iter().any(|&byte| byte != 0xff) {
                return None;
            }
            let start = -1_i64;
            let value = low.iter().fold(start, |value, &byte| value << 8 | i64::from(byte));
            (value < 0).then_some(value)
        }
        first if first & 0x80 != 0 => None,
        _ => octal(field).and_then(|value| i64::try_from(value).ok()),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let trimmed = text(field).trim_ascii();
    trimmed.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_form() {
        assert_eq!(signed(b"0000644\0"), Some(0o644));
        assert_eq!(signed(b"   644 \0"), Some(0o644));
        assert_eq!(signed(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(signed(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(signed(&[0xff; 12]), Some(-1));
        assert_eq!(signed(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(signed(b"12x4567\0"), None);
    }
}
