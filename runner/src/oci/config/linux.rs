//! `linux`: what only Linux has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resources::Resources;

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
    /// Which nodes memory is taken from.
    pub memory_policy: Option<MemoryPolicy>,
    /// Not acted upon.
    pub net_devices: Option<Value>,
}

/// Which nodes memory is taken from (`set_mempolicy(2)`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// As `MPOL_BIND`.
    pub mode: String,
    /// As `0-3,7`.
    pub nodes: String,
    /// As `MPOL_F_STATIC_NODES`.
    pub flags: Vec<String>,
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
