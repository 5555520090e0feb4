//! The loopback device of a fresh network namespace (`netdevice(7)`), and the owner of one (`ioctl_nsfs(2)`).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use rustix::net::{AddressFamily, SocketType};

/// Brings the device `lo` up.
///
/// # Errors
/// EPERM outside of a network namespace of one's own.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all-zero is a valid ifreq: an empty name, no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(i16::MAX);
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `NS_GET_USERNS` of `linux/nsfs.h`.
const GET_USER_NAMESPACE: u64 = 0xb701;

/// The user namespace that a namespace, of which this is the file, belongs to.
///
/// # Errors
/// EPERM for one outside of the caller's own, ENOTTY for what is no namespace.
pub fn owner(namespace: &std::fs::File) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument, and `namespace` is open until the call returns.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USER_NAMESPACE) };
    // SAFETY: the kernel has just made the descriptor for us alone.
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(result) }) }
}
