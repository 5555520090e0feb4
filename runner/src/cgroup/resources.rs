//! What a container may use, and the files of a control group that say so (kernel documentation, `cgroup-v2.rst`).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Microseconds of a scheduling period where none is said.
pub(super) const PERIOD: u64 = 100_000;

/// Limits and shares. What is not given is the group's own default: no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Most bytes of memory.
    pub memory: Option<u64>,
    /// Most bytes of memory and swap together; -1 for no limit of swap. Twice the memory where only that is given.
    pub memory_swap: Option<i64>,
    /// Bytes of memory that are taken away last.
    pub memory_reservation: Option<u64>,
    /// Microseconds of a period.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period, of all processors together; negative for no limit.
    pub cpu_quota: Option<i64>,
    /// Share of the processors when they are short, in the units of version 1: 2 to 262144, 1024 by default.
    pub cpu_shares: Option<u64>,
    /// The same in the units of version 2: 1 to 10000, 100 by default. Stands above `cpu_shares`.
    pub cpu_weight: Option<u64>,
    /// Processors, as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory, as `0,1`.
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; not above 0 for no limit.
    pub pids: Option<i64>,
    /// Share of disks when they are busy: 10 to 1000.
    pub io_weight: Option<u64>,
    /// The same for single devices.
    pub io_weights: Vec<(PathBuf, u64)>,
    /// Limits for single devices.
    pub io_limits: Vec<IoLimit>,
    /// Files of the group and what is written into them after all else, as it is.
    pub files: Vec<(String, String)>,
}

/// Most bytes or operations of a device in each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimit {
    /// The device's node on the host.
    pub device: PathBuf,
    /// Of what.
    pub rate: Rate,
    /// How many.
    pub most: u64,
}

/// What is limited of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rate {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

/// One file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its names; the first that is there is written to.
    pub files: Vec<String>,
    /// What is written.
    pub value: String,
    /// Whether the kernel may lack it: it was not asked for, but follows from what was.
    pub is_implied: bool,
}

impl Setting {
    /// One that was asked for.
    pub(crate) fn asked(file: &str, value: String) -> Self {
        Self { files: vec![file.to_owned()], value, is_implied: false }
    }

    /// Which controller it belongs to, the first word of its name; empty for those that every group has.
    pub fn controller(&self) -> &str {
        let word = self.files.first().and_then(|file| file.split('.').next()).unwrap_or_default();
        if word == "cgroup" { "" } else { word }
    }
}

impl Resources {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `later` says, and for the rest what this says.
    #[must_use]
    pub fn changed_by(&self, later: &Self) -> Self {
        let devices = |one: &IoLimit| (one.device.clone(), one.rate);
        let mut io_limits = self.io_limits.clone();
        io_limits.retain(|one| !later.io_limits.iter().any(|other| devices(other) == devices(one)));
        io_limits.extend(later.io_limits.iter().cloned());
        let mut io_weights = self.io_weights.clone();
        io_weights.retain(|(device, _)| !later.io_weights.iter().any(|(other, _)| other == device));
        io_weights.extend(later.io_weights.iter().cloned());
        let mut files = self.files.clone();
        files.retain(|(file, _)| !later.files.iter().any(|(other, _)| other == file));
        files.extend(later.files.iter().cloned());
        // Either unit of the share replaces the other.
        let has_share = later.cpu_shares.is_some() || later.cpu_weight.is_some();
        Self {
            memory: later.memory.or(self.memory),
            memory_swap: later.memory_swap.or(self.memory_swap),
            memory_reservation: later.memory_reservation.or(self.memory_reservation),
            cpu_period: later.cpu_period.or(self.cpu_period),
            cpu_quota: later.cpu_quota.or(self.cpu_quota),
            cpu_shares: if has_share { later.cpu_shares } else { self.cpu_shares },
            cpu_weight: if has_share { later.cpu_weight } else { self.cpu_weight },
            cpuset_cpus: later.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: later.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids: later.pids.or(self.pids),
            io_weight: later.io_weight.or(self.io_weight),
            io_weights,
            io_limits,
            files,
        }
    }

    /// What is to be written.
    ///
    /// # Errors
    /// A device that is not there, or no device.
    pub fn settings(&self) -> io::Result<Vec<Setting>> {
        let mut settings = Vec::new();
        let mut add = |files: &[&str], value: String| {
            let files = files.iter().map(|&file| file.to_owned()).collect();
            settings.push(Setting { files, value, is_implied: false });
        };
        if let Some(memory) = self.memory {
            add(&["memory.max"], bytes(memory));
        }
        if let Some(low) = self.memory_reservation {
            add(&["memory.low"], low.to_string());
        }
        match (self.memory_swap, self.memory) {
            (Some(swap), memory) if swap >= 0 => {
                let swap = swap.cast_unsigned().saturating_sub(memory.unwrap_or(0));
                add(&["memory.swap.max"], swap.to_string());
            }
            (Some(_), _) => add(&["memory.swap.max"], "max".to_owned()),
            (None, _) => {}
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let quota = self.cpu_quota.filter(|&quota| quota > 0).map_or_else(|| "max".to_owned(), |q| q.to_string());
            add(&["cpu.max"], format!("{quota} {}", self.cpu_period.unwrap_or(PERIOD)));
        }
        if let Some(weight) = self.cpu_weight.or(self.cpu_shares.map(weight_of_shares)) {
            add(&["cpu.weight"], weight.to_string());
        }
        if let Some(cpus) = &self.cpuset_cpus {
            add(&["cpuset.cpus"], cpus.clone());
        }
        if let Some(nodes) = &self.cpuset_mems {
            add(&["cpuset.mems"], nodes.clone());
        }
        if let Some(pids) = self.pids {
            let most = if pids > 0 { pids.to_string() } else { "max".to_owned() };
            add(&["pids.max"], most);
        }
        if let Some(weight) = self.io_weight {
            add(&["io.bfq.weight", "io.weight"], weight.to_string());
        }
        for (device, weight) in &self.io_weights {
            add(&["io.bfq.weight", "io.weight"], format!("{} {weight}", number_of(device)?));
        }
        for IoLimit { device, rate, most } in &self.io_limits {
            let key = match rate {
                Rate::ReadBytes => "rbps",
                Rate::WriteBytes => "wbps",
                Rate::Reads => "riops",
                Rate::Writes => "wiops",
            };
            let most = if *most == 0 { "max".to_owned() } else { most.to_string() };
            add(&["io.max"], format!("{} {key}={most}", number_of(device)?));
        }
        if let (Some(memory), None) = (self.memory, self.memory_swap) {
            // podman's: as much swap as memory. A kernel without swap in its groups has none to give.
            let value = bytes(memory);
            settings.push(Setting { is_implied: true, ..Setting::asked("memory.swap.max", value) });
        }
        for (file, value) in &self.files {
            controller_of(file).map_err(|why| io::Error::other(format!("{file}: {why}")))?;
            settings.push(Setting::asked(file, value.clone()));
        }
        Ok(settings)
    }
}

/// The controllers of settings, each once.
pub(super) fn controllers(settings: &[Setting]) -> Vec<&str> {
    let named = settings.iter().map(Setting::controller).filter(|name| !name.is_empty());
    named.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// The controller that a file of a group belongs to; empty for those that every group has.
///
/// # Errors
/// Why it is no file that can be set.
pub fn controller_of(file: &str) -> Result<&str, &'static str> {
    let is_plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match file.split_once('.') {
        Some(("cgroup", rest)) if is_plain && rest.starts_with("max.") => Ok(""),
        Some(("cgroup", _)) => {
            Err("by this file the runner leads the group; there are cgroup.max.depth and .descendants")
        }
        Some((controller, rest)) if is_plain && !controller.is_empty() && !rest.is_empty() => Ok(controller),
        _ => Err("no file of a control group, which is written as memory.high"),
    }
}

/// 0 is podman's for no limit.
fn bytes(most: u64) -> String {
    if most == 0 { "max".to_owned() } else { most.to_string() }
}

/// Shares of version 1 as a weight of version 2: 2..262144 onto 1..10000, the mapping of the OCI's runtimes.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares == 0 {
        return 100;
    }
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// A device by `MAJOR:MINOR`.
fn number_of(device: &Path) -> io::Result<String> {
    let named = |text: String| io::Error::other(format!("{}: {text}", device.display()));
    let metadata = std::fs::metadata(device).map_err(|error| named(error.to_string()))?;
    let number = metadata.rdev();
    if number == 0 {
        return Err(named("it is no device".to_owned()));
    }
    Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resources: &Resources) -> Vec<String> {
        let settings = resources.settings().unwrap();
        settings.into_iter().map(|setting| format!("{}={}", setting.files[0], setting.value)).collect()
    }

    #[test]
    fn nothing_said_is_nothing_written() {
        assert!(Resources::default().is_empty());
        assert_eq!(written(&Resources::default()), Vec::<String>::new());
    }

    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let resources = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(1 << 20),
            cpu_quota: Some(50_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".to_owned()),
            pids: Some(20),
            ..Resources::default()
        };
        assert_eq!(
            written(&resources),
            [
                "memory.max=67108864",
                "memory.low=1048576",
                "memory.swap.max=33554432",
                "cpu.max=50000 100000",
                "cpu.weight=39",
                "cpuset.cpus=0-1",
                "pids.max=20"
            ]
        );
    }

    #[test]
    fn memory_alone_brings_as_much_swap_where_there_is_any() {
        let settings = Resources { memory: Some(4096), ..Resources::default() }.settings().unwrap();
        assert_eq!((settings[1].files[0].as_str(), settings[1].value.as_str()), ("memory.swap.max", "4096"));
        assert!(settings[1].is_implied && !settings[0].is_implied);
    }

    #[test]
    fn files_are_written_last_and_as_they_are() {
        let file = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first =
            Resources { memory_reservation: Some(1), files: vec![file("memory.low", "2")], ..Resources::default() };
        let later = Resources { files: vec![file("memory.low", "3")], ..Resources::default() };
        assert_eq!(written(&first.changed_by(&later)), ["memory.low=1", "memory.low=3"]);
        assert_eq!((controller_of("hugetlb.2MB.max"), controller_of("cgroup.max.depth")), (Ok("hugetlb"), Ok("")));
        for wrong in
            ["", "memory", "memory.", ".high", "../memory.high", "cgroup.procs", "cgroup.kill", "cgroup.max./x"]
        {
            assert!(controller_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_limit_is_max() {
        let none = Resources {
            memory: Some(0),
            memory_swap: Some(-1),
            cpu_quota: Some(-1),
            pids: Some(-1),
            ..Resources::default()
        };
        assert_eq!(written(&none), ["memory.max=max", "memory.swap.max=max", "cpu.max=max 100000", "pids.max=max"]);
    }

    #[test]
    fn shares_span_all_weights() {
        assert_eq!([2, 1024, 262_144, 0].map(weight_of_shares), [1, 39, 10_000, 100]);
    }

    #[test]
    fn what_comes_later_wins_and_the_rest_stays() {
        let limit = |most| IoLimit { device: "/dev/sda".into(), rate: Rate::Reads, most };
        let first = Resources {
            memory: Some(1),
            pids: Some(5),
            cpu_weight: Some(7),
            io_limits: vec![limit(1)],
            ..Resources::default()
        };
        let later =
            Resources { pids: Some(6), cpu_shares: Some(512), io_limits: vec![limit(2)], ..Resources::default() };
        let both = first.changed_by(&later);
        assert_eq!((both.memory, both.pids, both.cpu_weight, both.cpu_shares), (Some(1), Some(6), None, Some(512)));
        assert_eq!(both.io_limits, [limit(2)]);
    }

    #[test]
    fn a_device_is_named_by_its_number() {
        let limit = |device: &str| IoLimit { device: device.into(), rate: Rate::WriteBytes, most: 1024 };
        let of = |device| Resources { io_limits: vec![limit(device)], ..Resources::default() };
        assert_eq!(written(&of("/dev/null")), ["io.max=1:3 wbps=1024"]);
        assert!(of("/etc/passwd").settings().unwrap_err().to_string().contains("no device"));
        assert!(of("/dev/nothing").settings().is_err());
    }
}
