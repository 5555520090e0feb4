//! What is remembered of a container between the commands: a folder of its own below the runtime's.
//!
//! ```text
//! ROOT/ID/state.json    who it is
//!         config.json   as it was made
//!         start         socket at which it waits; gone once its command runs
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cgroup::Made;
use super::config::{Config, Process};
use crate::cgroup::Group;
use crate::error::{Action, Error};
use crate::exec::FirstProcess;
use crate::sys::process::mount_namespace_number;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
pub(super) const SOCKET: &str = "start";

/// The containers below a folder.
#[derive(Debug, Clone)]
pub struct Containers(PathBuf);

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Version of the specification that its bundle was written for.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// Its first process.
    pub process: FirstProcess,
    /// Whether it is complete.
    pub is_made: bool,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// User id of who made it.
    pub owner: u32,
    /// Notes of its bundle.
    pub annotations: BTreeMap<String, String>,
    /// Its control group.
    pub cgroup: Option<Made>,
    /// Its mount namespace, by which its processes are known.
    pub mounts: PathBuf,
    /// Whether its pid namespace is its own, so that no process outlives the first.
    pub owns_pids: bool,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In the making.
    Creating,
    /// It waits to be started.
    Created,
    /// Its command runs.
    Running,
    /// Its command is stopped where it is.
    Paused,
    /// It has ended.
    Stopped,
}

impl Status {
    /// The specification's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container that was looked up.
#[derive(Debug, Clone)]
pub struct Found {
    /// What is known of it.
    pub record: Record,
    /// Its folder.
    pub(super) folder: PathBuf,
}

impl Containers {
    /// Those below a folder, which need not be there yet.
    pub fn within(root: PathBuf) -> Self {
        Self(root)
    }

    /// Makes the folder of a container to be.
    pub(super) fn make(&self, id: &str) -> Result<PathBuf, Error> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.bytes().all(is_name) {
            return Err(Error::Refused(format!("{id:?} cannot name a container: letters, digits and any of _+-. can")));
        }
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&self.0).action("make the runtime's folder (--root)")?;
        let folder = self.0.join(id);
        match builder.recursive(false).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Refused(format!("a container {id} exists already")))
            }
            made => made.action("make the container's folder").map(|()| folder),
        }
    }

    /// Looks one up.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none.
    pub fn find(&self, id: &str) -> Result<Found, Error> {
        let none = || Error::Refused(format!("container does not exist: {id:?}"));
        if id.is_empty() || id.contains('/') || id.starts_with('.') {
            return Err(none());
        }
        let folder = self.0.join(id);
        let text = fs::read(folder.join(STATE)).map_err(|_| none())?;
        let record = serde_json::from_slice(&text)
            .map_err(|error| Error::Refused(format!("{}: {error}", folder.join(STATE).display())))?;
        Ok(Found { record, folder })
    }

    /// The folder of one whose record is not there: it was left in the making.
    pub(super) fn left(&self, id: &str) -> Option<PathBuf> {
        let is_name = !id.is_empty() && !id.contains('/') && !id.starts_with('.');
        is_name.then(|| self.0.join(id)).filter(|folder| folder.is_dir() && !folder.join(STATE).exists())
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Found> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut found: Vec<Found> = entries.filter_map(|entry| self.find(entry.file_name().to_str()?).ok()).collect();
        found.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        found
    }
}

impl Found {
    /// How it is now.
    pub fn status(&self) -> Status {
        if self.record.process.open().is_none() {
            return Status::Stopped;
        }
        if !self.record.is_made {
            return Status::Creating;
        }
        if self.folder.join(SOCKET).exists() {
            return Status::Created;
        }
        if self.group().is_some_and(|group| group.is_frozen()) { Status::Paused } else { Status::Running }
    }

    /// Its control group.
    pub(super) fn group(&self) -> Option<Group> {
        self.record.cgroup.as_ref().map(Made::group)
    }

    /// Its configuration, as it was made.
    pub(super) fn config(&self) -> Result<Config, Error> {
        Config::read(&self.folder.join(CONFIG))
    }

    /// Its own command.
    ///
    /// # Errors
    /// Those of reading its folder.
    pub fn process(&self) -> Result<Process, Error> {
        Ok(self.config()?.process.unwrap_or_default())
    }

    /// What `state` tells.
    pub fn state(&self) -> Value {
        let status = self.status();
        let mut state = self.record.state(status);
        state["rootfs"] = json!(self.record.rootfs);
        state["created"] = json!(self.record.created);
        state["owner"] = json!(self.record.owner_name());
        state
    }

    /// The processes in it, by number.
    pub fn processes(&self) -> Vec<i32> {
        if let Some(group) = self.group() {
            return group.processes();
        }
        // Its pid namespace has ended with its first process, and nothing in it is left.
        if self.record.owns_pids && self.record.process.open().is_none() {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|id: &i32| mounts_of(*id).is_ok_and(|mounts| mounts == self.record.mounts)).collect()
    }
}

impl Record {
    /// The state that hooks are told (`runtime.md`, "State").
    pub(super) fn state(&self, status: Status) -> Value {
        json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.name(),
            "pid": if status == Status::Stopped { 0 } else { self.process.id },
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }

    /// Who made it, by name where the machine knows one.
    pub fn owner_name(&self) -> String {
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        let name = crate::idmap::user_name(&String::from_utf8_lossy(&passwd), self.owner).map(str::to_owned);
        name.unwrap_or_else(|| self.owner.to_string())
    }

    /// Writes it into the container's folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let draft = folder.join("state.new");
        let text = serde_json::to_vec(self).map_err(io::Error::from).action("write the container's state")?;
        fs::write(&draft, text).action("write the container's state")?;
        fs::rename(draft, folder.join(STATE)).action("write the container's state")
    }
}

/// Keeps the configuration that a container is made by.
pub(super) fn keep_config(folder: &Path, config: &Config) -> Result<(), Error> {
    let text = serde_json::to_vec(config).map_err(io::Error::from).action("write the container's configuration")?;
    fs::write(folder.join(CONFIG), text).action("write the container's configuration")
}

/// Names the mount namespace of a process.
pub(super) fn mounts_of(id: i32) -> io::Result<PathBuf> {
    name_of_mounts(&fs::File::open(format!("/proc/{id}/ns/mnt"))?)
}

/// Names a mount namespace, since Linux 6.11 by a number that no later one gets: that of its file is given again as soon as it
/// has gone.
pub(super) fn name_of_mounts(namespace: &(impl AsFd + AsRawFd)) -> io::Result<PathBuf> {
    let name = fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd()))?;
    let number = mount_namespace_number(namespace.as_fd());
    Ok(number.map_or_else(|_| name.clone(), |number| name.join(number.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i32) -> Record {
        Record {
            oci_version: "1.0.2".to_owned(),
            id: "c".to_owned(),
            process: FirstProcess::of(id).unwrap(),
            is_made: true,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            owner: 0,
            annotations: BTreeMap::new(),
            cgroup: None,
            mounts: mounts_of(id).unwrap(),
            owns_pids: true,
        }
    }

    #[test]
    fn a_container_is_created_while_it_waits_and_stopped_when_its_process_has_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().join("root"));
        let folder = containers.make("c").unwrap();
        assert!(containers.find("c").is_err() && containers.left("c").is_some());
        let own = record(std::process::id().cast_signed());
        own.write(&folder).unwrap();
        assert_eq!(containers.find("c").unwrap().status(), Status::Running);
        fs::write(folder.join(SOCKET), "").unwrap();
        assert_eq!(containers.find("c").unwrap().status(), Status::Created);
        let gone = FirstProcess { started: own.process.started + 1, ..own.process };
        Record { process: gone, ..own }.write(&folder).unwrap();
        assert_eq!(containers.find("c").unwrap().state()["status"], "stopped");
        assert_eq!(containers.all().len(), 1);
        assert!(containers.make("c").unwrap_err().to_string().contains("exists"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().to_path_buf());
        for id in ["", ".", "..", "a/b", "../x", "a b", "\u{e4}"] {
            assert!(containers.make(id).is_err() && containers.find(id).is_err(), "{id}");
        }
    }
}
