//! `mount_setattr(2)`, Linux 5.12.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// What to change of a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`; 0 leaves it.
    pub propagation: u64,
}

/// Changes a mount that a descriptor refers to; with `recursive` all mounts below it too.
///
/// # Errors
/// EPERM for what an outer namespace has locked, EINVAL for what is not the root of a mount.
pub fn set_attributes(mount: impl AsFd, attributes: Attributes, recursive: bool) -> io::Result<()> {
    // SAFETY: all-zero is a valid mount_attr that changes nothing.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = attributes.set;
    attr.attr_clr = attributes.clear;
    attr.propagation = attributes.propagation;
    change(mount, &attr, recursive)
}

/// Has a mount that is attached nowhere show its files with the ids of a user namespace (`MOUNT_ATTR_IDMAP`, Linux 5.12), and
/// changes its propagation; 0 leaves that.
///
/// # Errors
/// EPERM without power over the file system, EINVAL for a file system that cannot do it.
pub fn map_ids(mount: impl AsFd, namespace: impl AsFd, recursive: bool, propagation: u64) -> io::Result<()> {
    // SAFETY: all-zero is a valid mount_attr that changes nothing.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = libc::MOUNT_ATTR_IDMAP;
    attr.propagation = propagation;
    attr.userns_fd = u64::try_from(namespace.as_fd().as_raw_fd()).unwrap_or_default();
    change(mount, &attr, recursive)
}

fn change(mount: impl AsFd, attr: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty string, `attr` lives until the call returns, and its true size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
