//! Mounts of a bundle: the options of each in the kernel's terms, and the mounting.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::mount::MountAttrFlags;

use super::config;
use super::proc_mounts::{PROC, is_proc};
use super::procfs::is_procfs;
use crate::attach::{self, CONTEXT};
use crate::copy::{Copier, Owner};
use crate::error::Error;
use crate::idmap::{Extent, IdMap};
use crate::sys::mount as sys;
use crate::target::{Kind, Root, file_type};
use crate::userns::Maps;

/// The attributes that tell how access times are kept exclude each other.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
/// Options that are the file system's own and have no value.
const FLAGS: [&str; 8] = ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "iversion"];

/// A mount to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Where inside.
    pub(super) target: PathBuf,
    /// What is mounted.
    pub(super) what: What,
    /// `MOUNT_ATTR_*` of the mount itself.
    own: Change,
    /// Those of all mounts below it too.
    all: Change,
    /// `MS_PRIVATE`, `MS_SLAVE` …, and whether for all mounts below too.
    propagation: Vec<(u64, bool)>,
    /// Whether a file system in memory begins with what is at its place.
    copies_up: bool,
    /// Ids that files show with; `None` in it for those of the container's user namespace.
    pub(super) ids: Option<IdMapping>,
}

/// Ids that the files of a mount show with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMapping {
    /// The maps.
    pub(super) maps: Maps,
    /// Whether also for mounts below it.
    pub(super) recursive: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A file or directory that is there.
    Bind { source: PathBuf, recursive: bool },
    /// A new file system.
    New { kind: String, options: Vec<(String, String)> },
    /// The hierarchy of control groups.
    Cgroup,
}

impl Default for What {
    fn default() -> Self {
        Self::New { kind: String::new(), options: Vec::new() }
    }
}

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Change {
    set: u64,
    clear: u64,
}

impl Change {
    /// A later option wins over an earlier one.
    fn add(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Reads the mounts of a bundle.
///
/// # Errors
/// [`Error::Refused`] for what is not known or cannot be done.
pub(super) fn orders(config: &config::Config, bundle: &Path) -> Result<Vec<Order>, Error> {
    config.mounts.iter().map(|mount| order(mount, bundle, &config.linux)).collect()
}

fn order(mount: &config::Mount, bundle: &Path, linux: &config::Linux) -> Result<Order, Error> {
    let refused = |reason: String| Error::Refused(format!("mount {}: {reason}", mount.destination.display()));
    // An old writer leaves the leading slash out.
    let mut order = Order { target: Path::new("/").join(&mount.destination), ..Order::default() };
    let has = |wanted: &str| mount.options.iter().any(|option| option == wanted);
    let is_bind = mount.kind == "bind" || has("bind") || has("rbind");
    if is_proc(&order.target, (!is_bind).then_some(mount.kind.as_str())).map_err(refused)? {
        order.target = PROC.into();
    }
    let mut data = Vec::new();
    let mut wanted_ids = None;
    for option in &mount.options {
        if let Some((set, clear)) = attribute(option) {
            order.own.add(set, clear);
        } else if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute) {
            order.all.add(set, clear);
        } else if let Some(propagation) = propagation(option) {
            order.propagation.push(propagation);
        } else {
            match option.as_str() {
                "bind" | "rbind" | "defaults" | "" => {}
                // Access of the superblock's own is what bind mounts have besides theirs.
                "tmpcopyup" if mount.kind == "tmpfs" => order.copies_up = true,
                "idmap" => wanted_ids = Some(false),
                "ridmap" => wanted_ids = Some(true),
                _ if is_bind => return Err(refused(format!("the option {option:?} is not known for a bind"))),
                flag if FLAGS.contains(&flag) => data.push((flag.to_owned(), String::new())),
                _ => {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    data.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }
    if wanted_ids.is_none() && !mount.uid_mappings.is_empty() {
        wanted_ids = Some(false);
    }
    if let Some(recursive) = wanted_ids {
        order.ids = Some(IdMapping { maps: maps_of(mount, linux).map_err(refused)?, recursive });
    }
    order.what = match mount.kind.as_str() {
        _ if is_bind => What::Bind { source: bundle.join(&mount.source), recursive: has("rbind") || !has("bind") },
        "cgroup" | "cgroup2" => What::Cgroup,
        "" | "none" => return Err(refused("it has neither a type nor the option bind".to_owned())),
        kind => {
            // The file systems that can have one in a user namespace too.
            let has_label = data.iter().any(|(key, _)| key == CONTEXT);
            if matches!(kind, "tmpfs" | "devpts") && !linux.mount_label.is_empty() && !has_label {
                data.push((CONTEXT.to_owned(), linux.mount_label.clone()));
            }
            if !mount.source.is_empty() {
                data.insert(0, ("source".to_owned(), mount.source.clone()));
            }
            What::New { kind: kind.to_owned(), options: data }
        }
    };
    Ok(order)
}

fn maps_of(mount: &config::Mount, linux: &config::Linux) -> Result<Maps, String> {
    let (users, groups) = if mount.uid_mappings.is_empty() {
        (&linux.uid_mappings, &linux.gid_mappings)
    } else {
        (&mount.uid_mappings, &mount.gid_mappings)
    };
    if users.is_empty() || groups.is_empty() {
        return Err("ids are to be mapped, and neither the mount nor the container has maps".to_owned());
    }
    Ok(Maps { users: id_map(users), groups: id_map(groups) })
}

/// An id map in our own terms.
pub(super) fn id_map(extents: &[config::Extent]) -> IdMap {
    let extent =
        |extent: &config::Extent| Extent { inside: extent.container_id, outside: extent.host_id, count: extent.size };
    IdMap(extents.iter().map(extent).collect())
}

/// What an option sets and clears of a mount.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (libc::MOUNT_ATTR_RDONLY, 0),
        // What is read-only at its source stays so unless more is said: `rrw` says it.
        "rw" => (0, 0),
        "nosuid" => (libc::MOUNT_ATTR_NOSUID, 0),
        "suid" => (0, libc::MOUNT_ATTR_NOSUID),
        "nodev" => (libc::MOUNT_ATTR_NODEV, 0),
        "dev" => (0, libc::MOUNT_ATTR_NODEV),
        "noexec" => (libc::MOUNT_ATTR_NOEXEC, 0),
        "exec" => (0, libc::MOUNT_ATTR_NOEXEC),
        "nosymfollow" => (libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
        "symfollow" => (0, libc::MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime" => (libc::MOUNT_ATTR_NODIRATIME, 0),
        "diratime" => (0, libc::MOUNT_ATTR_NODIRATIME),
        "noatime" => (libc::MOUNT_ATTR_NOATIME, ATIME),
        "strictatime" => (libc::MOUNT_ATTR_STRICTATIME, ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    let (name, recursive) = match option.strip_prefix('r') {
        Some(name) => (name, true),
        None => (option, false),
    };
    let flag = match name {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((flag, recursive))
}

impl Order {
    /// Opens what a bind binds: by whoever may reach it, and before the root is mounted, which may lie below it.
    pub(super) fn source(&self, travels: u64) -> io::Result<Option<OwnedFd>> {
        let What::Bind { source, recursive } = &self.what else { return Ok(None) };
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
        let tree = attach::clone_tree(source, *recursive).map_err(told)?;
        if travels != 0 {
            sys::set_attributes(&tree, sys::Attributes { propagation: travels, ..sys::Attributes::default() }, true)?;
        }
        Ok(Some(tree))
    }

    /// Allows no device nodes on it, but for terminals, and where they are asked for by name.
    pub(super) fn forbid_devices(&mut self) {
        let is_asked_for = (self.own.clear | self.all.clear) & libc::MOUNT_ATTR_NODEV != 0;
        match &self.what {
            What::New { kind, .. } if kind == "devpts" => {}
            _ if is_asked_for => {}
            What::Bind { .. } => self.all.add(libc::MOUNT_ATTR_NODEV, 0),
            What::New { .. } | What::Cgroup => self.own.add(libc::MOUNT_ATTR_NODEV, 0),
        }
    }

    /// Mounts it in the root to be.
    pub(super) fn mount(&self, root: &Root, source: Option<OwnedFd>) -> io::Result<()> {
        match &self.what {
            What::Bind { .. } => {
                let tree = source.ok_or_else(|| io::Error::other("its source was not opened"))?;
                let place = self.place_of_bind(root, &tree)?;
                self.change(&tree, true)?;
                attach::attach(&tree, &place)
            }
            What::Cgroup => self.hierarchy(root),
            What::New { kind, options } => match self.filesystem(root, kind, options) {
                // It shows a network namespace, and only that one's owner may mount it.
                Err(error) if kind == "sysfs" && is_refusal(&error) => self.of_host(root, "/sys"),
                // Where the group of terminals does not exist they stay the user's own.
                Err(error) if kind == "devpts" && error.raw_os_error() == Some(libc::EINVAL) => {
                    let fewer: Vec<_> = options.iter().filter(|(key, _)| key != "gid").cloned().collect();
                    self.filesystem(root, kind, &fewer)
                }
                mounted => mounted,
            },
        }
    }

    fn place_of_bind(&self, root: &Root, tree: &OwnedFd) -> io::Result<OwnedFd> {
        if self.target != Path::new(PROC) {
            let kind = if file_type(tree)? == FileType::Directory { Kind::Directory } else { Kind::File };
            return attach::volume_place(root, &self.target, kind);
        }
        if !is_procfs(tree)? {
            return Err(io::Error::other("at /proc there can be a bind of a whole procfs, and of nothing else"));
        }
        attach::own_place(root, &self.target)
    }

    fn filesystem(&self, root: &Root, kind: &str, options: &[(String, String)]) -> io::Result<()> {
        let place = match kind {
            "proc" | "sysfs" => attach::own_place(root, &self.target)?,
            _ => attach::volume_place(root, &self.target, Kind::Directory)?,
        };
        let mut options = options.to_vec();
        if kind == "tmpfs" && !options.iter().any(|(key, _)| key == "mode") {
            options.push(("mode".to_owned(), format!("{:o}", fstat(&place)?.st_mode & 0o7777)));
        }
        let made = attach::detached(kind, &options, MountAttrFlags::empty())?;
        if self.copies_up {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let (from, to) = (openat(&place, ".", flags, Mode::empty())?, openat(&made, ".", flags, Mode::empty())?);
            Copier::new(Owner::Kept, false, false).contents(from, to, false)?;
        }
        self.change(&made, false)?;
        attach::attach(&made, &place)
    }

    /// That of version 2 where the machine has it; else, and where the kernel refuses another view, the host's.
    fn hierarchy(&self, root: &Root) -> io::Result<()> {
        if !super::cgroup::is_unified() {
            return self.of_host(root, "/sys/fs/cgroup");
        }
        let place = attach::volume_place(root, &self.target, Kind::Directory)?;
        match attach::detached("cgroup2", &[], MountAttrFlags::empty()) {
            Ok(made) => {
                self.change(&made, false)?;
                attach::attach(&made, &place)
            }
            Err(error) if is_refusal(&error) => self.of_host(root, "/sys/fs/cgroup"),
            Err(error) => Err(error),
        }
    }

    fn of_host(&self, root: &Root, source: &str) -> io::Result<()> {
        let tree = attach::clone_tree(Path::new(source), true)?;
        let private = sys::Attributes { propagation: libc::MS_PRIVATE, ..sys::Attributes::default() };
        sys::set_attributes(&tree, private, true)?;
        let whole = Self { own: Change::default(), all: Change { clear: 0, ..self.own }, ..self.clone() };
        whole.change(&tree, true)?;
        attach::attach(&tree, &attach::own_place(root, &self.target)?)
    }

    /// Gives a mount its attributes.
    fn change(&self, mount: &OwnedFd, is_tree: bool) -> io::Result<()> {
        for (change, recursive) in [(self.own, false), (self.all, true)] {
            if !change.is_none() {
                // The kernel takes one of the ways to keep access times only in exchange for all others.
                let clear = change.clear | if change.set & ATIME == 0 { 0 } else { ATIME };
                let attributes = sys::Attributes { set: change.set, clear, propagation: 0 };
                sys::set_attributes(mount, attributes, recursive && is_tree)?;
            }
        }
        for &(propagation, recursive) in &self.propagation {
            let attributes = sys::Attributes { propagation, ..sys::Attributes::default() };
            sys::set_attributes(mount.as_fd(), attributes, recursive && is_tree)?;
        }
        Ok(())
    }
}

pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, options: &[&str]) -> Result<Order, Error> {
        let mount = config::Mount {
            destination: "/there".into(),
            kind: kind.to_owned(),
            source: "here".to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
            ..config::Mount::default()
        };
        order(&mount, Path::new("/bundle"), &config::Linux::default())
    }

    #[test]
    fn a_bind_is_relative_to_the_bundle_and_recursive_unless_it_says_bind() {
        let source = PathBuf::from("/bundle/here");
        assert_eq!(of("bind", &["rbind", "ro"]).unwrap().what, What::Bind { source: source.clone(), recursive: true });
        assert_eq!(of("none", &["bind"]).unwrap().what, What::Bind { source, recursive: false });
        assert!(of("none", &[]).is_err());
    }

    #[test]
    fn a_later_option_wins_and_recursive_ones_stand_apart() {
        let order = of("bind", &["nosuid", "suid", "noexec", "rro", "rnodev"]).unwrap();
        assert_eq!(order.own, Change { set: libc::MOUNT_ATTR_NOEXEC, clear: libc::MOUNT_ATTR_NOSUID });
        assert_eq!(order.all.set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV);
        assert_eq!(of("tmpfs", &["strictatime", "noatime"]).unwrap().own.set, libc::MOUNT_ATTR_NOATIME);
    }

    #[test]
    fn what_is_left_is_for_the_file_system_and_unknown_for_a_bind() {
        let What::New { options, .. } = of("tmpfs", &["rslave", "size=1k", "sync"]).unwrap().what else { panic!() };
        let said: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(said, ["source=here", "size=1k", "sync="]);
        let error = of("bind", &["size=1k"]).unwrap_err().to_string();
        assert!(error.contains("/there") && error.contains("size=1k"), "{error}");
    }

    #[test]
    fn the_label_of_mounts_is_that_of_file_systems_in_memory() {
        let linux = config::Linux { mount_label: "u:r:t:s0".to_owned(), ..config::Linux::default() };
        let of = |kind: &str, options: &[&str]| {
            let options = options.iter().map(|&option| option.to_owned()).collect();
            let mount = config::Mount { kind: kind.to_owned(), options, ..config::Mount::default() };
            let What::New { options, .. } = order(&mount, Path::new("/b"), &linux).unwrap().what else { panic!() };
            options.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(of("tmpfs", &["size=1k"]), ["size=1k", "context=u:r:t:s0"]);
        assert_eq!(of("tmpfs", &["context=own"]), ["context=own"]);
        assert_eq!(of("proc", &[]), Vec::<String>::new());
    }

    #[test]
    fn devices_are_forbidden_unless_they_are_asked_for() {
        let of = |kind: &str, options: &[&str]| {
            let mut order = of(kind, options).unwrap();
            order.forbid_devices();
            (order.own.set | order.all.set) & libc::MOUNT_ATTR_NODEV != 0
        };
        assert!(of("bind", &["rbind"]) && of("tmpfs", &[]));
        assert!(!of("bind", &["rbind", "rdev"]) && !of("tmpfs", &["dev"]) && !of("devpts", &[]));
    }

    #[test]
    fn ids_of_a_mount_need_maps() {
        assert!(of("bind", &["idmap"]).unwrap_err().to_string().contains("maps"));
    }
}
