//! The control group of a container, in the version 2 hierarchy (`cgroups(7)`): made by ourselves at a path, or asked of
//! systemd as a scope.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

mod limits;

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

pub(super) use limits::Limits;

use super::config::Resources;
use crate::cgroup::{Group, GroupError, Hierarchy, Unit, Value, parsed};
use crate::error::{Action, Error};
use crate::sys::bpf::{DeviceProgram, Instruction};
use crate::userns;

/// Where the hierarchy is.
const HIERARCHY: &str = "/sys/fs/cgroup";
/// Its type, as `statfs(2)` tells it (`linux/magic.h`).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// Begins annotations that are properties of the scope.
const PROPERTY: &str = "org.systemd.property.";
/// Controllers that groups on the way have to pass on.
const CONTROLLERS: [&str; 7] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb", "rdma"];

/// Who makes control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manager {
    /// The runtime, by the file system.
    #[default]
    Cgroupfs,
    /// systemd, which is asked for a scope: the system's by root, the user's by others.
    Systemd,
    /// Nobody: the container stays in the caller's group, and there are no limits.
    Disabled,
}

/// Where a container's control group is to be.
#[derive(Debug)]
pub(super) enum Place {
    /// Nowhere.
    None,
    /// At a path that the bundle names.
    Folder(PathBuf),
    /// By the name of the container, or with a number behind it: another below another `--root` may have the same.
    Own(PathBuf),
    /// In a slice, as a scope of this name and with these properties.
    Scope { slice: String, unit: String, properties: Vec<(String, Value)> },
}

/// A control group that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Where.
    pub folder: PathBuf,
    /// The scope of systemd's that it is.
    pub scope: Option<String>,
}

/// Whether the machine has version 2 where it belongs.
pub(super) fn is_unified() -> bool {
    rustix::fs::statfs(HIERARCHY).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC)
}

impl Place {
    /// As a bundle has it: `wish` is its `cgroupsPath`; annotations are properties of the scope, where their names say so.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn of(
        manager: Manager,
        id: &str,
        wish: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let refused = |reason: &str| Err(Error::Refused(format!("linux.cgroupsPath {wish:?} {reason}")));
        match manager {
            Manager::Disabled => Ok(Self::None),
            Manager::Systemd => {
                let slice = if userns::is_real_root() { "system.slice" } else { "user.slice" };
                let properties = properties(annotations)?;
                if wish.is_empty() {
                    return Ok(Self::Scope { slice: slice.to_owned(), unit: format!("lrun-{id}.scope"), properties });
                }
                let parts: Vec<&str> = wish.split(':').collect();
                let [own, prefix, name] = parts[..] else {
                    return refused("is not SLICE:PREFIX:NAME, which a group of systemd's is named by");
                };
                let is_word = |word: &str| !word.contains('/') && word.len() < 200;
                if name.is_empty()
                    || name.strip_suffix(".slice").is_some()
                    || ![own, prefix, name].into_iter().all(is_word)
                {
                    return refused("names no scope of systemd's, SLICE:PREFIX:NAME");
                }
                let slice = if own.is_empty() { slice } else { own }.to_owned();
                let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
                Ok(Self::Scope { slice, unit, properties })
            }
            Manager::Cgroupfs => {
                if wish.is_empty() {
                    return Ok(Self::Own(Path::new(HIERARCHY).join(id)));
                }
                if Path::new(wish).components().any(|component| component == Component::ParentDir) {
                    return refused("leads upwards");
                }
                Ok(Self::Folder(Path::new(HIERARCHY).join(wish.trim_start_matches('/'))))
            }
        }
    }

    /// Loads a program about devices, if it can be attached to a group here.
    pub(super) fn device_program(&self, program: &[Instruction]) -> Option<DeviceProgram> {
        let can_be_made = !matches!(self, Self::None) && is_unified() && access(HIERARCHY, Access::WRITE_OK).is_ok();
        // What watches instead is stricter.
        if can_be_made { DeviceProgram::load(program).ok() } else { None }
    }

    /// Makes the group with its limits and its program about devices, and puts a process into it. `None` where there can be
    /// none and nothing of these was asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] for limits that cannot be set, [`Error::Group`] of systemd's. Nothing is left behind.
    pub(super) fn make(
        &self,
        limits: &Limits,
        process: i32,
        devices: Option<&DeviceProgram>,
    ) -> Result<Option<Made>, Error> {
        let made = match self {
            Self::None => return Ok(None),
            _ if !is_unified() => {
                if limits.is_empty() {
                    return Ok(None);
                }
                return Err(Error::Refused(format!(
                    "limits ({}) need control groups of version 2 at {HIERARCHY}; run the engine with --cgroups=disabled",
                    limits.names().join(", ")
                )));
            }
            Self::Folder(path) | Self::Own(path) => {
                let is_named = matches!(self, Self::Folder(_));
                match if is_named { make_folders(path).map(|()| path.clone()) } else { make_new(path) } {
                    Ok(folder) => Made { folder, scope: None },
                    Err(_) if limits.is_empty() && devices.is_none() => return Ok(None),
                    Err(error) => {
                        let told = format!("cannot make the control group {}: {error}", path.display());
                        return Err(Error::Refused(told));
                    }
                }
            }
            Self::Scope { slice, unit, properties } => {
                let group = of_systemd(unit).start(slice, process, &limits.shared, properties)?;
                Made { folder: group.path().to_path_buf(), scope: Some(unit.clone()) }
            }
        };
        let put = || {
            set(&made.group(), limits)?;
            if let Some(program) = devices {
                let attached = Group::open(&made.folder).and_then(|folder| program.attach(folder));
                attached.action("attach the program about devices to the control group")?;
            }
            let added = made.group().add(process);
            added.map_err(|error| Error::Refused(format!("cannot put the container into its control group: {error}")))
        };
        match put() {
            Ok(()) => Ok(Some(made)),
            Err(error) => {
                // The process is not in it, or about to be killed.
                let _ = made.group().remove_all();
                Err(error)
            }
        }
    }
}

impl Made {
    /// The group itself.
    pub(super) fn group(&self) -> Group {
        Group::at(self.folder.clone())
    }

    /// Changes its limits, as far as they are said.
    ///
    /// # Errors
    /// As for [`Place::make`].
    pub(super) fn limit(&self, limits: &Limits) -> Result<(), Error> {
        if let Some(unit) = &self.scope {
            of_systemd(unit).limit(&limits.shared)?;
        }
        set(&self.group(), limits)
    }

    /// Has systemd forget it, where that made it.
    pub(super) fn release(&self) {
        if let Some(unit) = &self.scope {
            // It forgets a scope without processes by itself, when it gets to that.
            let _ = of_systemd(unit).stop();
        }
    }

    /// Puts this process into it, or into a group below it: `first` is the container's first process.
    ///
    /// # Errors
    /// Those of the kernel, and what systemd says.
    pub(super) fn enter(&self, group: &Group, first: i32) -> io::Result<()> {
        match group.add(0) {
            // One that has handed its controllers down has no processes itself: its init has made groups below it.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && *group == self.group() => {
                let below = Group::of(first).map_err(io::Error::other)?;
                Group::at(below).add(0)
            }
            // From a login's session only systemd may move a process to where the user's groups are.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.scope.is_some() => {
                Group::approach(runtime_folder()).map_err(io::Error::other)?;
                group.add(0)
            }
            added => added,
        }
    }

    /// A group below it, made where it is missing.
    ///
    /// # Errors
    /// [`Error::Refused`] for a path that leads elsewhere, or that cannot be made.
    pub(super) fn sub(&self, path: &str) -> Result<Group, Error> {
        let below = Path::new(path.trim_start_matches('/'));
        if below.components().any(|component| component == Component::ParentDir) {
            return Err(Error::Refused(format!("--cgroup {path:?} leads upwards")));
        }
        let made = self.group().sub(below);
        made.map_err(|error| Error::Refused(format!("cannot make the control group {path:?}: {error}")))
    }
}

/// The properties of a scope that annotations name, as crun and runc know them.
fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Value)>, Error> {
    let own = annotations.iter().filter_map(|(name, value)| Some((name.strip_prefix(PROPERTY)?, value)));
    own.map(|(name, text)| {
        let value = parsed(text).filter(|_| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let value = value.ok_or_else(|| {
            Error::Refused(format!(
                "annotation {PROPERTY}{name}: {text:?} is not understood; true, 'text', 5 and uint64 5 are"
            ))
        })?;
        Ok((name.to_owned(), value))
    })
    .collect()
}

/// The limits of a bundle.
///
/// # Errors
/// [`Error::Refused`] for what version 2 has not.
pub(super) fn limits(resources: &Resources) -> Result<Limits, Error> {
    Limits::of(resources)
}

fn of_systemd(name: &str) -> Unit<'_> {
    Unit { name, runtime: runtime_folder() }
}

/// Of the user's systemd.
fn runtime_folder() -> Option<&'static Path> {
    static FOLDER: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)).as_deref()
}

fn set(group: &Group, limits: &Limits) -> Result<(), Error> {
    group.write(&limits.settings()).map_err(|error| {
        let reason = match error {
            GroupError::NotDelegated { controller, .. } if Hierarchy::holds(&controller) => {
                GroupError::Held { controller }.to_string()
            }
            GroupError::NotDelegated { controller, folder } => {
                format!("the controller {controller} is not to be had in {}", folder.display())
            }
            other => other.to_string(),
        };
        Error::Refused(format!("linux.resources: {reason}"))
    })
}

/// Makes a group with those above it, which pass on the controllers that they have.
fn make_folders(path: &Path) -> io::Result<()> {
    let mut here = PathBuf::from(HIERARCHY);
    for name in path.strip_prefix(HIERARCHY).unwrap_or(path) {
        pass_on(&here);
        here.push(name);
        match fs::create_dir(&here) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes a group that is not there yet.
fn make_new(path: &Path) -> io::Result<PathBuf> {
    pass_on(Path::new(HIERARCHY));
    let mut number = 0;
    loop {
        let mut place = path.as_os_str().to_owned();
        if number > 0 {
            place.push(format!(".{number}"));
        }
        match fs::create_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            made => return made.map(|()| place.into()),
        }
    }
}

/// Has a group pass on the controllers that it has.
fn pass_on(group: &Path) {
    for controller in CONTROLLERS {
        // Each for itself: what is not there or not allowed shows when its limit is set.
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(wish: &str) -> Option<(String, String)> {
        match Place::of(Manager::Systemd, "box", wish, &BTreeMap::new()) {
            Ok(Place::Scope { slice, unit, .. }) => Some((slice, unit)),
            _ => None,
        }
    }

    #[test]
    fn a_scope_is_named_by_slice_prefix_and_name() {
        let told = |slice: &str, unit: &str| Some((slice.to_owned(), unit.to_owned()));
        assert_eq!(scope("machine.slice:libpod:1f"), told("machine.slice", "libpod-1f.scope"));
        assert_eq!(scope("a.slice::1f"), told("a.slice", "1f.scope"));
        assert_eq!(scope("").unwrap().1, "lrun-box.scope");
        assert!(scope(":p:n").unwrap().0.strip_suffix(".slice").is_some());
        for wish in ["/a/b", "a:b", "a.slice:p:", "a.slice:p:n.slice", "a:b:c:d", "a.slice:../p:n"] {
            assert_eq!(scope(wish), None, "{wish}");
        }
    }

    #[test]
    fn annotations_are_properties_of_the_scope_where_they_are_understood() {
        let of = |value: &str| properties(&BTreeMap::from([(format!("{PROPERTY}KillSignal"), value.to_owned())]));
        assert_eq!(of("37").unwrap(), [("KillSignal".to_owned(), Value::Signed(37))]);
        assert!(of("SIGTERM").unwrap_err().to_string().contains("KillSignal"));
        assert_eq!(properties(&BTreeMap::from([("other".to_owned(), "x".to_owned())])).unwrap(), []);
    }

    #[test]
    fn a_path_does_not_lead_upwards() {
        let named = Place::of(Manager::Cgroupfs, "box", "/a/b", &BTreeMap::new()).unwrap();
        assert!(matches!(named, Place::Folder(path) if path == Path::new("/sys/fs/cgroup/a/b")));
        assert!(Place::of(Manager::Cgroupfs, "box", "/a/../../b", &BTreeMap::new()).is_err());
        let place = Place::of(Manager::Cgroupfs, "box", "", &BTreeMap::new()).unwrap();
        assert!(matches!(place, Place::Own(path) if path == Path::new("/sys/fs/cgroup/box")));
    }
}
