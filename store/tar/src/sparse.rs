//! Sparse files: where in a file the data of its tar body belongs (GNU tar manual, "Storing Sparse Files").

use std::io::{self, Read};

use crate::TarError;
use crate::error::escape;

/// Most data regions that one file may have.
const MOST_REGIONS: usize = 1 << 20;
/// Largest file, holes included, that is hashed: 1 TiB.
const LARGEST: u64 = 1 << 40;

/// Where data lies in a sparse file; all else reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Data regions as offset and length, in order and apart.
    pub regions: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Checks a map: in order, without overlap, within the file, and holding exactly the `stored` bytes of the body.
    ///
    /// # Errors
    /// [`TarError::Sparse`], [`TarError::Limit`].
    pub fn new(regions: Vec<(u64, u64)>, size: u64, stored: u64, path: &[u8]) -> Result<Self, TarError> {
        let bad = || TarError::Sparse { path: escape(path) };
        if regions.len() > MOST_REGIONS {
            return Err(TarError::Limit { what: "regions of a sparse file", limit: MOST_REGIONS as u64 });
        }
        if size > LARGEST {
            return Err(TarError::Limit { what: "bytes of a sparse file", limit: LARGEST });
        }
        let (mut end, mut data) = (0, 0);
        for &(offset, length) in &regions {
            if offset < end {
                return Err(bad());
            }
            end = offset.checked_add(length).filter(|&end| end <= size).ok_or_else(bad)?;
            data += length;
        }
        if data != stored {
            return Err(bad());
        }
        Ok(Self { size, regions })
    }
}

/// Pairs of a list "offset, length, offset, length …".
pub fn pair_up(numbers: &[u64], path: &[u8]) -> Result<Vec<(u64, u64)>, TarError> {
    if !numbers.len().is_multiple_of(2) {
        return Err(TarError::Sparse { path: escape(path) });
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Reads the whole file out of its stored data: zeros where the map has holes.
#[derive(Debug)]
pub struct Expanded<'a, R> {
    data: R,
    map: &'a SparseMap,
    region: usize,
    position: u64,
}

impl<'a, R: Read> Expanded<'a, R> {
    /// `data` gives the bytes of the regions, one after another.
    pub fn new(data: R, map: &'a SparseMap) -> Self {
        Self { data, map, region: 0, position: 0 }
    }

    /// Where the data comes from.
    pub fn data(&self) -> &R {
        &self.data
    }
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.regions.get(self.region).is_some_and(|&(offset, length)| self.position >= offset + length) {
            self.region += 1;
        }
        let (hole_end, data_end) = match self.map.regions.get(self.region) {
            Some(&(offset, length)) => (offset, offset + length),
            None => (self.map.size, self.map.size),
        };
        let within = |end: u64| usize::try_from(end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let count = if self.position < hole_end {
            let count = within(hole_end);
            buffer[..count].fill(0);
            count
        } else {
            let count = within(data_end);
            self.data.read(&mut buffer[..count])?
        };
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zeros() {
        let map = SparseMap::new(vec![(2, 3), (7, 1)], 10, 4, b"f").unwrap();
        let mut whole = Vec::new();
        Expanded::new(b"abcd".as_slice(), &map).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, b"\0\0abc\0\0d\0\0");
    }

    #[test]
    fn maps_that_lie_are_refused() {
        for (regions, size, stored) in [
            (vec![(0, 4), (2, 4)], 10, 8),
            (vec![(0, 20)], 10, 20),
            (vec![(u64::MAX, 2)], 10, 2),
            (vec![(0, 4)], 10, 5),
            (vec![], 1 << 62, 0),
        ] {
            assert!(SparseMap::new(regions, size, stored, b"f").is_err());
        }
    }
}
