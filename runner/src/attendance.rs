//! What is done beside each start of a container, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// See above.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attendance {
    /// File that gets the number of its first process.
    pub pidfile: Option<PathBuf>,
    /// File that gets the number of the process that answers for it.
    pub runner_pidfile: Option<PathBuf>,
    /// After which time it is killed.
    pub timeout: Option<Duration>,
    /// Whether systemd is told that it runs (`sd_notify(3)`).
    pub notifies: bool,
    /// Ids of containers that are started before.
    pub requires: Vec<String>,
    /// Whether nothing of what it writes is kept.
    pub unlogged: bool,
}

impl Attendance {
    /// Whether there is nothing to do.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
