//! The control group of a container (version 2): made before its first process, which is born in it, and removed after its
//! last.
//!
//! ```text
//! user@1000.service/…/lrun-ID.scope/   asked of systemd, which puts the runner into it
//!   monitor/                           the runner and the keeper: a group with limits below it has no processes itself
//!   container/                         limits; the container's processes
//!
//! OWN GROUP/lrun-ID/                   where systemd is not there and this process's group, or one above, is writable
//! PARENT/lrun-ID/                      where one was named
//! ```
//!
//! A container without limits has none of this: it stays in the caller's group, until a command wants one for it
//! (`gather.rs`).

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

mod bus;
mod gather;
mod hierarchy;
mod message;
mod properties;
mod resources;
mod scope;
mod tree;
mod unit;
mod usage;

pub(crate) use resources::Setting;
pub use resources::{IoLimit, Rate, Resources, controller_of};
pub(crate) use unit::Unit;
pub use usage::Usage;

use crate::sys::process;
pub(crate) use hierarchy::Hierarchy;
pub(crate) use message::Value;
pub(crate) use properties::parsed;

/// The group in a scope that runner and keeper are in.
const MONITOR: &str = "monitor";
/// The group in a scope that the container is in.
const CONTAINER: &str = "container";
/// Begins the names of our scopes and groups.
const PREFIX: &str = "lrun-";
/// How often what the kernel does by and by is looked for, and after how long.
const PATIENCE: (u32, Duration) = (1000, Duration::from_millis(2));

/// Why there is no control group to be had. One line, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Version 2 is not mounted.
    #[error("this machine has no control groups of version 2; boot it with systemd.unified_cgroup_hierarchy=1")]
    NoHierarchy,
    /// Version 1 has the controller.
    #[error(
        "the controller {controller} belongs to control groups of version 1 here; boot with systemd.unified_cgroup_hierarchy=1"
    )]
    Held {
        /// Which.
        controller: String,
    },
    /// Nobody has handed the controller down.
    #[error(
        "the controller {controller} is not delegated to {}; root can: `systemctl edit user@.service`, \"[Service] Delegate=cpu cpuset io memory pids\", then log in again",
        folder.display()
    )]
    NotDelegated {
        /// Which.
        controller: String,
        /// To which group.
        folder: PathBuf,
    },
    /// Own groups cannot be made.
    #[error(
        "the control group {} is not yours to make groups in; log in with a systemd of your own (XDG_RUNTIME_DIR), or use `systemd-run --user --scope -p Delegate=yes`",
        .0.display()
    )]
    NotWritable(PathBuf),
    /// There is no systemd that could be asked.
    #[error(
        "there is no systemd of yours to ask for a control group (XDG_RUNTIME_DIR); log in with one, or name a group by --cgroup-parent"
    )]
    NoManager,
    /// It refuses.
    #[error("systemd does not start {unit}: {reason}")]
    Manager {
        /// What was asked for.
        unit: String,
        /// What it says.
        reason: String,
    },
    /// The kernel refuses a value.
    #[error("cannot set {file} to {value:?}: {source}")]
    Setting {
        /// Which.
        file: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no such file.
    #[error("the kernel has no {0} in this control group; leave the limit out")]
    Missing(String),
    /// A file cannot be read, written or made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A device of a limit is not there.
    #[error("{0}")]
    Device(io::Error),
    /// A process that systemd lets nobody move.
    #[error(
        "process {process} of the container has the id {uid}, and out of a login's session systemd moves only what has yours; start the container with --cgroups=enabled or a limit, or from within `systemd-run --user --scope`"
    )]
    Foreign {
        /// Its number.
        process: i32,
        /// Its user id on the host.
        uid: u32,
    },
    /// A process that cannot be moved.
    #[error("cannot move process {process} of the container to {}: {source}", path.display())]
    Move {
        /// Its number.
        process: i32,
        /// To which group.
        path: PathBuf,
        /// The answer of the kernel or systemd.
        source: io::Error,
    },
    /// There is always one more.
    #[error("{}: the container makes processes faster than they can be moved here; try again", .0.display())]
    Restless(PathBuf),
    /// The container has ended.
    #[error("the container is not running")]
    Ended,
    /// A thing takes too long.
    #[error("{}: {what} within 2 s", path.display())]
    Late {
        /// Which group.
        path: PathBuf,
        /// What did not come.
        what: &'static str,
    },
}

impl GroupError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}

/// The control group that a container is to have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// What its name is made of: the container's id.
    pub name: String,
    /// Below which: a path in the hierarchy, or a slice of systemd's, `NAME.slice`.
    pub parent: Option<String>,
    /// Whether the runner stays in the group that it is in; then no scope can be had.
    pub keeps_runner: bool,
    /// Its limits.
    pub resources: Resources,
}

/// A control group that was made for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(PathBuf);

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

impl Group {
    /// One that was made before, by its path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes one, with its limits. May put this process into a scope of systemd's; `runtime` is the folder of the user's
    /// systemd, `XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// [`GroupError`]: nothing is left behind.
    pub fn make(wish: &Wish, runtime: Option<&Path>) -> Result<Self, GroupError> {
        let settings = wish.resources.settings().map_err(GroupError::Device)?;
        let controllers = resources::controllers(&settings);
        let (base, name) = Self::base(wish, &controllers, runtime)?;
        let group = Self::below(&base, &name)?;
        match group.write(&settings) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// In which group, with these controllers working below it, and by which name.
    fn base(wish: &Wish, controllers: &[&str], runtime: Option<&Path>) -> Result<(PathBuf, String), GroupError> {
        let hierarchy = Hierarchy::find()?;
        let unit = format!("{PREFIX}{}", wish.name);
        let of_scope = |scope: &Path| {
            enable_all(&hierarchy, scope, controllers)?;
            Ok((scope.to_path_buf(), CONTAINER.to_owned()))
        };
        // A monitor that starts its container again is there already.
        if let (Some(last), Some(scope)) = (hierarchy.own.file_name(), hierarchy.own.parent())
            && last == MONITOR
            && scope.file_name().is_some_and(|name| name.to_str() == Some(&format!("{unit}.scope")))
        {
            return of_scope(scope);
        }
        let slice = wish.parent.as_deref().filter(|parent| is_slice(parent));
        if let (Some(parent), None) = (&wish.parent, slice) {
            let base = hierarchy.mount.join(parent.trim_start_matches('/'));
            std::fs::create_dir_all(&base).map_err(GroupError::at(&base))?;
            hierarchy.enable(&base, controllers)?;
            // From a login's session nobody but systemd moves a process to where the user's own groups are.
            if !wish.keeps_runner && !hierarchy.may_reach(&base) && !scope::sockets(runtime).is_empty() {
                scope::enter(&unit, None, runtime)?;
            }
            return Ok((base, unit));
        }
        if slice.is_some() || !wish.keeps_runner && !scope::sockets(runtime).is_empty() {
            let scope = scope::enter(&unit, slice, runtime)?;
            set_apart(&scope, process::own_id())?;
            return of_scope(&scope);
        }
        Ok((hierarchy.place(&hierarchy.own, controllers)?, unit))
    }

    /// A new one. A number tells it from one of the last start that is about to be removed.
    fn below(base: &Path, name: &str) -> Result<Self, GroupError> {
        for number in 0.. {
            let path = base.join(if number == 0 { name.to_owned() } else { format!("{name}.{number}") });
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => {}
                Err(source) => return Err(GroupError::File { path, source }),
                Ok(()) => return Ok(Self(path)),
            }
        }
        Err(GroupError::NotWritable(base.to_path_buf()))
    }

    /// Sets limits, as they are said; what is not said stays.
    ///
    /// # Errors
    /// [`GroupError`]; those before it are set.
    pub fn set(&self, resources: &Resources) -> Result<(), GroupError> {
        let settings = resources.settings().map_err(GroupError::Device)?;
        if settings.iter().any(|setting| !setting.files.iter().any(|file| self.0.join(file).exists()))
            && let Some(parent) = self.0.parent()
        {
            Hierarchy::find()?.enable(parent, &resources::controllers(&settings))?;
        }
        self.write(&settings)
    }

    pub(crate) fn write(&self, settings: &[Setting]) -> Result<(), GroupError> {
        for setting in settings {
            let Some(file) = setting.files.iter().find(|file| self.0.join(file).exists()) else {
                if setting.is_implied {
                    continue;
                }
                let first = setting.files.last().cloned().unwrap_or_default();
                // Made before the controller was asked for.
                let controller = setting.controller();
                return Err(if controller.is_empty() || self.0.join(format!("{controller}.stat")).exists() {
                    GroupError::Missing(first)
                } else {
                    GroupError::NotDelegated { controller: controller.to_owned(), folder: self.0.clone() }
                });
            };
            // In the units of the file: bfq's are podman's own.
            let is_ours = setting.files.len() > 1;
            let value = if is_ours && file == "io.weight" { scaled(&setting.value) } else { setting.value.clone() };
            let written =
                File::options().write(true).open(self.0.join(file)).and_then(|mut to| to.write_all(value.as_bytes()));
            written.map_err(|source| GroupError::Setting { file: file.clone(), value, source })?;
        }
        Ok(())
    }

    /// A descriptor by which a process can be born in it.
    pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Puts this process where its children may be born in a container's group: into a scope of systemd's.
    pub(crate) fn approach(runtime: Option<&Path>) -> Result<(), GroupError> {
        scope::enter(&format!("{PREFIX}exec-{}", process::own_id()), None, runtime).map(|_| ())
    }

    /// Kills what is in it, and removes it with what was made below. What the kernel keeps is swept by a later command.
    pub fn remove(&self) {
        let _ = self.kill();
        for _ in 0..PATIENCE.0 {
            match self.remove_all() {
                // Processes that have ended and are not reaped.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PATIENCE.1),
                _ => return,
            }
        }
    }

    /// The group that a process is in now.
    pub(crate) fn of(process: i32) -> Result<PathBuf, GroupError> {
        Hierarchy::find()?.group_of(Path::new(&format!("/proc/{process}"))).ok_or(GroupError::Ended)
    }

    /// Stops all that is in it, or lets it go on; returns when that is so.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn freeze(&self, frozen: bool) -> Result<(), GroupError> {
        let file = self.0.join("cgroup.freeze");
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        std::fs::write(&file, if frozen { "1" } else { "0" }).map_err(GroupError::at(file))?;
        for _ in 0..PATIENCE.0 {
            if self.text("cgroup.events").is_some_and(|text| text.lines().any(|line| line == wanted)) {
                return Ok(());
            }
            std::thread::sleep(PATIENCE.1);
        }
        let what = if frozen { "its processes have not stopped" } else { "its processes have not gone on" };
        Err(GroupError::Late { path: self.0.clone(), what })
    }

    /// Whether it is stopped, or about to be.
    pub fn is_frozen(&self) -> bool {
        self.text("cgroup.freeze").is_some_and(|text| text.trim() == "1")
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }

    /// Whether a process in it was killed for want of memory.
    pub fn had_no_memory(&self) -> bool {
        let text = self.text("memory.events").unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }
}

/// Moves a runner out of the way of what is to have limits: a group that has such below it has no processes itself.
fn set_apart(scope: &Path, runner: i32) -> Result<(), GroupError> {
    let monitor = scope.join(MONITOR);
    match std::fs::create_dir(&monitor) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(GroupError::at(&monitor))?,
    }
    let procs = monitor.join("cgroup.procs");
    std::fs::write(&procs, runner.to_string()).map_err(GroupError::at(procs))
}

/// Makes controllers work in the groups below a scope: those that are wanted, and all others that can be had, so that limits can
/// be changed and use be told later. The scope is one container's alone.
fn enable_all(hierarchy: &Hierarchy, scope: &Path, wanted: &[&str]) -> Result<(), GroupError> {
    hierarchy.enable(scope, wanted)?;
    let available = Hierarchy::available(scope)?;
    hierarchy.enable(scope, &available.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether a parent is a unit of systemd's rather than a path.
fn is_slice(parent: &str) -> bool {
    !parent.contains('/') && parent.strip_suffix(".slice").is_some_and(|name| !name.is_empty())
}

/// A weight of 10 to 1000, behind a device or alone, as one of 1 to 10000.
fn scaled(value: &str) -> String {
    let (device, weight) = value.rsplit_once(' ').map_or(("", value), |(device, weight)| (device, weight));
    let weight =
        weight.parse::<u64>().map_or(100, |weight| 1 + weight.clamp(10, 1000).saturating_sub(10) * 9_999 / 990);
    if device.is_empty() { format!("default {weight}") } else { format!("{device} {weight}") }
}

/// The group for a process to be born in.
pub(crate) fn descriptor(path: Option<&Path>) -> io::Result<Option<OwnedFd>> {
    path.map(Group::open).transpose()
}

/// As a borrowed descriptor, for the call.
pub(crate) fn borrowed(group: Option<&OwnedFd>) -> Option<std::os::fd::BorrowedFd<'_>> {
    group.map(AsFd::as_fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_disks_have_two_scales() {
        assert_eq!([scaled("10"), scaled("1000")], ["default 1", "default 10000"]);
        assert_eq!(scaled("8:0 500"), "8:0 4950");
    }

    #[test]
    fn a_limit_whose_file_is_not_there_is_refused_unless_it_was_only_implied() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group::at(folder.path().to_path_buf());
        std::fs::write(folder.path().join("memory.max"), "max").unwrap();
        std::fs::write(folder.path().join("memory.stat"), "").unwrap();
        let write = |resources: Resources| group.write(&resources.settings().unwrap());
        write(Resources { memory: Some(4096), ..Resources::default() }).unwrap();
        let asked = write(Resources { memory_swap: Some(4096), ..Resources::default() }).unwrap_err();
        assert!(asked.to_string().contains("memory.swap.max"), "{asked}");
        let elsewhere = write(Resources { pids: Some(1), ..Resources::default() }).unwrap_err();
        assert!(elsewhere.to_string().contains("controller pids is not delegated"), "{elsewhere}");
    }

    #[test]
    fn an_end_for_want_of_memory_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group::at(folder.path().to_path_buf());
        assert!(!group.had_no_memory());
        std::fs::write(folder.path().join("memory.events"), "oom 0\noom_kill 0\n").unwrap();
        assert!(!group.had_no_memory());
        std::fs::write(folder.path().join("memory.events"), "oom 1\noom_kill 2\n").unwrap();
        assert!(group.had_no_memory());
    }
}
