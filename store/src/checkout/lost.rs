//! What of an image's metadata could not be made on this machine: counted, and said.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counts of what a checkout lacks. All of it stays in the layer records, so exports are whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Files that belong to the caller instead of to their owner, for want of a subordinate id range.
    pub owners: u64,
    /// Set-user-id and set-group-id bits left off because the file's owner could not be set.
    pub setid: u64,
    /// Devices, which only real root can make.
    pub devices: u64,
    /// Extended attributes that the kernel refused.
    pub xattrs: u64,
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.owners += other.owners;
        self.setid += other.setid;
        self.devices += other.devices;
        self.xattrs += other.xattrs;
    }
}

impl Lost {
    /// Whether all was made.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// One sentence each, for the user.
    pub fn sentences(&self) -> Vec<String> {
        let say = |count: u64, text: &str| (count > 0).then(|| format!("{count} {text}"));
        [
            say(
                self.owners,
                "files belong to you instead of their owners: add a range for you to /etc/subuid and /etc/subgid",
            ),
            say(self.setid, "files lost their setuid or setgid bit, as their owners could not be set"),
            say(self.devices, "device files were left out: only root can make them"),
            say(self.xattrs, "extended attributes were refused by the kernel"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
