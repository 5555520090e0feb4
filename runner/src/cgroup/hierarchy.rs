//! Where control groups of version 2 are, and which of them this process may make groups in.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::GroupError;

/// The controllers that limits are about.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The mounted tree of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The group of the process, below the mount.
    pub(super) own: PathBuf,
    /// Controllers that version 1 holds.
    pub(super) held: Vec<String>,
    /// Which part of the whole tree the mount shows.
    root: String,
}

impl Hierarchy {
    /// Looks.
    pub(super) fn find() -> Result<Self, GroupError> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(GroupError::at(path));
        Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?).ok_or(GroupError::NoHierarchy)
    }

    /// Whether version 1 holds a controller.
    pub(crate) fn holds(controller: &str) -> bool {
        Self::find().is_ok_and(|hierarchy| hierarchy.held.iter().any(|name| name == controller))
    }

    fn parse(mounts: &str, groups: &str) -> Option<Self> {
        let mount = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut fields = place.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup2 ").then(|| (root.to_owned(), PathBuf::from(point)))
        });
        let (root, mount) = mount?;
        let own = place_of(groups, &root, &mount)?;
        let held = groups
            .lines()
            .filter_map(|line| line.split(':').nth(1))
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty() && !name.contains('='))
            .map(|name| if name == "blkio" { "io".to_owned() } else { name.to_owned() })
            .collect();
        Some(Self { mount, own, held, root })
    }

    /// The group of another process, or of a thread by its folder in `/proc`; `None` if it has gone.
    pub(super) fn group_of(&self, folder: &Path) -> Option<PathBuf> {
        place_of(&std::fs::read_to_string(folder.join("cgroup")).ok()?, &self.root, &self.mount)
    }

    /// Makes these controllers work in the groups below one.
    pub(super) fn enable(&self, folder: &Path, controllers: &[&str]) -> Result<(), GroupError> {
        let there = words(folder, "cgroup.controllers")?;
        for &controller in controllers {
            if !there.iter().any(|name| name == controller) {
                let controller = controller.to_owned();
                return Err(if self.held.contains(&controller) {
                    GroupError::Held { controller }
                } else {
                    GroupError::NotDelegated { controller, folder: folder.to_path_buf() }
                });
            }
        }
        let enabled = words(folder, "cgroup.subtree_control")?;
        let wanted: Vec<String> = controllers
            .iter()
            .filter(|&&controller| !enabled.iter().any(|name| name == controller))
            .map(|controller| format!("+{controller}"))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let file = folder.join("cgroup.subtree_control");
        std::fs::write(&file, wanted.join(" ")).map_err(GroupError::at(file))
    }

    /// Those of the controllers of limits that can be had below a group.
    pub(super) fn available(folder: &Path) -> Result<Vec<String>, GroupError> {
        let mut there = words(folder, "cgroup.controllers")?;
        there.retain(|name| CONTROLLERS.contains(&name.as_str()));
        Ok(there)
    }

    /// Whether this process can be moved to a group: what lies around both is writable.
    pub(super) fn may_reach(&self, group: &Path) -> bool {
        self.own.ancestors().find(|folder| group.starts_with(folder)).is_some_and(may_write)
    }

    /// The nearest group from one upwards in which a group with these controllers can be made.
    pub(super) fn place(&self, from: &Path, controllers: &[&str]) -> Result<PathBuf, GroupError> {
        let mut refused = None;
        for folder in from.ancestors().take_while(|folder| folder.starts_with(&self.mount)) {
            // Who is made elsewhere must be let in from here: what lies above is writable, or nothing is.
            if !may_write(folder) {
                break;
            }
            // With processes of its own a group has no controllers for groups below it: perhaps the one above. The kernel would
            // let those for threads be enabled, and then no group below it takes processes.
            if !controllers.is_empty() && has_processes(folder) {
                let busy = io::Error::from_raw_os_error(nix::libc::EBUSY);
                refused = refused.or(Some(GroupError::at(folder)(busy)));
                continue;
            }
            match self.enable(folder, controllers) {
                Ok(()) => return Ok(folder.to_path_buf()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| GroupError::NotWritable(from.to_path_buf())))
    }
}

#[cfg(test)]
impl Hierarchy {
    /// One for tests, which need not be mounted.
    pub(super) fn of_test(mount: &Path) -> Self {
        Self { mount: mount.into(), own: mount.into(), held: vec!["cpu".into()], root: "/".into() }
    }
}

/// The group that a process's `cgroup` file names, below a mount that may show a part of the tree only.
fn place_of(groups: &str, root: &str, mount: &Path) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = group.strip_prefix(root.trim_end_matches('/')).unwrap_or(group);
    Some(mount.join(group.trim_start_matches('/')))
}

/// Whether groups can be made in this one, and processes put there.
pub(super) fn may_write(folder: &Path) -> bool {
    [folder.to_path_buf(), folder.join("cgroup.procs")].iter().all(|path| access(path, Access::WRITE_OK).is_ok())
}

/// Whether a group has processes of its own that stand in the way of controllers; those of the root do not.
fn has_processes(folder: &Path) -> bool {
    folder.join("cgroup.type").exists() && words(folder, "cgroup.procs").is_ok_and(|processes| !processes.is_empty())
}

fn words(folder: &Path, name: &str) -> Result<Vec<String>, GroupError> {
    let file = folder.join(name);
    let text: io::Result<String> = std::fs::read_to_string(&file);
    Ok(text.map_err(GroupError::at(file))?.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_host_has_controllers_that_cannot_be_had() {
        let found = Hierarchy::parse(HYBRID, "4:memory:/a\n7:blkio:/\n9:name=systemd:/\n0::/b\n").unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.own, Path::new("/sys/fs/cgroup/unified/b"));
        assert_eq!(found.held, ["memory", "io"]);
    }

    #[test]
    fn version_1_alone_is_none() {
        assert_eq!(Hierarchy::parse("32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw", "1:memory:/\n"), None);
        assert_eq!(Hierarchy::parse("", ""), None);
    }

    #[test]
    fn a_mount_may_show_a_part_of_the_tree() {
        let mounts = "31 30 0:27 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(Hierarchy::parse(mounts, "0::/pod/x\n").unwrap().own, Path::new("/sys/fs/cgroup/x"));
    }

    #[test]
    fn a_group_with_processes_of_its_own_has_none_with_limits_below() {
        let tree = tempfile::tempdir().unwrap();
        let inner = tree.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        for folder in [tree.path(), &inner] {
            std::fs::write(folder.join("cgroup.controllers"), "pids\n").unwrap();
            std::fs::write(folder.join("cgroup.subtree_control"), "pids\n").unwrap();
            std::fs::write(folder.join("cgroup.type"), "domain\n").unwrap();
            std::fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        let hierarchy = Hierarchy::of_test(tree.path());
        assert_eq!(hierarchy.place(&inner, &["pids"]).unwrap(), inner);
        std::fs::write(inner.join("cgroup.procs"), "1\n").unwrap();
        assert_eq!(hierarchy.place(&inner, &["pids"]).unwrap(), tree.path());
        assert_eq!(hierarchy.place(&inner, &[]).unwrap(), inner);
        std::fs::write(tree.path().join("cgroup.procs"), "2\n").unwrap();
        assert!(hierarchy.place(&inner, &["pids"]).unwrap_err().to_string().contains("busy"));
    }

    #[test]
    fn a_controller_that_is_not_there_is_told_with_the_way_to_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "pids memory\n").unwrap();
        std::fs::write(folder.path().join("cgroup.subtree_control"), "pids\n").unwrap();
        let hierarchy = Hierarchy::of_test(folder.path());
        hierarchy.enable(folder.path(), &["pids"]).unwrap();
        hierarchy.enable(folder.path(), &["pids", "memory"]).unwrap();
        let written = std::fs::read_to_string(folder.path().join("cgroup.subtree_control")).unwrap();
        assert!(written.starts_with("+memory"), "{written}");
        let told = |controller| hierarchy.enable(folder.path(), &[controller]).unwrap_err().to_string();
        assert!(told("cpu").contains("version 1"), "{}", told("cpu"));
        assert!(told("io").contains("Delegate="), "{}", told("io"));
    }
}
