//! The one door into namespaces that belong to a container.
//!
//! Who has power in a container's user namespace may look into every process there whose memory it can reach: trace it, open
//! its root and its descriptors, write to it. A process of ours that joins still holds the host's root, the caller's
//! descriptors and this program. So it hides *before* it joins. A process that is not dumpable can be looked into only with
//! power in the user namespace in which its program was executed (`ptrace(2)`, access mode checking; Linux 4.10), and that
//! one lies outside of the container's.
//!
//! Nothing else calls `setns(2)`: the lint `disallowed_methods` holds that (`.clippy.toml`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;
use rustix::process::{DumpableBehavior, PidfdFlags, getpid, pidfd_open, set_dumpable_behavior};

use crate::sys::{namespace, process, title};

/// A process that is fit to join a container: no process in there can look into it, and it has no descriptors but those that
/// it was left.
#[derive(Debug)]
pub(crate) struct Hidden(());

impl Hidden {
    /// Hides this process, and closes what is no standard stream, not in `kept`, and none of the numbers that the command is to
    /// inherit. For a fork that ends by [`process::exit_now`] or by exec: the owners of what is closed exist in its parent.
    ///
    /// # Errors
    /// Those of `prctl(2)`.
    pub(crate) fn with<'a>(kept: impl Iterator<Item = BorrowedFd<'a>>, inherited: &[RawFd]) -> io::Result<Self> {
        hide()?;
        // Inside, everybody may read a command line.
        title::set("join");
        process::close_all_but_numbers(kept.map(|fd| fd.as_raw_fd()).chain(inherited.iter().copied()));
        Ok(Self(()))
    }

    /// Joins namespaces of a container: of a file of `/proc/PID/ns`, or of the process that a descriptor means.
    ///
    /// # Errors
    /// Those of `setns(2)`.
    #[expect(clippy::unused_self, reason = "having it is the proof that the process is hidden")]
    pub(crate) fn enter(&self, namespaces: impl AsFd, kinds: CloneFlags) -> io::Result<()> {
        set(namespaces, kinds)?;
        if kinds.contains(CloneFlags::CLONE_NEWUSER) {
            // The kernel resets the state with the credentials, to what `fs.suid_dumpable` says.
            hide()?;
        }
        Ok(())
    }

    /// Lets itself be looked into again, for a program of ours outside that finds namespaces by a process. Never where a process of a
    /// container's can see this one.
    ///
    /// # Errors
    /// Those of `prctl(2)`.
    #[expect(clippy::unused_self, reason = "it is given up")]
    pub(crate) fn show_outside(self) -> io::Result<()> {
        Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
    }

    /// Gives up the caller's further groups where that is allowed: in the outermost of the user namespaces that lie between this
    /// process and `target`. The container's own may deny it, as each that a process of it has made does; who joined with these
    /// groups would keep them. Whether this process is in `target` by that: the kernel lets nobody in twice.
    ///
    /// # Errors
    /// Those of looking at the namespaces, and of `setns(2)`.
    pub(crate) fn drop_groups_before(&self, target: impl AsFd) -> io::Result<bool> {
        if rustix::process::getgroups()?.is_empty() || give_up_groups()? {
            return Ok(false);
        }
        let own = std::fs::File::open("/proc/self/ns/user")?;
        let mut outermost = target.as_fd().try_clone_to_owned()?;
        loop {
            let around = namespace::around(&outermost)?;
            if namespace::is_same(&around, &own)? {
                break;
            }
            outermost = around;
        }
        self.enter(&outermost, CloneFlags::CLONE_NEWUSER)?;
        // A single mapping denies it, for good.
        give_up_groups()?;
        namespace::is_same(&outermost, &target)
    }
}

/// Lets no process look into this one that could not look into the user namespace in which its program was executed.
///
/// # Errors
/// Those of `prctl(2)`.
pub(crate) fn hide() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Enters the holder's user namespace, in which no process of a container lives.
///
/// # Errors
/// Those of `setns(2)`.
pub(crate) fn holder(namespace: impl AsFd) -> io::Result<()> {
    set(namespace, CloneFlags::CLONE_NEWUSER)
}

/// Enters the network namespace that was made for the container whose first process this is. Nobody else is in there.
///
/// # Errors
/// Those of `setns(2)`.
pub(crate) fn own_network(namespace: impl AsFd) -> io::Result<()> {
    set(namespace, CloneFlags::CLONE_NEWNET)
}

/// Goes to the root of this process's own mount namespace.
///
/// # Errors
/// Those of `setns(2)`.
pub(crate) fn own_root() -> io::Result<()> {
    let own: OwnedFd = pidfd_open(getpid(), PidfdFlags::empty())?;
    set(own, CloneFlags::CLONE_NEWNS)
}

/// Gives up the further groups; whether that was allowed.
///
/// # Errors
/// Those of `setgroups(2)` but EPERM.
pub(crate) fn give_up_groups() -> io::Result<bool> {
    match nix::unistd::setgroups(&[]) {
        Err(nix::errno::Errno::EPERM) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn set(namespaces: impl AsFd, kinds: CloneFlags) -> io::Result<()> {
    Ok(nix::sched::setns(namespaces, kinds)?)
}
