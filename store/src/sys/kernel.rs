//! Facts about the running kernel and this process that the store decides by.

use std::io;

/// The id of this boot, a UUID (`random(4)`, `/proc/sys/kernel/random/boot_id`): two equal ids mean no crash between.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Ids that exist in this process's user namespace, from `/proc/self/uid_map` (`user_namespaces(7)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedIds {
    /// First id and number of each extent.
    extents: Vec<(u32, u32)>,
    are_hosts: bool,
}

impl MappedIds {
    /// User ids.
    pub fn users() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/uid_map")?))
    }

    /// Group ids.
    pub fn groups() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/self/gid_map")?))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let number = |field: Option<&str>| field.and_then(|text| text.parse::<u32>().ok());
        let extents = text.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (inside, _outside, count) = (number(fields.next())?, fields.next()?, number(fields.next())?);
            Some((inside, count))
        });
        let whole = text.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        Self { extents: extents.collect(), are_hosts: whole }
    }

    /// Whether this is no namespace of ours, but the one with all of the host's ids.
    pub(crate) fn are_hosts(&self) -> bool {
        self.are_hosts
    }

    /// Whether the id can own a file here.
    pub fn contains(&self, id: u32) -> bool {
        self.extents.iter().any(|&(first, count)| id >= first && id - first < count)
    }

    /// How many ids there are.
    pub fn count(&self) -> u64 {
        self.extents.iter().map(|&(_, count)| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_ids_follow_the_extents() {
        let ids = MappedIds::parse("         0       1000          1\n         1     100000      65536\n");
        assert!(ids.contains(0) && ids.contains(65536) && !ids.contains(65537));
        assert_eq!(ids.count(), 65537);
        assert!(MappedIds::parse("0 0 4294967295").contains(4_294_967_294));
    }
}
