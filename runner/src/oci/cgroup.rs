//! The control group of a container, in the version 2 hierarchy (`cgroups(7)`).

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::config::{Cpu, Memory, Resources};
use crate::error::Error;

/// Where the hierarchy is.
const HIERARCHY: &str = "/sys/fs/cgroup";
/// Its type, as `statfs(2)` tells it (`linux/magic.h`).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// Controllers that groups on the way have to pass on.
const CONTROLLERS: [&str; 7] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb", "rdma"];

/// Who makes control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manager {
    /// The runtime, by the file system.
    #[default]
    Cgroupfs,
    /// systemd, which is asked for a scope; not available.
    Systemd,
    /// Nobody: the container stays in the caller's group, and there are no limits.
    Disabled,
}

/// Whether the machine has version 2 where it belongs.
pub(super) fn is_unified() -> bool {
    rustix::fs::statfs(HIERARCHY).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC)
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group(PathBuf);

impl Group {
    /// One that was made before.
    pub(super) fn known(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the group of a container and sets its limits. `None` where there can be none and no limit was asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] for limits that cannot be set.
    pub(super) fn make(manager: Manager, id: &str, wish: &str, resources: &Resources) -> Result<Option<Self>, Error> {
        let limits = limits(resources)?;
        let refused = |reason: String| Err(Error::Refused(reason));
        match manager {
            Manager::Disabled => return Ok(None),
            Manager::Systemd if wish.is_empty() && limits.is_empty() => return Ok(None),
            Manager::Systemd => {
                return refused(
                    "control groups of systemd cannot be made; run the engine with --cgroup-manager=cgroupfs"
                        .to_owned(),
                );
            }
            Manager::Cgroupfs => {}
        }
        if !is_unified() {
            if limits.is_empty() {
                return Ok(None);
            }
            let names: Vec<&str> = limits.iter().map(|(name, _)| name.as_str()).collect();
            return refused(format!(
                "limits ({}) need control groups of version 2 at {HIERARCHY}; run the engine with --cgroups=disabled",
                names.join(", ")
            ));
        }
        let wish = if wish.is_empty() { id } else { wish };
        if Path::new(wish).components().any(|component| component == Component::ParentDir) {
            return refused(format!("linux.cgroupsPath {wish:?} leads upwards"));
        }
        let path = Path::new(HIERARCHY).join(wish.trim_start_matches('/'));
        match make_folders(&path) {
            Ok(()) => {}
            Err(_) if limits.is_empty() => return Ok(None),
            Err(error) => return refused(format!("cannot make the control group {}: {error}", path.display())),
        }
        let group = Self(path);
        for (name, value) in limits {
            let file = group.0.join(&name);
            let reason = match fs::write(&file, &value) {
                Ok(()) => continue,
                Err(_) if !file.exists() => "its controller is not to be had here".to_owned(),
                Err(error) => error.to_string(),
            };
            let place = group.0.display().to_string();
            let _ = group.remove();
            return refused(format!("cannot set {name} of {place} to {value:?}: {reason}"));
        }
        Ok(Some(group))
    }

    /// A group below it, made where it is missing.
    ///
    /// # Errors
    /// [`Error::Refused`] for a path that leads elsewhere, or that cannot be made.
    pub(super) fn sub(&self, path: &str) -> Result<Self, Error> {
        let below = Path::new(path.trim_start_matches('/'));
        if below.components().any(|component| component == Component::ParentDir) {
            return Err(Error::Refused(format!("--cgroup {path:?} leads upwards")));
        }
        let group = Self(self.0.join(below));
        let made = fs::create_dir_all(&group.0);
        made.map(|()| group).map_err(|error| Error::Refused(format!("cannot make the control group {path:?}: {error}")))
    }

    /// Puts a process into it; 0 is this one.
    pub(super) fn add(&self, id: i32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), id.to_string())
    }

    /// The processes in it and below.
    pub(super) fn processes(&self) -> Vec<i32> {
        let own = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
        found.extend(self.below().iter().flat_map(Self::processes));
        found
    }

    /// Stops all its processes where they are, or lets them go on.
    pub(super) fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        fs::write(self.0.join("cgroup.freeze"), if is_frozen { "1" } else { "0" })
    }

    /// Whether it was told to stop.
    pub(super) fn is_frozen(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    /// Kills all its processes, if the kernel has a way (Linux 5.14).
    pub(super) fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Removes it, and those below that its processes have made.
    pub(super) fn remove(&self) -> io::Result<()> {
        for below in self.below() {
            below.remove()?;
        }
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn below(&self) -> Vec<Self> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| Self(entry.path()))
            .collect()
    }
}

/// Makes a group with those above it, which pass on the controllers that they have.
fn make_folders(path: &Path) -> io::Result<()> {
    let mut here = PathBuf::from(HIERARCHY);
    for name in path.strip_prefix(HIERARCHY).unwrap_or(path) {
        for controller in CONTROLLERS {
            // Each for itself: what is not there or not allowed shows when its limit is set.
            let _ = fs::write(here.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        here.push(name);
        match fs::create_dir(&here) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The files of a group and what to write there.
fn limits(resources: &Resources) -> Result<Vec<(String, String)>, Error> {
    let mut files = Vec::new();
    let mut set = |name: &str, value: String| files.push((name.to_owned(), value));
    let none = |name: &str| Err(Error::Refused(format!("linux.resources.{name} is not known how to be set")));
    let unasked = |value: &Option<serde_json::Value>| {
        value.as_ref().is_none_or(|value| value.as_object().is_some_and(serde_json::Map::is_empty))
    };
    for (name, value) in [("blockIO", &resources.block_io), ("network", &resources.network), ("rdma", &resources.rdma)]
    {
        if !unasked(value) {
            return none(name);
        }
    }
    for huge in &resources.hugepage_limits {
        if !huge.page_size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return none("hugepageLimits.pageSize");
        }
        set(&format!("hugetlb.{}.max", huge.page_size), huge.limit.to_string());
    }
    if let Some(memory) = &resources.memory {
        memory_limits(memory, &mut set)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, &mut set)?;
    }
    if let Some(pids) = &resources.pids
        && pids.limit > 0
    {
        set("pids.max", pids.limit.to_string());
    }
    for (name, value) in &resources.unified {
        if name.contains('/') {
            return Err(Error::Refused(format!("linux.resources.unified: {name:?} is no file of a control group")));
        }
        set(name, value.clone());
    }
    Ok(files)
}

fn memory_limits(memory: &Memory, set: &mut impl FnMut(&str, String)) -> Result<(), Error> {
    if memory.disable_oom_killer == Some(true) || memory.swappiness.is_some() {
        return Err(Error::Refused(
            "linux.resources.memory: disableOOMKiller and swappiness are of version 1".to_owned(),
        ));
    }
    // A new group has none of these limits: nothing is to be done for what is to have none.
    if let Some(limit) = memory.limit.filter(|&limit| limit > 0) {
        set("memory.max", limit.to_string());
    }
    if let Some(reservation) = memory.reservation.filter(|&reservation| reservation > 0) {
        set("memory.low", reservation.to_string());
    }
    match (memory.swap, memory.limit) {
        (None | Some(..=0), _) => {}
        // Here the limit is of both together, there of swap alone.
        (Some(swap), Some(limit)) if limit >= 0 && swap >= limit => set("memory.swap.max", (swap - limit).to_string()),
        _ => {
            return Err(Error::Refused(
                "linux.resources.memory: swap counts memory too, and must be at least its limit".to_owned(),
            ));
        }
    }
    Ok(())
}

fn cpu_limits(cpu: &Cpu, set: &mut impl FnMut(&str, String)) -> Result<(), Error> {
    if cpu.realtime_runtime.is_some_and(|value| value != 0) || cpu.realtime_period.is_some_and(|value| value != 0) {
        return Err(Error::Refused("linux.resources.cpu: real-time limits are of version 1".to_owned()));
    }
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        // 2 to 262144 there are 1 to 10000 here, as all runtimes agree.
        let shares = shares.clamp(2, 262_144);
        set("cpu.weight", (1 + (shares - 2) * 9_999 / 262_142).to_string());
    }
    let period = cpu.period.filter(|&period| period != 0);
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0).or(period.map(|_| -1)) {
        let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
        set("cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
    }
    if let Some(burst) = cpu.burst {
        set("cpu.max.burst", burst.to_string());
    }
    if let Some(idle) = cpu.idle {
        set("cpu.idle", idle.to_string());
    }
    for (name, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            set(name, list.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let files = limits(&serde_json::from_str(text).unwrap()).map_err(|error| error.to_string())?;
        Ok(files.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";"))
    }

    #[test]
    fn limits_are_files_of_version_2() {
        let memory = r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#;
        assert_eq!(of(memory).unwrap(), "memory.max=100;memory.low=50;memory.swap.max=50");
        assert_eq!(of(r#"{"pids":{"limit":-1},"memory":{"limit":-1,"swap":-1}}"#).unwrap(), "");
        assert_eq!(of(r#"{"pids":{"limit":9}}"#).unwrap(), "pids.max=9");
        assert_eq!(of(r#"{"cpu":{"shares":1024,"quota":50000}}"#).unwrap(), "cpu.weight=39;cpu.max=50000 100000");
        assert_eq!(of(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#).unwrap(), "hugetlb.2MB.max=4");
        assert_eq!(of(r#"{"unified":{"memory.high":"9"}}"#).unwrap(), "memory.high=9");
        assert_eq!(of(r#"{"blockIO":{},"memory":{"useHierarchy":true}}"#).unwrap(), "");
    }

    #[test]
    fn limits_that_cannot_be_kept_are_refused() {
        for text in [
            r#"{"memory":{"swappiness":5}}"#,
            r#"{"memory":{"swap":5,"limit":9}}"#,
            r#"{"blockIO":{"weight":10}}"#,
            r#"{"unified":{"../x":"1"}}"#,
            r#"{"cpu":{"realtimeRuntime":1}}"#,
            r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
