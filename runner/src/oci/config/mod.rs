//! `config.json`, as far as it is acted upon or refused. Unknown members are passed over, as the specification wants it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod linux;
mod process;
mod resources;

pub use linux::{Device, Extent, Linux, MemoryPolicy, Namespace, Personality, TimeOffset};
pub use process::{Affinity, Capabilities, ConsoleSize, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Pids, Rdma, Resources, ThrottleDevice, WeightDevice,
};

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
