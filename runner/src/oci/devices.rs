//! The nodes of `/dev`: those that every container has, and those of the bundle.
//!
//! They are bound from the host one by one, as mounts that let devices be opened, while the mounts below and around them do
//! not. So a node that a container makes by itself opens nothing, although no program of a control group watches over that.
//! Where a bundle wants a node that the host has under another name, owner or mode, and this process may make one, it is
//! made in a file system of its own and bound from there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, fstat, major, makedev, minor, mknodat};
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::config::{Config, Device};
use crate::attach;
use crate::child::{During, Failure};
use crate::error::{Error, Stage};
use crate::plan::{DEVICE_LINKS, DEVICES};
use crate::sys::mount::{Attributes, set_attributes};
use crate::target::{Kind, Root, file_type};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    kind: FileType,
    numbers: (u32, u32),
    /// Mode, owner and group, where the bundle tells them.
    owner: Option<(u32, u32, u32)>,
}

/// All nodes of a container.
#[derive(Debug, Default)]
pub(super) struct Devices {
    nodes: Vec<Node>,
    /// Whether those that the host has not so can be made.
    may_make: bool,
    /// Whether `/dev` is one that is there already, in which nothing is to be made.
    is_bound: bool,
}

impl Devices {
    /// Those of a bundle.
    ///
    /// # Errors
    /// [`Error::Refused`] for types that are none.
    pub(super) fn of(config: &Config, may_make: bool) -> Result<Self, Error> {
        let is_bind = |mount: &super::config::Mount| {
            mount.kind == "bind" || mount.options.iter().any(|option| option == "bind" || option == "rbind")
        };
        let is_bound = config.mounts.iter().any(|mount| mount.destination == Path::new("/dev") && is_bind(mount));
        let own = config.linux.devices.iter().map(Node::of).collect::<Result<Vec<_>, _>>()?;
        let usual = DEVICES.map(|(name, major, minor)| Node {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            numbers: (major, minor),
            owner: None,
        });
        let is_own = |node: &Node| own.iter().any(|other| other.path == node.path);
        let mut nodes: Vec<Node> = usual.into_iter().filter(|node| !is_own(node)).collect();
        nodes.extend(own);
        Ok(Self { nodes, may_make, is_bound })
    }

    /// Provides them, and the links of `/dev`.
    pub(super) fn provide(&self, root: &Root) -> Result<(), Failure> {
        for node in &self.nodes {
            if self.is_bound
                && !root.place(&node.path).is_ok_and(|place| file_type(&place).is_ok_and(|kind| kind == node.kind))
            {
                continue;
            }
            let tree = match node.of_host() {
                Some(tree) => tree,
                None if self.may_make => node.make(root).during(Stage::Device, &node.path)?,
                None => {
                    let told = "the host has no such node under this name, and only real root can make one";
                    return Err(io::Error::other(told)).during(Stage::Device, &node.path);
                }
            };
            // They are opened as devices, and are nothing else.
            let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
            let attributes = Attributes { set, clear: 0, propagation: libc::MS_PRIVATE };
            set_attributes(&tree, attributes, false).during(Stage::Device, &node.path)?;
            let place = root.ensure(&node.path, Kind::File).during(Stage::Device, &node.path)?;
            attach::attach(&tree, &place).during(Stage::Device, &node.path)?;
        }
        if self.is_bound {
            return Ok(());
        }
        let dev = root.directory(Path::new("/dev")).during(Stage::Device, "/dev")?;
        for (target, name) in DEVICE_LINKS.into_iter().chain([("/proc/kcore", "core")]) {
            match rustix::fs::symlinkat(target, &dev, name) {
                Err(rustix::io::Errno::EXIST) => {}
                linked => linked.during(Stage::Device, name)?,
            }
        }
        Ok(())
    }
}

impl Node {
    fn of(device: &Device) -> Result<Self, Error> {
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            other => {
                let path = device.path.display();
                return Err(Error::Refused(format!("linux.devices: {path}: the type {other:?} is not known")));
            }
        };
        let owner = Some((device.file_mode.unwrap_or(0o666) & 0o7777, device.uid, device.gid));
        // Devices always lie within the container, with or without the leading slash.
        Ok(Self { path: Path::new("/").join(&device.path), kind, numbers: (device.major, device.minor), owner })
    }

    /// The host's node of the same name, if it is the same.
    fn of_host(&self) -> Option<OwnedFd> {
        let tree = attach::clone_tree(&self.path, false).ok()?;
        let stat = fstat(&tree).ok()?;
        let is_same = FileType::from_raw_mode(stat.st_mode) == self.kind
            && (major(stat.st_rdev), minor(stat.st_rdev)) == self.numbers;
        let has_owner = self.owner.is_none_or(|owner| owner == (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
        // Whose it is matters only where it can be had otherwise.
        let can_differ = !crate::userns::is_real_root();
        (is_same && self.kind != FileType::Fifo && (has_owner || can_differ)).then_some(tree)
    }

    /// A new node, in a file system that lies over the root's `/dev` for a moment: what is mounted nowhere cannot be bound
    /// in part before Linux 6.15.
    fn make(&self, root: &Root) -> io::Result<OwnedFd> {
        let options = [("mode".to_owned(), "700".to_owned()), ("size".to_owned(), "64k".to_owned())];
        let workshop = attach::detached("tmpfs", &options, MountAttrFlags::empty())?;
        attach::attach(&workshop, &root.ensure(Path::new("/dev"), Kind::Directory)?)?;
        let node = self.make_in(&workshop);
        let covered = format!("/proc/self/fd/{}", workshop.as_fd().as_raw_fd());
        rustix::mount::unmount(covered, UnmountFlags::DETACH)?;
        node
    }

    fn make_in(&self, folder: &OwnedFd) -> io::Result<OwnedFd> {
        let (mode, uid, gid) = self.owner.unwrap_or((0o666, 0, 0));
        let mode = Mode::from_raw_mode(mode);
        mknodat(folder, "node", self.kind, mode, makedev(self.numbers.0, self.numbers.1))?;
        // The mode was subject to the umask.
        rustix::fs::chmodat(folder, "node", mode, AtFlags::empty())?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(folder, "node", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let place = rustix::fs::openat(
            folder,
            "node",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        attach::copy(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn usual_nodes_are_there_unless_the_bundle_has_its_own() {
        let own = r#"{"linux":{"devices":[{"type":"c","path":"/dev/null","major":1,"minor":3,"fileMode":384}]}}"#;
        let devices = Devices::of(&config(own), true).unwrap();
        assert_eq!(devices.nodes.len(), DEVICES.len());
        assert_eq!(devices.nodes.last().unwrap().owner, Some((0o600, 0, 0)));
        let bound = r#"{"mounts":[{"destination":"/dev","type":"bind","source":"/dev"}]}"#;
        assert!(Devices::of(&config(bound), true).unwrap().is_bound);
        assert!(Devices::of(&config(r#"{"linux":{"devices":[{"type":"x","path":"/dev/x"}]}}"#), true).is_err());
    }
}
