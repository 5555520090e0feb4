//! Ids for the containers of real root: subordinate ones, as those of anybody else, so that no process of a container is
//! root on the host. `/etc/subuid` and `/etc/subgid` give them to `root`, or to `containers`, the name that podman's
//! documentation has for them.
//!
//! All containers have the same 65,536 ids, the first of root's. One that asks for ids of its own gets a range that no other
//! container of the store has; which one is in its record, and with that it is given back.

use std::os::fd::AsFd;
use std::path::Path;

use crate::error::Error;
use crate::free_ids::Known;
use crate::idmap::{Extent, IdMap, IdMapError, Shape, SubordinateRanges};
use crate::idmapped::Tree;
use crate::seccomp::oci::KernelVersion;
use crate::userns::{self, Maps, SUBGID, SUBUID};

/// How many ids a container has: all that are usual in images, `nobody` among them.
pub const USUAL: u32 = 65_536;
/// The first Linux whose overlay takes layers with other ids.
const LAYERS: (u32, u32) = (5, 19);
/// Whose the ranges are; those of the first that has some are what containers usually have, those of the last are dealt out.
const OWNERS: [&str; 2] = ["root", "containers"];

/// The maps of a container.
///
/// # Errors
/// [`IdMapError::NoRootRange`].
pub fn maps(shape: Shape) -> Result<Maps, IdMapError> {
    if let Shape::Range { users, groups, size } = shape {
        let map = |outside| IdMap(vec![Extent { inside: 0, outside, count: size }]);
        return Ok(Maps { users: map(users), groups: map(groups) });
    }
    let texts = texts();
    Ok(Maps { users: usual(&texts, SUBUID)?, groups: usual(&texts, SUBGID)? })
}

/// A range that none of the `taken` shapes has, nor any container without one of its own.
///
/// # Errors
/// [`IdMapError::NoneLeft`], [`IdMapError::NoRootRange`].
pub fn free(size: u32, taken: &[Shape]) -> Result<Shape, IdMapError> {
    let texts = texts();
    let one = |file: &'static str, first_of: fn(u32, u32) -> u32| {
        let ranges = taken.iter().filter_map(|shape| match *shape {
            Shape::Range { users, groups, size } => Some((first_of(users, groups), size)),
            Shape::Auto | Shape::KeepId { .. } => None,
        });
        let usual = usual(&texts, file)?;
        let used = usual.0.iter().map(|extent| (extent.outside, extent.count)).chain(ranges).collect();
        first_gap(&dealt_out(text(&texts, file)), used, size).ok_or_else(|| IdMapError::NoneLeft {
            size,
            file,
            remedy: Known::of_machine().remedy(OWNERS[0], size),
        })
    };
    Ok(Shape::Range { users: one(SUBUID, |users, _| users)?, groups: one(SUBGID, |_, groups| groups)?, size })
}

/// Tries whether a container whose files are in `folder` could have ids other than the host's; its maps.
///
/// # Errors
/// [`Error::Unmapped`] with the reason.
pub fn attempt(folder: &Path) -> Result<Maps, Error> {
    let unmapped = |error: &dyn std::fmt::Display| Error::Unmapped(error.to_string());
    let maps = maps(Shape::Auto).map_err(|error| unmapped(&error))?;
    if let Some(why) = too_old() {
        return Err(unmapped(&why));
    }
    // A store that is to be will be where its nearest folder is.
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let namespace = userns::sleeping(&maps).map_err(|error| unmapped(&error))?;
    Tree::of_store(there, false).map_err(|error| unmapped(&error))?.map(namespace.as_fd())?;
    Ok(maps)
}

/// Why this kernel's overlay takes no layers with other ids, if it does not.
pub(crate) fn too_old() -> Option<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let is_old = KernelVersion::parse(&release).is_some_and(|kernel| (kernel.major, kernel.minor) < LAYERS);
    is_old.then(|| format!("layers of an overlay have other ids from Linux 5.19 on, and this is {release}"))
}

fn texts() -> [String; 2] {
    [SUBUID, SUBGID].map(|file| std::fs::read_to_string(file).unwrap_or_default())
}

fn text<'a>(texts: &'a [String; 2], file: &str) -> &'a str {
    &texts[usize::from(file == SUBGID)]
}

/// The ranges of an owner. A range that root itself is in would be none that keeps it apart.
fn ranges(text: &str, owner: &str) -> SubordinateRanges {
    let id = if owner == "root" { 0 } else { u32::MAX };
    let mut ranges = SubordinateRanges::parse(text, owner, id);
    ranges.0.retain(|&(first, _)| first > 0);
    ranges
}

fn usual(texts: &[String; 2], file: &'static str) -> Result<IdMap, IdMapError> {
    let mut owned = OWNERS.iter().map(|owner| (owner, ranges(text(texts, file), owner)));
    let (owner, owned) = owned
        .find(|(_, ranges)| !ranges.is_empty())
        .ok_or_else(|| IdMapError::NoRootRange { file, remedy: Known::of_machine().remedy(OWNERS[0], 0) })?;
    Ok(IdMap(userns::here(owner, owned, file)?.lay(0, USUAL, 0)))
}

fn dealt_out(text: &str) -> SubordinateRanges {
    let mut owned = OWNERS.iter().rev().map(|owner| ranges(text, owner));
    owned.find(|ranges| !ranges.is_empty()).unwrap_or_default()
}

/// The first of `size` ids in a row that are in the ranges and not used.
fn first_gap(ranges: &SubordinateRanges, mut used: Vec<(u32, u32)>, size: u32) -> Option<u32> {
    used.sort_unstable();
    ranges.0.iter().find_map(|&(first, count)| {
        // The last number of all is no id.
        let end = first.saturating_add(count);
        let mut at = first;
        for &(other, length) in &used {
            let after = other.saturating_add(length);
            if after > at && other < at.saturating_add(size) {
                at = after;
            }
        }
        (size > 0 && at.checked_add(size)? <= end).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_first_that_is_wide_enough() {
        let ranges = SubordinateRanges(vec![(1000, 100), (5000, 1000)]);
        assert_eq!(first_gap(&ranges, vec![], 100), Some(1000));
        assert_eq!(first_gap(&ranges, vec![(1000, 10)], 90), Some(1010));
        assert_eq!(first_gap(&ranges, vec![(1000, 10)], 91), Some(5000));
        assert_eq!(first_gap(&ranges, vec![(5900, 100), (5000, 400), (5500, 100)], 300), Some(5600));
        assert_eq!(first_gap(&ranges, vec![(5900, 100), (5000, 400), (5500, 100)], 301), None);
        assert_eq!(first_gap(&ranges, vec![(900, 4950)], 150), Some(5850));
        assert_eq!(first_gap(&ranges, vec![], 1001), None);
    }

    #[test]
    fn root_comes_before_containers_and_those_are_dealt_out() {
        let both = "alice:1:5\ncontainers:300000:200000\nroot:100000:70000\nroot:0:10\n";
        let texts = [both.to_owned(), "containers:300000:200000\n".to_owned()];
        assert_eq!(usual(&texts, SUBUID).unwrap().to_string(), "0 100000 65536\n");
        assert_eq!(usual(&texts, SUBGID).unwrap().to_string(), "0 300000 65536\n");
        assert_eq!(dealt_out(both).0, [(300_000, 200_000)]);
        assert_eq!(dealt_out("root:7:8").0, [(7, 8)]);
    }
}
