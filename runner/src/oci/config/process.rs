//! `process`: a command, and what it may do.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::read_json;
use crate::error::Error;

/// A command, of `config.json` or of `exec --process`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Size of it.
    pub console_size: Option<ConsoleSize>,
    /// Who it is.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Capabilities; none where they are not given.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor_profile: String,
    /// Readiness to be killed when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// SELinux label.
    pub selinux_label: String,
    /// How it takes its turn at disks.
    pub io_priority: Option<IoPriority>,
    /// How it takes its turn at processors.
    pub scheduler: Option<Scheduler>,
    /// The processors of a command that joins.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Affinity>,
}

/// Processors that a command that joins may run on, as `0-3,7`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Affinity {
    /// Until it is in the container's control group.
    pub initial: String,
    /// From there on.
    #[serde(rename = "final")]
    pub last: String,
}

/// How a process takes its turn at disks (`ioprio_set(2)`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0, the first, to 7.
    pub priority: u16,
}

/// How a process takes its turn at processors (`sched(7)`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// As `SCHED_BATCH`.
    pub policy: String,
    /// Niceness.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// As `SCHED_FLAG_RESET_ON_FORK`.
    pub flags: Vec<String>,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub period: u64,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a command is, in ids of the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// The five sets of capabilities, by names such as `CAP_CHOWN`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What can ever be had.
    pub bounding: Vec<String>,
    /// What counts.
    pub effective: Vec<String>,
    /// What programs with file capabilities may inherit.
    pub inheritable: Vec<String>,
    /// What can be made to count.
    pub permitted: Vec<String>,
    /// What other programs inherit.
    pub ambient: Vec<String>,
}

/// A resource limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rlimit {
    /// Name, as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What processes start with.
    pub soft: u64,
    /// What they may raise it to.
    pub hard: u64,
}

impl Process {
    /// Reads the file of `exec --process`.
    ///
    /// # Errors
    /// As for [`Config::read`](super::Config::read).
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_json(path)
    }
}
