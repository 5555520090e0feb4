//! Hands a seccomp program to the kernel.

#![allow(unsafe_code)]

use std::io;
use std::mem::{align_of, size_of};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

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
/// EACCES without no_new_privs and without CAP_SYS_ADMIN in the thread's user namespace; EINVAL for a program that is
/// empty, too long or malformed; ENOMEM when all programs of the thread together exceed 32768 instructions.
pub fn install(program: &[BpfInstruction]) -> io::Result<()> {
    set(program, 0).map(|_| ())
}

/// The same, with the descriptor by which calls that the program leaves to a listener are heard of and answered
/// (`seccomp_unotify(2)`, Linux 5.0). It has the lowest number that is free.
///
/// # Errors
/// As for [`install`]; EBUSY if the thread has a listener already.
pub fn install_with_listener(program: &[BpfInstruction]) -> io::Result<OwnedFd> {
    let number = set(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set(program: &[BpfInstruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `filter` points to `len` instructions of the layout of sock_filter (checked above and by repr(C)), which
    // the kernel only reads and copies before it returns.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&filter)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::FromRawFd as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use super::*;
    use crate::seccomp::{DEFAULT_CAPABILITIES, default_program};

    type Call = (libc::c_long, [u64; 6]);

    /// Fills the arguments of prctl that an option does not have.
    const NONE: libc::c_ulong = 0;

    /// Runs `body` in a child under the default program; it reports with the sender. Returns reports and status.
    fn confined(body: impl FnOnce(&dyn Fn(i32))) -> (Vec<i32>, ExitStatus) {
        let program = default_program(DEFAULT_CAPABILITIES).unwrap();
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the child only makes system calls and ends with _exit; it touches no lock and allocates nothing.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let send = |value: i32| {
                // SAFETY: the buffer is a live array of this length.
                unsafe { libc::write(ends[1], value.to_ne_bytes().as_ptr().cast(), 4) };
            };
            // SAFETY: these options take plain numbers. Not dumpable: a killed child leaves no core file behind.
            let set = |option, value: libc::c_ulong| unsafe { libc::prctl(option, value, NONE, NONE, NONE) } == 0;
            let ready = set(libc::PR_SET_DUMPABLE, 0) && set(libc::PR_SET_NO_NEW_PRIVS, 1) && install(&program).is_ok();
            if ready {
                body(&send);
            }
            // SAFETY: ends the child without running anything the parent registered.
            unsafe { libc::_exit(i32::from(!ready)) }
        }
        // SAFETY: both ends are this function's own and used nowhere else from here on.
        let (mut reader, writer) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let mut status = 0;
        // SAFETY: `status` is a live integer and `child` a child that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        let reports = bytes.chunks_exact(4).map(|chunk| i32::from_ne_bytes(chunk.try_into().unwrap())).collect();
        (reports, ExitStatus::from_raw(status))
    }

    /// The results of these calls under the default program: 0 for success, else the error.
    fn answers<const N: usize>(calls: [Call; N]) -> [i32; N] {
        let (reports, status) = confined(|send| {
            for (number, [a, b, c, d, e, f]) in calls {
                // SAFETY: every pointer among the tested arguments is null or static.
                let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
                // SAFETY: errno belongs to this thread.
                send(if result < 0 { unsafe { *libc::__errno_location() } } else { 0 });
            }
        });
        assert!(status.success(), "{status}: the program was not installed");
        reports.try_into().unwrap()
    }

    fn call<const N: usize>(number: libc::c_long, arguments: [u64; N]) -> Call {
        let mut all = [0; 6];
        all[..N].copy_from_slice(&arguments);
        (number, all)
    }

    #[test]
    fn the_kernel_answers_as_the_profile_says() {
        // Without the program each would succeed or fail otherwise (EBADF, EFAULT, EINVAL).
        let no_fd = u64::from(u32::MAX);
        let bit_32 = 1 << 32;
        let algorithms = u64::from(libc::AF_ALG.unsigned_abs());
        assert_eq!(
            answers([
                call(libc::SYS_socket, [algorithms, 5, 0]),
                call(libc::SYS_socket, [bit_32 | algorithms, 5, 0]),
                call(libc::SYS_socket, [u64::from(libc::AF_VSOCK.unsigned_abs()), 1, 0]),
                // A pair of another family than UNIX, which the kernel would refuse with another error; and CAN.
                call(libc::SYS_socketpair, [u64::from(libc::AF_INET.unsigned_abs()), 1, 0, 0]),
                call(libc::SYS_socket, [u64::from(libc::AF_CAN.unsigned_abs()), 3, 0]),
                call(libc::SYS_unshare, [0x1000_0000]),
                call(libc::SYS_keyctl, [0, u64::MAX, 0]),
                call(libc::SYS_ioctl, [no_fd, 0x5412, 0]),
                call(libc::SYS_ioctl, [no_fd, bit_32 | 0x5412, 0]),
                call(libc::SYS_ioctl, [no_fd, bit_32 | 0x541c, 0]),
                call(libc::SYS_clone3, [0, 0]),
                call(libc::SYS_io_uring_setup, [1, 0]),
                call(libc::SYS_mount, [0, 0, 0, 0, 0]),
                call(libc::SYS_bpf, [u64::MAX, 0, 0]),
                call(9999, []),
            ]),
            [
                libc::EAFNOSUPPORT,
                libc::EAFNOSUPPORT,
                libc::EAFNOSUPPORT,
                libc::EAFNOSUPPORT,
                libc::EAFNOSUPPORT,
                libc::EPERM,
                libc::EPERM,
                libc::EPERM,
                libc::EPERM,
                libc::EPERM,
                libc::ENOSYS,
                libc::EPERM,
                libc::EPERM,
                libc::EPERM,
                libc::ENOSYS,
            ]
        );
    }

    #[test]
    fn ordinary_calls_reach_the_kernel() {
        let root = c"/".as_ptr() as u64;
        let here = u64::from(libc::AT_FDCWD.cast_unsigned());
        assert_eq!(
            answers([
                call(libc::SYS_getpid, []),
                call(libc::SYS_openat, [here, root, 0]),
                call(libc::SYS_read, [u64::from(u32::MAX), 0, 0]),
                call(libc::SYS_ioctl, [u64::from(u32::MAX), 0x5413, 0]),
                call(libc::SYS_socket, [1, 1, 0]),
                call(libc::SYS_socket, [2, 2, 0]),
                call(libc::SYS_socket, [16, 3, 0]),
                call(libc::SYS_personality, [0xffff_ffff]),
                call(libc::SYS_unshare, [0x200]),
            ]),
            [0, 0, libc::EBADF, libc::EBADF, 0, 0, 0, 0, 0]
        );
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn x32_numbers_do_not_exist_and_i386_calls_kill() {
        assert_eq!(answers([call(0x4000_0000 | libc::SYS_getpid, [])]), [libc::ENOSYS]);
        let (reports, status) = confined(|send| {
            send(1);
            // SAFETY: number 20 of the i386 table is getpid, which has no argument; the gate changes only eax.
            unsafe {
                std::arch::asm!(
                    "int 0x80",
                    inlateout("eax") 20 => _,
                    out("r8") _,
                    out("r9") _,
                    out("r10") _,
                    out("r11") _,
                );
            }
            send(2);
        });
        assert_eq!(reports, [1]);
        // SIGSEGV comes from a kernel that was built or booted without i386 emulation.
        assert!(matches!(status.signal(), Some(libc::SIGSYS | libc::SIGSEGV)), "{status}");
    }

    #[test]
    fn programs_run_under_it() {
        // A program binds the thread that installs it and what that thread starts, so no fork is needed here.
        let output = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&default_program(DEFAULT_CAPABILITIES).unwrap()).unwrap();
            std::thread::spawn(|| ()).join().unwrap();
            Command::new("/bin/sh")
                .args(["-c", "(echo a; echo b) | sort -r; exec cat /proc/self/status"])
                .output()
                .unwrap()
        })
        .join()
        .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with("b\na\n"), "{text}");
        assert!(text.contains("Seccomp:\t2"), "{text}");
    }

    #[test]
    fn a_malformed_program_is_refused_by_the_kernel() {
        let error = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&[]).unwrap_err()
        })
        .join()
        .unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
