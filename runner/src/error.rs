//! What can go wrong between a spec and a running process.

use std::fmt;
use std::io;

use crate::idmap::IdMapError;
use crate::refusal::Obstacles;
use crate::seccomp::SeccompError;
use crate::spec::Program;

/// A container that could not be started. One line, with the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses user namespaces to this user.
    #[error("the kernel refuses user namespaces: {source}{}", reason(*.cause))]
    UserNamespace {
        /// Its answer.
        source: io::Error,
        /// Why, and what helps, where that is known.
        cause: Option<&'static str>,
    },
    /// The kernel refuses the other namespaces to root.
    #[error("cannot make namespaces: {source}{}", reason(*.cause))]
    Namespaces {
        /// Its answer.
        source: io::Error,
        /// Why, and what helps, where that is known.
        cause: Option<&'static str>,
    },
    /// A set-id helper that maps subordinate ids failed.
    #[error(
        "{helper} failed: {reason}; check that the package uidmap is installed and that /etc/subuid and /etc/subgid name you"
    )]
    Helper {
        /// `newuidmap` or `newgidmap`.
        helper: &'static str,
        /// What it said, or how it ended.
        reason: String,
    },
    /// The process that holds a user namespace ready cannot be had.
    #[error("starting without a holder, which is slower ({}: {reason}); `--no-holder` asks for that", folder.display())]
    Holder {
        /// Where its record is.
        folder: std::path::PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// See [`IdMapError`].
    #[error(transparent)]
    IdMap(#[from] IdMapError),
    /// Real root's container cannot have ids of its own here.
    #[error("cannot give the container ids other than the host's: {0}")]
    Unmapped(String),
    /// A step in the parent failed.
    #[error("cannot {action}: {source}")]
    Parent {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step in the child failed, before the command.
    #[error("cannot {stage}{}: {source}", detail(.what))]
    Child {
        /// What was tried.
        stage: Stage,
        /// On what; may be empty.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The command was not found in the container.
    #[error("{0}: command not found in the container")]
    NotFound(String),
    /// The command is there but cannot be executed.
    #[error("{command}: cannot be executed: {source}")]
    NotExecutable {
        /// The command.
        command: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// See [`SeccompError`].
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A wish that contradicts itself or that this machine cannot grant.
    #[error("{0}")]
    Refused(String),
    /// See [`GroupError`](crate::cgroup::GroupError).
    #[error("no control group for the container: {0}")]
    Group(#[from] crate::cgroup::GroupError),
    /// Work on a container's files failed; what is told names the file.
    #[error("{0}")]
    Files(String),
    /// The program that a network needs is not installed.
    #[error("--network {} needs the program {}, which is not installed: install the package {}", .0.name(), .0.name(), .0.package())]
    NoUplink(Program),
    /// The container has ended, or was never started.
    #[error("the container is not running")]
    NotRunning,
    /// The child ended without a word.
    #[error("the container's first process died while it was set up; the kernel's log may tell why")]
    Died,
}

impl Error {
    /// The refusal of a user namespace, or of power in a new one, explained by what stands in the way here.
    pub(crate) fn user_namespace(source: io::Error) -> Self {
        let cause = source.raw_os_error().and_then(|errno| Obstacles::probe().cause(errno));
        Self::UserNamespace { source, cause }
    }

    /// The refusal of namespaces to root.
    pub(crate) fn namespaces(source: io::Error) -> Self {
        let cause = source.raw_os_error().and_then(|errno| Obstacles::probe().cause_for_root(errno));
        Self::Namespaces { source, cause }
    }
}

fn reason(cause: Option<&str>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

fn detail(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!(" {what}") }
}

/// The steps of the child, in the words of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Becoming root of the new user namespace.
    Identity,
    /// A session keyring of the container's own.
    Keyring,
    /// `unshare(CLONE_NEWCGROUP)`.
    Cgroup,
    /// Keeping mounts from travelling to the host.
    Propagation,
    /// The root file system.
    Rootfs,
    /// A mount.
    Mount,
    /// The owner of what is mounted.
    Own,
    /// A device node.
    Device,
    /// A file in /etc.
    File,
    /// `pivot_root(2)`.
    Pivot,
    /// A masked path.
    Mask,
    /// A read-only path.
    ReadOnly,
    /// The host name.
    Hostname,
    /// The loopback device.
    Loopback,
    /// A network namespace of the container's own.
    Network,
    /// The way out of it.
    Uplink,
    /// The namespaces of a running container.
    Join,
    /// The user of the command.
    User,
    /// The working directory.
    Workdir,
    /// The terminal.
    Terminal,
    /// A kernel parameter.
    Sysctl,
    /// A resource limit.
    Limit,
    /// The execution domain.
    Personality,
    /// A descriptor of the caller's.
    Descriptor,
    /// The turn at processors and disks.
    Schedule,
    /// `oom_score_adj`.
    OomScore,
    /// Landlock rules.
    Landlock,
    /// An AppArmor profile.
    AppArmor,
    /// The label of a security module.
    Label,
    /// A hook of the bundle.
    Hook,
    /// Waiting for the command to be started.
    Start,
    /// Capabilities.
    Capabilities,
    /// The seccomp program.
    Seccomp,
    /// The init process.
    Init,
    /// The process that ends all that comes of the command.
    Guard,
    /// `execve(2)`.
    Exec,
}

impl Stage {
    const ALL: [Self; 36] = [
        Self::Identity,
        Self::Keyring,
        Self::Cgroup,
        Self::Propagation,
        Self::Rootfs,
        Self::Mount,
        Self::Own,
        Self::Device,
        Self::File,
        Self::Pivot,
        Self::Mask,
        Self::ReadOnly,
        Self::Hostname,
        Self::Loopback,
        Self::Network,
        Self::Uplink,
        Self::Join,
        Self::User,
        Self::Workdir,
        Self::Terminal,
        Self::Sysctl,
        Self::Limit,
        Self::Personality,
        Self::Descriptor,
        Self::Schedule,
        Self::OomScore,
        Self::Landlock,
        Self::AppArmor,
        Self::Label,
        Self::Hook,
        Self::Start,
        Self::Capabilities,
        Self::Seccomp,
        Self::Init,
        Self::Guard,
        Self::Exec,
    ];

    /// The stage with a number, as it comes over the channel from the child.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u8 == number)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Identity => "become root of the user namespace",
            Self::Keyring => "make a session keyring",
            Self::Cgroup => "make a cgroup namespace",
            Self::Propagation => "make mounts private",
            Self::Rootfs => "mount the root file system",
            Self::Mount => "mount",
            Self::Own => "give the container's user the files at",
            Self::Device => "provide the device",
            Self::File => "write",
            Self::Pivot => "change to the new root",
            Self::Mask => "mask",
            Self::ReadOnly => "make read-only",
            Self::Hostname => "set the host name",
            Self::Loopback => "bring up the loopback device",
            Self::Network => "enter the network namespace",
            Self::Uplink => "connect the network with",
            Self::Join => "join the container",
            Self::User => "become user",
            Self::Workdir => "enter the working directory",
            Self::Terminal => "set up the terminal",
            Self::Sysctl => "set the kernel parameter",
            Self::Limit => "set the limit",
            Self::Personality => "set the execution domain",
            Self::Descriptor => "hand on the descriptor",
            Self::Schedule => "set the scheduler or the I/O priority",
            Self::OomScore => "set the readiness to be killed for memory to",
            Self::Landlock => "enforce the Landlock rule",
            Self::AppArmor => "confine the command by the AppArmor profile",
            Self::Label => "set the label",
            Self::Hook => "run the hook",
            Self::Start => "wait for the start",
            Self::Capabilities => "drop capabilities",
            Self::Seccomp => "install the seccomp program",
            Self::Init => "start the init process",
            Self::Guard => "watch over the command",
            Self::Exec => "execute",
        })
    }
}

/// Names the action of a failed call in the parent.
pub(crate) trait Action<T> {
    /// `action` is a verb phrase.
    fn action(self, action: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Action<T> for Result<T, E> {
    fn action(self, action: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::Parent { action, source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_survives_its_number() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_number(stage as u8), Some(stage));
        }
        assert_eq!(Stage::from_number(200), None);
    }
}
