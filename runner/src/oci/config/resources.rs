//! `linux.resources`: limits, as runtimes for control groups of version 1 first knew them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read_json;
use crate::error::Error;

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
    /// Disks.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Of version 1.
    pub network: Option<Value>,
    /// Devices for remote memory, by name.
    pub rdma: BTreeMap<String, Rdma>,
}

impl Resources {
    /// Reads the file of `update --resources`.
    ///
    /// # Errors
    /// As for [`Config::read`](super::Config::read).
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_json(path)
    }
}

/// A rule about device nodes; `None` in a number is any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Limits of disks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Of version 1.
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read in a second.
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written in a second.
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads in a second.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes in a second.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The weight of a device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDevice {
    /// Its numbers.
    pub major: u32,
    /// Its numbers.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// Of version 1.
    pub leaf_weight: Option<u16>,
}

/// What is had of a device in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// Its numbers.
    pub major: u32,
    /// Its numbers.
    pub minor: u32,
    /// Most; 0 is no limit.
    pub rate: u64,
}

/// Limits of a device for remote memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rdma {
    /// Most handles.
    pub hca_handles: Option<u32>,
    /// Most objects.
    pub hca_objects: Option<u32>,
}
