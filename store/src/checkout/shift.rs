//! Whose the files of a checkout are where the caller is not root inside: every owner moved to where the container's map
//! looks for it.
//!
//! In the store's user namespace 0 is the caller, and 1, 2, 3 … are its subordinate ids. A container whose caller is to be
//! `n` inside finds there its own 0, 1, … `n`-1 one further on, at 1, 2, … `n`; its `n` at 0; and all above where they are.

use std::fmt;
use std::str::FromStr;

use crate::layer::entry::Metadata;

/// Attribute with a file's capabilities (`capabilities(7)`).
const CAPABILITY: &[u8] = b"security.capability";
/// The version in the first four bytes of its value, little-endian, and where in the value the root id of version 3 lies.
const VERSION_MASK: u32 = 0xff00_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const SIZE_2: usize = 20;

/// The ids that the caller has in the container. Both 0, as they are by default: the caller is root, and nothing moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IdShift {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// A text that is no pair of ids.
#[derive(Debug, thiserror::Error)]
#[error("{0}: not two ids, UID:GID")]
pub struct BadIdShift(String);

impl IdShift {
    /// Whether nothing moves.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Moves the owner of a file; and of its capabilities the root for whom they hold, who is another one too.
    pub(crate) fn apply(self, metadata: &mut Metadata) {
        if self.is_none() {
            return;
        }
        metadata.uid = moved(self.user, metadata.uid);
        metadata.gid = moved(self.group, metadata.gid);
        let root = moved(self.user, 0);
        if let Some(value) = metadata.xattrs.get_mut(CAPABILITY)
            && let Some(owned) = capability_of(value, root)
        {
            *value = owned;
        }
    }
}

/// Where an id lies in the store's namespace that a container whose caller is `place` knows by this number.
fn moved(place: u32, id: u32) -> u32 {
    match id.cmp(&place) {
        std::cmp::Ordering::Less => id + 1,
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Greater => id,
    }
}

/// The same capabilities for a namespace whose root is `root` here: version 3, which names it. `None` for what is of
/// another version.
fn capability_of(value: &[u8], root: u32) -> Option<Vec<u8>> {
    let version = u32::from_le_bytes(*value.first_chunk()?);
    if value.len() != SIZE_2 || version & VERSION_MASK != VERSION_2 {
        return None;
    }
    let version = version & !VERSION_MASK | VERSION_3;
    Some([&version.to_le_bytes(), value.get(4..)?, &root.to_le_bytes()].concat())
}

impl fmt::Display for IdShift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.user, self.group)
    }
}

impl FromStr for IdShift {
    type Err = BadIdShift;

    fn from_str(text: &str) -> Result<Self, BadIdShift> {
        let ids = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
        ids.map(|(user, group)| Self { user, group }).ok_or_else(|| BadIdShift(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_takes_its_place_and_those_below_move_up() {
        let moved = |id| super::moved(1000, id);
        assert_eq!([0, 33, 999, 1000, 1001, 65_535].map(moved), [1, 34, 1000, 0, 1001, 65_535]);
        assert_eq!([0, 1, 1000].map(|id| super::moved(0, id)), [0, 1, 1000]);
    }

    #[test]
    fn capabilities_of_a_file_name_the_root_for_whom_they_hold() {
        let net_raw = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut metadata = Metadata::default();
        metadata.xattrs.insert(CAPABILITY.to_vec(), net_raw.to_vec());
        let before = metadata.clone();
        IdShift::default().apply(&mut metadata);
        assert_eq!(metadata, before);
        IdShift { user: 1000, group: 100 }.apply(&mut metadata);
        assert_eq!((metadata.uid, metadata.gid), (1, 1));
        let value = metadata.xattrs.values().next().unwrap();
        assert_eq!(value[..4], [1, 0, 0, 3]);
        assert_eq!(value[4..20], net_raw[4..]);
        assert_eq!(value[20..], [1, 0, 0, 0]);
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        let shift = IdShift { user: 1000, group: 100 };
        assert_eq!(shift.to_string().parse::<IdShift>().unwrap(), shift);
        for text in ["", "1000", "a:b", "1:", "1:2:3", "-1:0"] {
            assert!(text.parse::<IdShift>().is_err(), "{text}");
        }
    }
}
