//! `clone3(2)`: a process in new namespaces, in one call.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; it does not fit the C library's type.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the call this is.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller.
    Parent {
        /// The new process's id.
        id: i32,
        /// A descriptor that means this process and no later one of the same id.
        pidfd: OwnedFd,
    },
}

/// Makes a process, in new namespaces by `CLONE_NEW*` flags and in a control group (`CLONE_INTO_CGROUP`) or the caller's. It
/// is a copy of the caller like that of fork; the caller must have a single thread.
///
/// # Errors
/// EPERM or ENOSPC where the kernel refuses the namespaces; EACCES, ENODEV or EBUSY the group.
pub fn clone3(flags: i32, group: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args: no stack, no thread area, no set_tid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    if let Some(group) = group {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // With CLONE_PARENT the process is the caller's sibling, and its end is told as the caller's own would be.
    if flags & libc::CLONE_PARENT == 0 {
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of the memory, and with a single thread no lock is held in it.
    // `arguments`, `pidfd` and the group's descriptor live until the call returns.
    let id = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, std::mem::size_of::<libc::clone_args>()) };
    match id {
        0 => Ok(Cloned::Child),
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made the descriptor for us alone.
        id => Ok(Cloned::Parent { id: i32::try_from(id).unwrap_or(-1), pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}
