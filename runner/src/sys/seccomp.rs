//! Hands a seccomp program to the kernel.

#![allow(unsafe_code)]

use std::io;
use std::mem::{align_of, size_of};

use nix::libc;

use crate::seccomp::BpfInstruction;

const _: () = assert!(
    size_of::<BpfInstruction>() == size_of::<libc::sock_filter>()
        && align_of::<BpfInstruction>() == align_of::<libc::sock_filter>()
);

/// Puts the calling thread, and all it will fork and execute, under this program for good (seccomp(2),
/// `SECCOMP_SET_MODE_FILTER`). Allocates nothing, so it may be called between fork and exec.
///
/// # Errors
/// EACCES without no_new_privs and without CAP_SYS_ADMIN in the thread's user namespace; EINVAL for a program that is empty,
/// too long or malformed; ENOMEM when all programs of the thread together exceed 32768 instructions.
pub fn install(program: &[BpfInstruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `filter` points to `len` instructions of the layout of sock_filter (checked above and by repr(C)), which
    // the kernel only reads and copies before it returns.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&filter)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
