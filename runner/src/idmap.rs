//! Which ids of the host the ids of a container are: `user_namespaces(7)`, `subuid(5)`.

use std::fmt;

/// One line of an id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The ids of one kind, users or groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(pub Vec<Extent>);

/// Ranges that a user was given in `/etc/subuid` or `/etc/subgid`: first id and count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubordinateRanges(pub Vec<(u32, u32)>);

/// How a container's ids relate to the caller's, or to those that real root has for its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Shape {
    /// Root inside is the caller, all others are subordinate. Real root is nobody inside: all ids are subordinate, see
    /// [`crate::root_ids`].
    #[default]
    Auto,
    /// Real root only: ids of the host that are this container's alone, from 0 on inside.
    Range {
        /// First user id of the host.
        users: u32,
        /// First group id of the host.
        groups: u32,
        /// How many of each.
        size: u32,
    },
    /// The caller has a certain id inside, its own for example; root is subordinate. The files of the root file system must
    /// be owned accordingly.
    KeepId {
        /// User id of the caller inside.
        user: u32,
        /// Group id of the caller inside.
        group: u32,
        /// Highest number of ids that exist inside; all that there are without it.
        size: Option<u32>,
    },
}

impl Shape {
    /// The ids that the caller has inside.
    pub fn caller(self) -> (u32, u32) {
        match self {
            Self::Auto | Self::Range { .. } => (0, 0),
            Self::KeepId { user, group, .. } => (user, group),
        }
    }

    /// Highest number of ids inside.
    pub(crate) fn size(self) -> u32 {
        match self {
            Self::Auto | Self::KeepId { size: None, .. } => u32::MAX,
            Self::KeepId { size: Some(size), .. } | Self::Range { size, .. } => size,
        }
    }
}

/// Ids that cannot be mapped as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdMapError {
    /// No range for the user.
    #[error("no subordinate ids for {user} in {file}; an administrator can give some: {remedy}")]
    NoRange {
        /// The user's name or id.
        user: String,
        /// The file that was looked into.
        file: &'static str,
        /// How to give some that nobody has.
        remedy: String,
    },
    /// No range for containers of real root.
    #[error("no subordinate ids for root in {file}; to give some: {remedy}")]
    NoRootRange {
        /// The file that was looked into.
        file: &'static str,
        /// How to give some that nobody has.
        remedy: String,
    },
    /// No ids are left for one more container's own range.
    #[error(
        "no {size} subordinate ids in a row are left in {file} for this container alone; ask for fewer with --userns auto:size=N, remove a container that has some, or give more: {remedy}"
    )]
    NoneLeft {
        /// How many were wanted.
        size: u32,
        /// The file that was looked into.
        file: &'static str,
        /// How to give some that nobody has.
        remedy: String,
    },
    /// They are not among the ids of the user namespace around, as in a container or a sandbox.
    #[error("the subordinate ids of {0} do not exist in the container or sandbox around; give that one a range of ids")]
    NotHere(String),
    /// Set-id programs have no power for this process.
    #[error(
        "newuidmap has no power here, as the sandbox around has set no_new_privs; start that one without, or give it a range of ids"
    )]
    NoNewPrivileges,
    /// A set-id program that maps ranges is not there.
    #[error("{0} is missing: install the package uidmap")]
    NoHelper(&'static str),
}

/// The name of a user in the text of a passwd file (`passwd(5)`); `None` for a user that has no line there.
pub fn user_name(passwd: &str, id: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, uid) = (fields.next()?, fields.next()?, fields.next()?);
        (uid.parse() == Ok(id)).then_some(name)
    })
}

impl SubordinateRanges {
    /// Takes the ranges of a user, by name or by id, out of the text of the file.
    pub fn parse(text: &str, name: &str, id: u32) -> Self {
        let id = id.to_string();
        let ranges = text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if owner != name && owner != id {
                return None;
            }
            let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (count > 0).then_some((first, count))
        });
        Self(ranges.collect())
    }

    /// Those that exist in a user namespace with this `uid_map` or `gid_map` (`user_namespaces(7)`).
    pub(crate) fn within(&self, map: &str) -> Self {
        let extents = map.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (first, _, count) = (fields.next()?.parse::<u64>().ok()?, fields.next()?, fields.next()?);
            Some((first, first + count.parse::<u64>().ok()?))
        });
        let extents: Vec<_> = extents.collect();
        let shared = self.0.iter().flat_map(|&(first, count)| {
            let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
            extents.iter().filter_map(move |&(from, to)| {
                let (first, end) = (first.max(from), end.min(to));
                Some((u32::try_from(first).ok()?, u32::try_from(end.checked_sub(first)?).ok()?))
            })
        });
        Self(shared.filter(|&(_, count)| count > 0).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lays the ranges out one after another from `inside` on, `most` ids at the most.
    pub(crate) fn lay(&self, mut inside: u32, mut most: u32, skip: u32) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut skip = skip;
        for &(first, count) in &self.0 {
            // The last number of all is no id; a range that runs over it ends before it.
            let count = count.min(u32::MAX - first);
            let skipped = skip.min(count);
            skip -= skipped;
            let count = (count - skipped).min(most);
            if count > 0 {
                extents.push(Extent { inside, outside: first + skipped, count });
                inside += count;
                most -= count;
            }
        }
        extents
    }
}

impl IdMap {
    /// The map in which the caller is `inside`, and the subordinate ids are all others below `size`, in order.
    pub fn plan(inside: u32, size: u32, caller: u32, ranges: &SubordinateRanges) -> Self {
        let mut extents = ranges.lay(0, inside.min(size), 0);
        extents.push(Extent { inside, outside: caller, count: 1 });
        let next = inside.saturating_add(1);
        extents.extend(ranges.lay(next, size.min(u32::MAX - 1).saturating_sub(next), inside));
        Self(extents)
    }

    /// The caller and its subordinate ids, each as itself.
    pub fn identity(caller: u32, ranges: &SubordinateRanges) -> Self {
        let mut extents = vec![Extent { inside: caller, outside: caller, count: 1 }];
        extents.extend(
            ranges.lay(0, u32::MAX - 1, 0).into_iter().map(|extent| Extent { inside: extent.outside, ..extent }),
        );
        Self(extents)
    }

    /// The map that the text of a `uid_map` or `gid_map` shows.
    pub(crate) fn shown(text: &str) -> Self {
        let extent = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some(Extent { inside, outside, count })
        };
        Self(text.lines().filter_map(extent).collect())
    }

    /// Whether the text of a `uid_map` or `gid_map` shows this map: the kernel pads the numbers, and sorts many lines.
    pub fn is_shown_by(&self, text: &str) -> bool {
        let line = |line: &str| -> Option<(u32, u32, u32)> {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let mut shown: Vec<_> = text.lines().map(line).collect();
        let mut own: Vec<_> = self.0.iter().map(|extent| Some((extent.inside, extent.outside, extent.count))).collect();
        shown.sort_unstable();
        own.sort_unstable();
        shown == own
    }

    /// Root inside is the caller, and nobody else exists: what needs no privilege.
    pub fn single(caller: u32) -> Self {
        Self(vec![Extent { inside: 0, outside: caller, count: 1 }])
    }

    /// Whether an id exists inside.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|extent| id >= extent.inside && id - extent.inside < extent.count)
    }

    /// What an id inside is outside, where as many follow as it has after it there.
    pub(crate) fn outside(&self, id: u32, count: u32) -> Option<u32> {
        let has =
            |extent: &&Extent| id >= extent.inside && id - extent.inside <= extent.count.saturating_sub(count.max(1));
        let extent = self.0.iter().find(has)?;
        Some(extent.outside + (id - extent.inside))
    }

    /// The arguments of newuidmap and newgidmap that follow the process id.
    pub fn arguments(&self) -> Vec<String> {
        let numbers = self.0.iter().flat_map(|extent| [extent.inside, extent.outside, extent.count]);
        numbers.map(|number| number.to_string()).collect()
    }
}

impl fmt::Display for IdMap {
    /// As the kernel reads and shows it, a line an extent.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for extent in &self.0 {
            writeln!(formatter, "{} {} {}", extent.inside, extent.outside, extent.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> SubordinateRanges {
        SubordinateRanges::parse("bob:1:1\nalice:100000:65536\n1000:300000:10\nalice:x:5\n", "alice", 1000)
    }

    fn plan(inside: u32, caller: u32, ranges: &SubordinateRanges) -> String {
        IdMap::plan(inside, u32::MAX, caller, ranges).to_string()
    }

    #[test]
    fn ranges_are_found_by_name_and_by_id() {
        assert_eq!(ranges().0, [(100_000, 65_536), (300_000, 10)]);
        assert!(SubordinateRanges::parse("bob:1:1", "alice", 1000).is_empty());
    }

    #[test]
    fn only_those_count_that_exist_in_the_namespace_around() {
        let whole = "         0          0 4294967295\n";
        assert_eq!(ranges().within(whole), ranges());
        assert_eq!(ranges().within("0 1000 1\n1 100000 65536\n").0, []);
        assert_eq!(
            ranges().within("0 1000 1\n1 200000 100010\n300005 7 1\n300007 9 90\n").0,
            [(100_000, 11), (300_005, 1), (300_007, 3)]
        );
    }

    #[test]
    fn a_name_is_that_of_the_first_line_with_the_id() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nalice:x:1000:100::/:\nother:x:1000:100::/:\n";
        assert_eq!(user_name(passwd, 1000), Some("alice"));
        assert_eq!(user_name(passwd, 100), None);
    }

    #[test]
    fn a_range_past_the_last_id_is_cut_short() {
        let ranges = SubordinateRanges(vec![(u32::MAX - 10, 65_536)]);
        assert_eq!(plan(0, 5, &ranges), "0 5 1\n1 4294967285 10\n");
        assert_eq!(plan(5, 5, &ranges), "0 4294967285 5\n5 5 1\n6 4294967290 5\n");
    }

    #[test]
    fn root_is_the_caller_and_the_rest_is_subordinate() {
        let map = IdMap::plan(0, u32::MAX, 1000, &SubordinateRanges(vec![(100_000, 65_536)]));
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 65536\n");
        assert!(map.contains(65_536) && !map.contains(65_537));
    }

    #[test]
    fn keep_id_gives_the_caller_its_own_id() {
        assert_eq!(plan(1000, 1000, &ranges()), "0 100000 1000\n1000 1000 1\n1001 101000 64536\n65537 300000 10\n");
        assert_eq!(plan(65_540, 7, &ranges()), "0 100000 65536\n65536 300000 4\n65540 7 1\n65541 300004 6\n");
    }

    #[test]
    fn a_size_cuts_the_ids_off_but_never_the_callers() {
        let plan = |inside, size| IdMap::plan(inside, size, 1000, &ranges()).to_string();
        assert_eq!(plan(1000, 2000), "0 100000 1000\n1000 1000 1\n1001 101000 999\n");
        assert_eq!(plan(1000, 10), "0 100000 10\n1000 1000 1\n");
    }

    #[test]
    fn the_holders_ids_are_what_they_are_outside() {
        let map = IdMap::identity(1000, &ranges());
        assert_eq!(map.to_string(), "1000 1000 1\n100000 100000 65536\n300000 300000 10\n");
        let shown = "    100000     100000      65536\n      1000       1000          1\n    300000 300000 10\n";
        assert!(map.is_shown_by(shown));
        assert!(!map.is_shown_by(&shown.replace("65536", "65535")));
        assert!(!map.is_shown_by("") && !map.is_shown_by("0 0 4294967295\n"));
    }

    #[test]
    fn helpers_get_the_extents_as_words() {
        assert_eq!(IdMap::single(7).arguments(), ["0", "7", "1"]);
    }
}
