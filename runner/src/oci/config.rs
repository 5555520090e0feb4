//! `config.json`, as far as it is acted upon or refused. Unknown members are passed over, as the specification wants it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// A container, as its bundle describes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Version of the specification.
    pub oci_version: String,
    /// The command.
    pub process: Option<Process>,
    /// The root file system.
    pub root: Option<Root>,
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// Mounts, in their order.
    pub mounts: Vec<Mount>,
    /// Programs to run on the way.
    pub hooks: Hooks,
    /// Notes on the container.
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    pub linux: Linux,
}

/// The root file system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// A directory; relative to the bundle.
    pub path: PathBuf,
    /// Whether it is not to be changed.
    pub readonly: bool,
}

/// A mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where inside.
    pub destination: PathBuf,
    /// Type of the file system; means nothing for a bind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What: a path for binds, relative to the bundle.
    pub source: String,
    /// As for `mount(8)`.
    pub options: Vec<String>,
    /// Ids of a mount whose files show with others.
    pub uid_mappings: Vec<Extent>,
    /// As before, groups.
    pub gid_mappings: Vec<Extent>,
}

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
    /// Not acted upon.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Value>,
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

/// Programs to run at points of a container's life.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Before the root is changed, outside; by its old name.
    pub prestart: Vec<Hook>,
    /// Before the root is changed, outside.
    pub create_runtime: Vec<Hook>,
    /// Before the root is changed, in the container's namespaces.
    pub create_container: Vec<Hook>,
    /// Before the command, in the container.
    pub start_container: Vec<Hook>,
    /// After the command has begun, outside.
    pub poststart: Vec<Hook>,
    /// After the container was deleted, outside.
    pub poststop: Vec<Hook>,
}

/// A program to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment; where none is given the caller's, and in the container the command's.
    pub env: Option<Vec<String>>,
    /// Seconds that it may take.
    pub timeout: Option<u64>,
}

/// What only Linux has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Namespaces that are not the caller's.
    pub namespaces: Vec<Namespace>,
    /// User ids of a new user namespace.
    pub uid_mappings: Vec<Extent>,
    /// Group ids of a new user namespace.
    pub gid_mappings: Vec<Extent>,
    /// Offsets of the clocks of a new time namespace.
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Control group.
    pub cgroups_path: String,
    /// Limits.
    pub resources: Resources,
    /// How mounts of the root travel.
    pub rootfs_propagation: String,
    /// System call filter, as [`crate::seccomp::oci`] reads it.
    pub seccomp: Option<Value>,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Paths that show nothing.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be changed.
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label of mounts.
    pub mount_label: String,
    /// Execution domain.
    pub personality: Option<Personality>,
    /// Not acted upon.
    pub intel_rdt: Option<Value>,
    /// Not acted upon.
    pub memory_policy: Option<Value>,
    /// Not acted upon.
    pub net_devices: Option<Value>,
}

/// A namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is, if it is there already.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// A line of an id map.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// How far a clock is ahead.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}

/// A device node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where inside.
    pub path: PathBuf,
    /// Its numbers.
    pub major: u32,
    /// Its numbers.
    pub minor: u32,
    /// Mode.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Execution domain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// None is known.
    pub flags: Vec<String>,
}

/// Limits of a control group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Rules about device nodes.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processors.
    pub cpu: Option<Cpu>,
    /// Processes.
    pub pids: Option<Pids>,
    /// Files of the version 2 hierarchy, by name.
    pub unified: BTreeMap<String, String>,
    /// Not acted upon.
    #[serde(rename = "blockIO")]
    pub block_io: Option<Value>,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Not acted upon.
    pub network: Option<Value>,
    /// Not acted upon.
    pub rdma: Option<Value>,
}

/// A rule about device nodes; `None` in a number is any.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Whether access is granted.
    pub allow: bool,
    /// `a`, `c` or `b`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Of `r`, `w` and `m`.
    pub access: Option<String>,
}

/// Limits of memory, in bytes; -1 is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Most.
    pub limit: Option<i64>,
    /// What is left alone.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory, which version 2 does not tell apart.
    pub kernel: Option<i64>,
    /// Memory of TCP, which version 2 does not tell apart.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// Of version 1.
    pub swappiness: Option<u64>,
    /// Of version 1.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Of version 1, where version 2 always does so.
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below what is in use.
    pub check_before_update: Option<bool>,
}

/// Limits of processors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds of a period.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Real-time, which version 2 does not have.
    pub realtime_runtime: Option<i64>,
    /// Real-time, which version 2 does not have.
    pub realtime_period: Option<u64>,
    /// Which processors.
    pub cpus: String,
    /// Which memory nodes.
    pub mems: String,
    /// Only when nothing else runs.
    pub idle: Option<i64>,
}

/// A limit of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    /// Of which size, as `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Limits of processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// Most; 0 and below are none.
    pub limit: i64,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a file that is not there, too large or no configuration.
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_json(path)
    }
}

impl Hooks {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Hook> {
        let Self { prestart, create_runtime, create_container, start_container, poststart, poststop } = self;
        [prestart, create_runtime, create_container, start_container, poststart, poststop].into_iter().flatten()
    }
}

impl Process {
    /// Reads the file of `exec --process`.
    ///
    /// # Errors
    /// As for [`Config::read`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_json(path)
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Error> {
    let refused = |reason: String| Error::Refused(format!("{}: {reason}", path.display()));
    let read = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, LARGEST), &mut content)?;
        Ok(content)
    };
    let content = read().map_err(|error| refused(error.to_string()))?;
    let mut value: Value = serde_json::from_slice(&content).map_err(|error| refused(error.to_string()))?;
    // Writers in Go write null for what is empty.
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|error| refused(error.to_string()))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
    }

    #[test]
    fn unknown_members_and_nulls_are_passed_over() {
        let config = parse(r#"{"ociVersion":"1.0.2","mounts":null,"linux":{"devices":null,"news":1},"windows":{}}"#);
        assert!(config.unwrap().mounts.is_empty());
    }

    #[test]
    fn what_is_no_configuration_is_refused_by_name() {
        let error = parse("{\"mounts\": 3}").unwrap_err().to_string();
        assert!(error.contains("invalid type"), "{error}");
        assert!(Config::read(Path::new("/nonexistent/config.json")).unwrap_err().to_string().contains("config.json"));
    }
}
