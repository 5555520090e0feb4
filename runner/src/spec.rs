//! What to run: the wish, as plain data.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::idmap::Shape;
use crate::seccomp::{BpfInstruction, DEFAULT_CAPABILITIES};

/// A container to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// Environment of the program, `NAME=VALUE` each; `PATH` of it is where the program is looked for.
    pub env: Vec<OsString>,
    /// Working directory inside; made where it is missing.
    pub cwd: PathBuf,
    /// User as the image or the caller has it: empty, a name or an id, with `:group` or without. Looked up inside.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// User namespace.
    pub user_namespace: UserNamespace,
    /// Capabilities of root inside, one bit each; also the bounding set.
    pub capabilities: u64,
    /// Those of them that a user who is not root has too, ambient ones, so that programs keep them.
    pub granted: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Mounts of the caller, outer ones first.
    pub mounts: Vec<Mount>,
    /// Paths that are masked or read-only by default and shall not be; `ALL` for all.
    pub unmask: Vec<PathBuf>,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
    /// Whether the command gets the caller's standard input.
    pub interactive: bool,
    /// Whether process 1 is an init of ours that reaps and passes signals on.
    pub init: bool,
    /// Whether nothing of the container is to be kept: then nothing of it is ever synced.
    pub ephemeral: bool,
    /// Files to put into the root: path, content. Made anew for each start.
    #[serde(skip)]
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Default for Spec {
    /// Nothing to run, with podman's isolation.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            hostname: String::new(),
            network: Network::None,
            user_namespace: UserNamespace::Own(Shape::Auto),
            capabilities: DEFAULT_CAPABILITIES,
            granted: 0,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            mounts: Vec::new(),
            unmask: Vec::new(),
            read_only: false,
            terminal: false,
            interactive: false,
            init: false,
            ephemeral: false,
            files: Vec::new(),
        }
    }
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// One of its own, with nothing but the loopback device.
    None,
}

/// The user namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// One of its own, mapped in a shape. Real root stays outside of any for [`Shape::Auto`].
    Own(Shape),
    /// Root is the caller, as for [`Shape::Auto`]: rootless there is no host's to share that could mount anything.
    Host,
}

/// The system call filter of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The default-deny program.
    Default,
    /// None.
    Unconfined,
    /// Another.
    Program(Vec<BpfInstruction>),
}

/// A mount of the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub kind: MountKind,
    /// Where inside; made where it is missing.
    pub target: PathBuf,
    /// Not to be written through, all mounts below it included.
    pub read_only: bool,
    /// No set-id programs.
    pub nosuid: bool,
    /// No devices.
    pub nodev: bool,
    /// No programs.
    pub noexec: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// Whether later mounts of the host show inside.
        propagation: Propagation,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Most bytes; the kernel's default is half of the memory.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
}

/// How mounts travel (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways; the kernel grants it only where the mount namespaces share an owner.
    Shared,
}
