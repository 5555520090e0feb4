//! `idmap` among the options of a mount: which ids its files show with.
//!
//! Alone it means the same numbers inside as on disk. With `uids=` and `gids=`, apart by `;`, each has triples
//! `DISK-SHOWN-COUNT`, apart by `#`: so many ids from DISK on show as those from SHOWN on. With `@` before it, SHOWN is an id
//! inside, else one of the host.

use super::mount::VolumeError;

/// Ids of a mount; none for the same numbers inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMapping {
    /// Of users.
    pub users: Vec<Triple>,
    /// Of groups.
    pub groups: Vec<Triple>,
}

/// Ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    /// The first on disk.
    pub disk: u32,
    /// What it shows as.
    pub shown: u32,
    /// How many.
    pub count: u32,
    /// Whether `shown` is an id inside.
    pub is_inside: bool,
}

impl IdMapping {
    /// Of the option's value; `whole` is the argument that it stands in.
    pub(super) fn parse(value: Option<&str>, whole: &str) -> Result<Self, VolumeError> {
        let mut mapping = Self::default();
        for part in value.into_iter().flat_map(|value| value.split(';')) {
            let wrong = || VolumeError::Value { value: part.into(), needed: NEEDED, whole: whole.into() };
            let (kind, list) = part.split_once('=').ok_or_else(wrong)?;
            let triples = list.split('#').map(|text| triple(text).ok_or_else(wrong)).collect::<Result<_, _>>()?;
            match kind {
                "uids" => mapping.users = triples,
                "gids" => mapping.groups = triples,
                _ => return Err(wrong()),
            }
        }
        Ok(mapping)
    }
}

/// What a value must be.
const NEEDED: &str = "map of ids such as uids=0-1000-1;gids=@0-0-10#20-30-5";

fn triple(text: &str) -> Option<Triple> {
    let (numbers, is_inside) = text.strip_prefix('@').map_or((text, false), |numbers| (numbers, true));
    let mut numbers = numbers.split('-').map(str::parse);
    let (disk, shown, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let is_whole = numbers.next().is_none() && count > 0;
    is_whole.then_some(Triple { disk, shown, count, is_inside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_triples_of_users_and_groups() {
        let parse = |value| IdMapping::parse(value, "whole");
        assert_eq!(parse(None).unwrap(), IdMapping::default());
        let mapping = parse(Some("uids=0-1000-1#5-6-7;gids=@1-2-3")).unwrap();
        assert_eq!(mapping.users[1], Triple { disk: 5, shown: 6, count: 7, is_inside: false });
        assert_eq!(mapping.groups, [Triple { disk: 1, shown: 2, count: 3, is_inside: true }]);
        for wrong in ["", "uids", "uids=", "uids=1-2", "uids=1-2-0", "uids=1-2-3-4", "uids=a-2-3", "x=1-2-3"] {
            assert!(parse(Some(wrong)).unwrap_err().to_string().contains("no map of ids"), "{wrong}");
        }
    }
}
