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
    /// Files without their set-id bits, or for real root without their capabilities, since they would have lent the caller's
    /// rights to whoever can reach them.
    #[serde(default)]
    pub lent: u64,
    /// Devices, which only real root can make.
    pub devices: u64,
    /// Character devices 0:0, which are no devices but the overlay file system's mark for a file that is absent.
    #[serde(default)]
    pub whiteouts: u64,
    /// Extended attributes that the kernel refused.
    pub xattrs: u64,
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.owners += other.owners;
        self.setid += other.setid;
        self.lent += other.lent;
        self.devices += other.devices;
        self.whiteouts += other.whiteouts;
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
            say(
                self.lent,
                "programs lost their setuid or setgid bit or capabilities, as they would have lent your rights to whoever can \
                 reach them (root can keep them by --set-id)",
            ),
            say(self.devices, "device files were left out: only root can make them"),
            say(self.whiteouts, "character devices 0:0 were left out: to the overlay file system they hide files"),
            say(self.xattrs, "extended attributes were refused by the kernel"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
