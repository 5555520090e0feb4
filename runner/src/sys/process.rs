//! Processes: fork, signals as they are inherited, descriptors.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(i32),
}

/// `fork(2)`. The process must have a single thread: then the child may do all that the parent may.
///
/// # Errors
/// EAGAIN, ENOMEM.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: this library is for single-threaded processes (see lib.rs), so no lock can be held by a thread that
    // does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Fork::Child),
        ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
    }
}

/// Ends the process without running anything that was registered for its end: right for a fork, whose parent owns
/// these things.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a plain number and does not return.
    unsafe { libc::_exit(code) }
}

/// This process's id.
pub fn own_id() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Waits for a child to end.
///
/// # Errors
/// ECHILD.
pub fn wait_for(child: i32) -> io::Result<WaitStatus> {
    loop {
        match waitpid(Pid::from_raw(child), None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Reaps the children that have ended.
pub fn reap_ended() {
    use nix::sys::wait::WaitPidFlag;
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

/// Sends a signal of any number, real-time ones included, to the process that a descriptor means.
///
/// # Errors
/// ESRCH if it has ended.
pub fn signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: a descriptor that is open for as long as it is borrowed, plain numbers, and no siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            libc::c_uint::MIN,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals as a fresh program expects them: none blocked, none ignored. Rust ignores SIGPIPE, and what is ignored
/// stays so across exec.
///
/// # Errors
/// None that a valid call has.
pub fn reset_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if signal != Signal::SIGKILL && signal != Signal::SIGSTOP {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { sigaction(signal, &default) }?;
        }
    }
    // From 32 on: the C library keeps the first two for itself and answers for them with an error, the kernel does not.
    let disposition = [0_u64; 4];
    for signal in 32..=64 {
        // SAFETY: a kernel sigaction of zeros is the default disposition without flags, handler and mask; it is at most 32
        // bytes on every architecture and lives until the call returns.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, disposition.as_ptr(), std::ptr::null_mut::<u64>(), 8_usize)
        };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Puts an empty session keyring in place of the inherited one (`keyctl(2)`, `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// EDQUOT when the user has too many keys; ENOSYS without keys in the kernel; EPERM under a filter that refuses them.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the execution domain (`personality(2)`), as that in which a 64-bit kernel gives its name as a 32-bit one.
///
/// # Errors
/// EINVAL for one that the kernel lacks.
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: takes a plain number and touches no memory.
    let result = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number of a mount namespace that no other ever has (`NS_GET_MNTNS_ID`, Linux 6.11), by a descriptor of it.
///
/// # Errors
/// ENOTTY on older kernels.
pub fn mount_namespace_number(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    nix::ioctl_read!(number, 0xb7, 5, u64);
    let mut found = 0;
    // SAFETY: the kernel writes one number of 64 bits to `found`, which lives until the call returns.
    unsafe { number(namespace.as_raw_fd(), &raw mut found) }?;
    Ok(found)
}

/// Takes a descriptor of a process that shares its descriptors with this one (`CLONE_FILES`) and has let it go
/// (`into_raw_fd`), if it is open yet: it is closed for both when it is dropped here.
pub fn take_shared(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: nothing is done with the number but to ask whether it is open.
    let is_open = number >= 0 && unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
    // SAFETY: it is open, and nobody else owns it.
    is_open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from 3 on at the next exec (`close_range(2)`, Linux 5.11).
///
/// # Errors
/// ENOSYS on older kernels.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: marks descriptors; none is closed under an owner in this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a descriptor is open and passes to a program that is executed. Those that this program opens do not.
pub fn is_inheritable(number: RawFd) -> bool {
    // SAFETY: asks for the flags of a number, be it open or not; nothing is changed.
    unsafe { libc::fcntl(number, libc::F_GETFD) == 0 }
}

/// Has a descriptor pass to the program that is executed.
///
/// # Errors
/// EBADF.
pub fn make_inheritable(number: RawFd) -> io::Result<()> {
    // SAFETY: sets a flag of a number, be it open or not; nothing is closed, now or at exec.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from 3 on but those given. For a fork that will end by [`exit_now`] or exec, in which no owner of a
/// closed descriptor runs again.
pub fn close_all_but<'a>(keep: impl Iterator<Item = BorrowedFd<'a>>) {
    close_all_but_numbers(keep.map(|fd| fd.as_raw_fd()));
}

/// As [`close_all_but`], for descriptors that are known by their numbers alone.
pub fn close_all_but_numbers(keep: impl Iterator<Item = RawFd>) {
    let mut keep: Vec<RawFd> = keep.filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().chain([RawFd::MAX]) {
        if fd > first {
            // SAFETY: see above: the owners of these descriptors exist in the parent, and here only as a memory.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// Points standard output to `/dev/null`.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn detach_output() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Points standard input, output and error to `/dev/null`, so that no pipe of the caller's is kept open.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn detach_stdio() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
