//! How a process takes its turn: `sched_setattr(2)`, `ioprio_set(2)`.

#![allow(unsafe_code)]

use std::io;

use nix::libc;

/// A process's turn at processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Niceness, of `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Static priority, of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr`, in its first version.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets this process's turn at processors.
///
/// # Errors
/// EINVAL for what contradicts itself, EPERM without the privilege, EBUSY where no such time is left.
pub fn set_turn(turn: Turn) -> io::Result<()> {
    let Turn { policy, flags, nice, priority, runtime, deadline, period } = turn;
    let size = u32::try_from(std::mem::size_of::<Attributes>()).unwrap_or_default();
    let attributes = Attributes { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: `attributes` has the layout that the kernel reads, names its own size, and lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets which nodes this process's memory is taken from (`set_mempolicy(2)`): a mode with its flags, and a bit for each node.
///
/// # Errors
/// EINVAL for what contradicts itself or names nodes that are not there; ENOSYS without nodes in the kernel.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let place = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads as many words as hold `bits - 1` bits, which are all there.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, place, bits) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets this process's turn at disks: a class, 1 to 3, and a priority within it.
///
/// # Errors
/// EINVAL for others, EPERM without the privilege.
pub fn set_disk_turn(class: u16, priority: u16) -> io::Result<()> {
    const PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(priority);
    // SAFETY: takes plain numbers; 0 is the calling process.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
