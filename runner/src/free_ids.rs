//! Ids of the host that nobody has, to be proposed to who has none for containers.
//!
//! Two users with the same subordinate ids own each other's containers. So a proposal is looked for among what `/etc/subuid` and
//! `/etc/subgid` have given to anybody, and what users and groups of the machine are; where, says `/etc/login.defs`, as it does to
//! `useradd`.

use crate::userns::{PASSWD, SUBGID, SUBUID};

/// As many as a container takes: all ids that are usual in images, `nobody` among them.
const USUAL: u32 = 65_536;
/// Where `useradd` looks unless it is told otherwise (`login.defs(5)`, `SUB_UID_MIN` and `SUB_UID_MAX`).
const BETWEEN: (u32, u32) = (100_000, 600_100_000);

/// What is known of the machine's ids, each as the text of its file.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) subuid: String,
    pub(crate) subgid: String,
    pub(crate) passwd: String,
    pub(crate) group: String,
    pub(crate) login_defs: String,
}

impl Known {
    /// Reads the files. One that is missing names no ids.
    pub(crate) fn of_machine() -> Self {
        let read = |path: &str| {
            // What is no text somewhere may well name ids elsewhere.
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            subuid: read(SUBUID),
            subgid: read(SUBGID),
            passwd: read(PASSWD),
            group: read("/etc/group"),
            login_defs: read("/etc/login.defs"),
        }
    }

    /// The command that gives a user ids of which nobody has any, as many as `useradd` gives and no fewer than `size`.
    pub(crate) fn remedy(&self, user: &str, size: u32) -> String {
        match self.first_free(size) {
            Ok((first, last)) => format!("usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}"),
            Err(Full { count, least, most }) => format!(
                "no {count} in a row are free between {least} and {most}; take some from another user in {SUBUID} and {SUBGID}, or \
                 widen SUB_UID_MIN and SUB_UID_MAX, SUB_GID_MIN and SUB_GID_MAX in /etc/login.defs"
            ),
        }
    }

    /// The first and the last of the lowest that are free.
    fn first_free(&self, size: u32) -> Result<(u32, u32), Full> {
        let of_both = |name: &str, otherwise: u32| {
            ["SUB_UID_", "SUB_GID_"].map(|kind| self.setting(&format!("{kind}{name}")).unwrap_or(otherwise))
        };
        let (least, most) = (max(of_both("MIN", BETWEEN.0)), min(of_both("MAX", BETWEEN.1)));
        // A count of 0 keeps `useradd` from giving any.
        let count = max(of_both("COUNT", USUAL)).max(USUAL).max(size);
        let full = Full { count, least, most };
        let mut at = u64::from(least);
        for (first, length) in self.taken() {
            if first + length > at && first < at + u64::from(count) {
                at = first + length;
            }
        }
        let last = at + u64::from(count) - 1;
        let range = u32::try_from(at).ok().zip(u32::try_from(last).ok());
        range.filter(|&(_, last)| last <= most).ok_or(full)
    }

    /// What has been given to anybody, or is somebody: first id and how many, in order.
    fn taken(&self) -> Vec<(u64, u64)> {
        let given = [&self.subuid, &self.subgid].into_iter().flat_map(|text| text.lines()).filter_map(|line| {
            let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>());
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        });
        let own = [&self.passwd, &self.group].into_iter().flat_map(|text| text.lines());
        let own = own.filter_map(|line| Some((line.split(':').nth(2)?.trim().parse().ok()?, 1)));
        // Numbers beyond all ids are nobody's.
        let mut taken: Vec<_> = given.chain(own).filter(|&(first, _)| u32::try_from(first).is_ok()).collect();
        for (_, length) in &mut taken {
            *length = (*length).min(u64::from(u32::MAX));
        }
        taken.sort_unstable();
        taken
    }

    fn setting(&self, name: &str) -> Option<u32> {
        self.login_defs.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == name).then(|| words.next()?.parse().ok())?
        })
    }
}

/// Nothing is free where it was looked for.
#[derive(Debug, PartialEq, Eq)]
struct Full {
    count: u32,
    least: u32,
    most: u32,
}

fn max(both: [u32; 2]) -> u32 {
    both[0].max(both[1])
}

fn min(both: [u32; 2]) -> u32 {
    both[0].min(both[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(subuid: &str, subgid: &str) -> Known {
        Known { subuid: subuid.to_owned(), subgid: subgid.to_owned(), ..Known::default() }
    }

    #[test]
    fn what_either_file_gives_to_anybody_is_not_free() {
        let free = |subuid: &str, subgid: &str| known(subuid, subgid).first_free(0);
        assert_eq!(free("", ""), Ok((100_000, 165_535)));
        assert_eq!(free("alice:100000:65536\n", ""), Ok((165_536, 231_071)));
        assert_eq!(free("", "alice:100000:65536\n"), Ok((165_536, 231_071)));
        assert_eq!(free("alice:100000:65536\n", "bob:165536:65536\n"), Ok((231_072, 296_607)));
        // A gap that is wide enough, and one that is not; ranges that lie in each other; lines that say nothing.
        let gaps = "a:100000:65536\nb:165537:10\nc:300000:65536\nd:300010:5\nbroken\ne:x:5\n";
        assert_eq!(free(gaps, ""), Ok((165_547, 231_082)));
        assert_eq!(free("a:100000:65536\nb:200000:65536\n", ""), Ok((265_536, 331_071)));
        assert_eq!(free("root:0:4294967295\n", ""), Err(Full { count: 65_536, least: 100_000, most: 600_100_000 }));
    }

    #[test]
    fn users_and_groups_of_the_machine_are_not_in_a_proposal() {
        let mut known = known("", "");
        known.passwd = "root:x:0:0::/root:/bin/sh\nfar:x:110000:100::/:\nnobody:x:4294967294:1::/:\n".to_owned();
        known.group = "farther:x:170000:\nbroken\n".to_owned();
        assert_eq!(known.first_free(0), Ok((170_001, 235_536)));
    }

    #[test]
    fn the_machine_says_where_and_how_many() {
        let mut known = known("a:500000:65536\n", "");
        known.login_defs =
            "# SUB_UID_MIN 7\nSUB_UID_MIN\t\t  500000\nSUB_GID_MIN 400000\nSUB_UID_MAX 700000\nSUB_UID_COUNT 131072\n"
                .to_owned();
        assert_eq!(known.first_free(0), Ok((565_536, 696_607)));
        assert!(
            known.remedy("bob", 0).ends_with("usermod --add-subuids 565536-696607 --add-subgids 565536-696607 bob")
        );
        assert_eq!(known.first_free(200_000).unwrap_err().count, 200_000);
        assert!(known.remedy("bob", 200_000).contains("no 200000 in a row are free between 500000 and 700000"));
        known.login_defs = "SUB_UID_COUNT 0\n".to_owned();
        assert_eq!(known.first_free(0), Ok((100_000, 165_535)));
    }
}
