//! What to run: the wish, as plain data.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Wish;
use crate::idmap::Shape;
use crate::join::Joined;
use crate::limit::Limit;
use crate::lsm::Labels;
use crate::seccomp::{BpfInstruction, DEFAULT_CAPABILITIES};

/// A container to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
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
    /// Groups besides those that the image's files give the user: names or ids. Looked up inside.
    pub groups: Vec<String>,
    /// Whether processes keep the caller's own groups, which mostly do not exist inside and yet count for the host's files.
    pub keeps_groups: bool,
    /// Lines for the user in `/etc/passwd` and `/etc/group`, where the image has none for these ids.
    pub account: Option<Account>,
    /// Network.
    pub network: Network,
    /// Which other namespaces are the container's own.
    pub namespaces: Namespaces,
    /// Which are taken from others.
    pub joined: Joined,
    /// User namespace.
    pub user_namespace: UserNamespace,
    /// Whether real root's container is not to be started where it cannot have other ids than the host's.
    pub insists_on_ids: bool,
    /// Capabilities of root inside, one bit each; also the bounding set.
    pub capabilities: u64,
    /// Those of them that a user who is not root has too, ambient ones, so that programs keep them.
    pub granted: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// The SELinux labels of its processes and files; the caller's and the files' own without.
    pub selinux: Option<Labels>,
    /// The AppArmor profile of its processes; the caller's without.
    pub apparmor: Option<String>,
    /// What of the file system may be reached at all (Landlock); empty for no such limit.
    pub landlock: Vec<LandlockRule>,
    /// Resource limits that differ from the caller's.
    pub limits: Vec<Limit>,
    /// A control group of its own; the caller's without.
    pub cgroup: Option<Wish>,
    /// Kernel parameters of the container's namespaces, by name.
    pub sysctls: Vec<(String, String)>,
    /// Readiness to be killed when memory runs out, `oom_score_adj`; the caller's where it is not given.
    pub oom_score: Option<i32>,
    /// Execution domain (`personality(2)`); the caller's where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// Descriptors of the caller's that the command gets, by number. They are none of this program's own.
    #[serde(skip)]
    pub preserved: Vec<i32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Mounts of the caller, outer ones first.
    pub mounts: Vec<Mount>,
    /// Targets of mounts whose files are given to the user.
    pub owned: Vec<PathBuf>,
    /// Mounts whose files show with other ids than on disk. Real root's alone.
    pub mapped: Vec<MappedMount>,
    /// Paths that are masked or read-only by default and shall not be; `ALL` for all.
    pub unmask: Vec<PathBuf>,
    /// Further paths that are masked.
    pub masks: Vec<PathBuf>,
    /// Options of the proc file system, as `hidepid=2`.
    pub proc_options: Vec<String>,
    /// Whether `/sys` can be written to, as far as the kernel lets the container.
    pub writable_sys: bool,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
    /// Whether the command gets the caller's standard input.
    pub interactive: bool,
    /// Whether process 1 is an init of ours that reaps and passes signals on.
    pub init: bool,
    /// Whether process 1 is systemd, which has the container's control group to itself: mounted to be written to, and its own.
    pub systemd: bool,
    /// Notes on the container, which mean nothing here.
    pub annotations: Vec<(String, String)>,
    /// Whether nothing of the container is to be kept: then nothing of it is ever synced.
    pub ephemeral: bool,
    /// Files that are shown in it and written nowhere. Looked up for each start.
    #[serde(skip)]
    pub secrets: Vec<SecretFile>,
    /// Files to put into the root: path, content. Made anew for each start.
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
            groups: Vec::new(),
            keeps_groups: false,
            account: None,
            namespaces: Namespaces::default(),
            joined: Joined::default(),
            landlock: Vec::new(),
            limits: Vec::new(),
            cgroup: None,
            sysctls: Vec::new(),
            oom_score: None,
            personality: None,
            preserved: Vec::new(),
            umask: 0o022,
            masks: Vec::new(),
            proc_options: Vec::new(),
            writable_sys: false,
            shm_size: 64 << 20,
            annotations: Vec::new(),
            hostname: String::new(),
            network: Network::None,
            user_namespace: UserNamespace::Own(Shape::Auto),
            insists_on_ids: false,
            capabilities: DEFAULT_CAPABILITIES,
            granted: 0,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            apparmor: None,
            selinux: None,
            mounts: Vec::new(),
            owned: Vec::new(),
            mapped: Vec::new(),
            unmask: Vec::new(),
            read_only: false,
            terminal: false,
            interactive: false,
            init: false,
            systemd: false,
            ephemeral: false,
            secrets: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// A file that is in memory alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// A name in `/run/secrets`, or a path.
    pub target: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// And of which group.
    pub gid: u32,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for SecretFile {
    /// All but what is in it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFile").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A user in the words of `passwd(5)` and `group(5)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Line of `/etc/passwd`.
    pub passwd: String,
    /// Line of `/etc/group`.
    pub group: String,
}

/// Which namespaces are the container's own; the others are the host's, or [joined](Joined).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Processes.
    pub pid: bool,
    /// System V IPC, message queues and `/dev/shm`.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// The view of control groups.
    pub cgroup: bool,
    /// Clocks that count from boot, which begin as the host's.
    #[serde(default)]
    pub time: bool,
}

impl Default for Namespaces {
    /// All but that of clocks.
    fn default() -> Self {
        Self { pid: true, ipc: true, uts: true, cgroup: true, time: false }
    }
}

/// A part of the file system that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    /// A file, or a folder with all below it.
    pub path: PathBuf,
    /// Whether it may be changed; it may be read and executed in any case.
    pub writing: bool,
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// One of its own, with nothing but the loopback device.
    None,
    /// That of another, see [`Joined::network`].
    Joined,
    /// One of its own, with a way out.
    Uplink(Uplink),
}

impl Network {
    /// Its way out, if a program makes one.
    pub fn uplink(&self) -> Option<&Uplink> {
        match self {
            Self::Uplink(uplink) => Some(uplink),
            Self::Host | Self::None | Self::Joined => None,
        }
    }
}

/// A way out of a network namespace: a program without privilege that carries its packets over sockets of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Which program.
    pub program: Program,
    /// What it is told besides, in its own words.
    pub options: Vec<String>,
    /// Ports of the host that lead in.
    pub ports: Vec<Port>,
}

/// A program that makes an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `pasta(1)`.
    Pasta,
    /// `slirp4netns(1)`.
    Slirp4netns,
}

/// Ports of the host that lead to ports of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Address of the host; all for none.
    pub address: Option<IpAddr>,
    /// The first port of the host; 0 until one is chosen, which is done before a container is made.
    pub host: u16,
    /// The first port of the container.
    pub container: u16,
    /// How many follow each other.
    pub count: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The user namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// One of its own, mapped in a shape. Where real root cannot have one for [`Shape::Auto`], it has the host's.
    Own(Shape),
    /// Real root's is the host's. Others' is as for [`Shape::Auto`]: rootless there is no host's to share that could mount
    /// anything.
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
        /// For whom its files are labelled, if they are to be.
        #[serde(default)]
        relabel: Option<Relabel>,
    },
    /// A directory that outlives containers, see [`crate::volumes`].
    Volume {
        /// Its name.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// Whether it begins with what the image has there, if nobody has used it yet.
        copies: bool,
        /// As for a bind.
        #[serde(default)]
        relabel: Option<Relabel>,
    },
    /// The files of an image, as the container may change them.
    Image(ImageMount),
    /// An empty file system in memory.
    Tmpfs {
        /// Most bytes; the kernel's default is half of the memory.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
        /// Whether it begins with what the image has there.
        #[serde(default)]
        copies: bool,
    },
}

/// An image that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// As it was named.
    pub name: String,
    /// Its id, `sha256:…`; empty until it is looked up.
    pub id: String,
    /// What of it is shown, a path from its root on; empty for all.
    pub subpath: PathBuf,
    /// Tells its changes from those of other images that the container has mounted.
    pub number: usize,
    /// Its checkout. Looked up for each start.
    #[serde(skip)]
    pub checkout: Option<Lower>,
}

/// A checkout, as an overlay has it below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lower {
    /// Its root.
    pub root: PathBuf,
    /// The pool, for a checkout of stubs.
    pub data: Option<PathBuf>,
}

/// A mount whose files show with other ids than on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedMount {
    /// Its target.
    pub target: PathBuf,
    /// User ids; for none the container has the ids that are on disk.
    pub users: Vec<MappedIds>,
    /// Group ids; as for users.
    pub groups: Vec<MappedIds>,
}

/// Ids of the files of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedIds {
    /// The first on disk.
    pub disk: u32,
    /// What it shows as.
    pub shown: u32,
    /// How many.
    pub count: u32,
    /// Whether it shows as that inside; else as what is that on the host.
    pub is_inside: bool,
}

/// For whom the files of a mount are labelled, where containers have SELinux labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relabel {
    /// All containers.
    Shared,
    /// This one.
    Private,
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
