//! Hands the kernel a program that decides which devices the processes of a control group may open (`bpf(2)`,
//! `BPF_PROG_TYPE_CGROUP_DEVICE`, Linux 4.15).

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// Of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// What to do.
    pub(crate) code: u8,
    /// Registers: the target in the lower four bits, the source above.
    pub(crate) registers: u8,
    /// How far to jump, or where to load from.
    pub(crate) offset: i16,
    /// The operand.
    pub(crate) immediate: i32,
}

/// The front of `union bpf_attr`, as loading uses it.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The front of `union bpf_attr`, as attaching uses it.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// A program that the kernel has accepted.
#[derive(Debug)]
pub(crate) struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    /// Loads it.
    ///
    /// # Errors
    /// EPERM without CAP_BPF or CAP_SYS_ADMIN outside of user namespaces; EINVAL for a program that the kernel does not follow.
    pub(crate) fn load(program: &[Instruction]) -> io::Result<Self> {
        let load = Load {
            kind: BPF_PROG_TYPE_CGROUP_DEVICE,
            count: u32::try_from(program.len()).map_err(io::Error::other)?,
            instructions: program.as_ptr() as u64,
            license: c"".as_ptr() as u64,
            ..Load::default()
        };
        let number = call(BPF_PROG_LOAD, &load)?;
        let number = i32::try_from(number).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made the descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Attaches it to a control group, whose own it stays until the group goes; all that are attached have to agree.
    ///
    /// # Errors
    /// EPERM where one above forbids it.
    pub(crate) fn attach(&self, group: impl AsFd) -> io::Result<()> {
        let number = |descriptor: i32| descriptor.cast_unsigned();
        let attach = Attach {
            target: number(group.as_fd().as_raw_fd()),
            program: number(self.0.as_raw_fd()),
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
        };
        call(BPF_PROG_ATTACH, &attach).map(|_| ())
    }
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are a plain front of `union bpf_attr` of the size that is given, and what they point to lives
    // until the call returns; the kernel only reads them for these two commands.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
