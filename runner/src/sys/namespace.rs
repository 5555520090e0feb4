//! Pid and user namespaces: who is in one, which lies around another, and whose one is (`ioctl_nsfs(2)`).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// `NS_GET_PARENT` of `linux/nsfs.h`.
const GET_PARENT: u64 = 0xb702;
/// `NS_GET_OWNER_UID`.
const GET_OWNER: u64 = 0xb704;
/// `NS_GET_TGID_IN_PIDNS`, since Linux 6.11.
const GET_ID_WITHIN: u64 = 0x8004_b709;

/// Whether a process of ours is in a pid namespace, of which this is the file, or in one below it. `None` where the kernel
/// cannot tell, before Linux 6.11.
pub fn has_process(namespace: &impl AsRawFd, id: i32) -> Option<bool> {
    // SAFETY: the request takes the number itself, and `namespace` is open until the call returns.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_ID_WITHIN, id) };
    if result > 0 {
        return Some(true);
    }
    (io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)).then_some(false)
}

/// The user that has made a user namespace, and has all power over it from the one around.
///
/// # Errors
/// EINVAL for another kind.
pub fn owner_of_user_namespace(namespace: &impl AsRawFd) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the kernel writes one number to `owner`, which lives until the call returns, as does `namespace`.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_OWNER, &raw mut owner) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(owner) }
}

/// The pid or user namespace around one.
///
/// # Errors
/// EPERM where that is outside of the caller's own.
pub fn around(namespace: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument, and `namespace` is open until the call returns.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_PARENT) };
    // SAFETY: the kernel has just made the descriptor for us alone.
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(result) }) }
}

/// Whether two descriptors are of the same namespace.
///
/// # Errors
/// Those of `fstat(2)`.
pub fn is_same(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
