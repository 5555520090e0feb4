//! Landlock: a process gives up access to files, for itself and all that comes from it (`landlock(7)`).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// What concerns a file itself; all else is about the names in a folder.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// What reads and changes nothing.
const READING: u64 = EXECUTE | READ_FILE | READ_DIR;
/// The first version of which read-only means it: before, files could be truncated (Linux 6.2).
const OLDEST: i32 = 3;
const CREATE_RULESET_VERSION: libc::c_ulong = 1;
const RULE_PATH_BENEATH: libc::c_ulong = 1;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// Rules in the making. Until [`Ruleset::enforce`] nothing changes.
#[derive(Debug)]
pub struct Ruleset {
    fd: OwnedFd,
    handled: u64,
}

/// The kernel's version of Landlock.
///
/// # Errors
/// It has none, or one that is switched off.
pub fn version() -> io::Result<i32> {
    // SAFETY: a null attribute of size 0 asks for the version; nothing is read.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    match i32::try_from(version) {
        Ok(-1) | Err(_) => {
            let why = io::Error::last_os_error();
            Err(io::Error::other(format!("the kernel offers no Landlock ({why})")))
        }
        Ok(version) => Ok(version),
    }
}

impl Ruleset {
    /// One without a rule: enforced, it would refuse every access to files.
    ///
    /// # Errors
    /// With the reason where the kernel has no Landlock, or one too old.
    pub fn new() -> io::Result<Self> {
        let version = version()?;
        if version < OLDEST {
            return Err(io::Error::other(format!(
                "Landlock {version} of this kernel is too old; Linux 6.2 has {OLDEST}"
            )));
        }
        let handled = if version < 5 { IOCTL_DEV - 1 } else { (IOCTL_DEV << 1) - 1 };
        let attr = RulesetAttr { handled_access_fs: handled };
        // SAFETY: `attr` lives until the call returns, and its true size is given.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attr,
                std::mem::size_of::<RulesetAttr>(),
                0 as libc::c_ulong,
            )
        };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made the descriptor for us alone.
            Ok(fd) if fd >= 0 => Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, handled }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Allows reading and executing, or with `writing` everything, of a file, or of a folder and all below it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn allow(&self, place: impl AsFd, is_directory: bool, writing: bool) -> io::Result<()> {
        let wanted = if writing { self.handled } else { READING };
        let allowed_access = if is_directory { wanted } else { wanted & OF_FILES & self.handled };
        let attr = PathBeneathAttr { allowed_access, parent_fd: place.as_fd().as_raw_fd() };
        // SAFETY: `attr` lives until the call returns and has the layout that the type of rule asks for.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.fd.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const attr,
                0 as libc::c_ulong,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives up every access that no rule allows. The process needs CAP_SYS_ADMIN or `no_new_privs`.
    ///
    /// # Errors
    /// EPERM without both.
    pub fn enforce(self) -> io::Result<()> {
        // SAFETY: takes a descriptor and no memory.
        let result =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0 as libc::c_ulong) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
