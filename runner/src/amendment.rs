//! What was changed of a container after it was made, beside its record, which its monitor writes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, Wish};
use crate::exec::FirstProcess;
use crate::state::Restart;

/// Its file in the container's folder.
const AMENDMENT: &str = "amendment";

/// What was changed of a container after it was made. In a file of its own, since its monitor writes the record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amendment {
    /// Its control group, with all limits.
    pub cgroup: Option<Wish>,
    /// What happens when it ends.
    pub restart: Option<Restart>,
    /// A control group that was made while it ran.
    pub group: Option<Gathered>,
}

/// A control group that was made for a container that ran without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathered {
    /// The first process of the start that it is of.
    pub first: FirstProcess,
    /// Where it is.
    pub path: PathBuf,
}

impl Gathered {
    /// As a group.
    pub fn group(&self) -> Group {
        Group::at(self.path.clone())
    }
}

impl Amendment {
    /// The one in a container's folder; `None` if nothing was changed.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(AMENDMENT)).ok()?).ok()
    }

    /// The same by the folder's descriptor: a single call where nothing was changed.
    pub fn of(folder: impl AsFd) -> Option<Self> {
        let file = rustix::fs::openat(folder, AMENDMENT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        serde_json::from_reader(File::from(file)).ok()
    }

    /// Writes it into the container's folder, in place of an earlier one.
    ///
    /// # Errors
    /// A full disk, a folder that has gone.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join(format!("{AMENDMENT}.{}", crate::sys::process::own_id()));
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        std::fs::rename(draft, folder.join(AMENDMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Amendment::read(folder.path()), None);
        let first = Amendment { restart: Some(Restart::OnFailure(3)), cgroup: Some(Wish::default()), group: None };
        first.write(folder.path()).unwrap();
        assert_eq!(Amendment::read(folder.path()), Some(first));
        let second = Amendment { restart: Some(Restart::No), ..Amendment::default() };
        second.write(folder.path()).unwrap();
        assert_eq!(Amendment::read(folder.path()), Some(second.clone()));
        assert_eq!(Amendment::of(File::open(folder.path()).unwrap()), Some(second));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }
}
