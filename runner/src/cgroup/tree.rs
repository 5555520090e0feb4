//! A group with those below it, which its processes may have made.

use std::fs;
use std::io;
use std::path::Path;

use super::Group;

impl Group {
    /// Puts a process into it; 0 is this one.
    ///
    /// # Errors
    /// Those of `cgroups(7)`.
    pub(crate) fn add(&self, id: i32) -> io::Result<()> {
        fs::write(self.path().join("cgroup.procs"), id.to_string())
    }

    /// The processes in it and below.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let own = fs::read_to_string(self.path().join("cgroup.procs")).unwrap_or_default();
        let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
        found.extend(self.children().iter().flat_map(Self::processes));
        found
    }

    /// Kills all its processes, if the kernel has a way (Linux 5.14).
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path().join("cgroup.kill"), "1")
    }

    /// Removes it, and where that is refused first those below it, in which no process is left.
    ///
    /// # Errors
    /// EBUSY while there is one.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        let remove = || match fs::remove_dir(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        remove().or_else(|_| {
            self.children().iter().try_for_each(Self::remove_all)?;
            remove()
        })
    }

    /// One below it, made where it is missing.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn sub(&self, path: &Path) -> io::Result<Self> {
        let group = Self::at(self.path().join(path));
        fs::create_dir_all(group.path()).map(|()| group)
    }

    fn children(&self) -> Vec<Self> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| Self::at(entry.path()))
            .collect()
    }
}
