//! `kill`, `pause` and `resume`.

use std::os::fd::AsFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::state::{Found, Status, mounts_of};
use crate::error::{Action, Error};
use crate::sys::process;

/// Sends a signal to a container's first process, or to all in it.
///
/// # Errors
/// [`Error::Refused`] for a container that has ended, unless all are meant, which then are those that it left behind.
pub fn kill(container: &Found, signal: i32, all: bool) -> Result<(), Error> {
    if all {
        for id in container.processes() {
            if let Some(pid) = Pid::from_raw(id)
                && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
                // Looked at with the descriptor in hand: the number cannot become another's meanwhile.
                && (container.record.cgroup.is_some()
                    || mounts_of(id).is_ok_and(|mounts| mounts == container.record.mounts))
            {
                // One that has just ended needs no signal.
                let _ = process::signal(pidfd.as_fd(), signal);
            }
        }
        return Ok(());
    }
    let id = &container.record.id;
    let first = container.record.process.open();
    let first = first.ok_or_else(|| Error::Refused(format!("container not running: {id:?}")))?;
    process::signal(first.as_fd(), signal).action("send the signal")
}

/// Stops a container's processes where they are, or lets them go on.
///
/// # Errors
/// [`Error::Refused`] for a container without a control group, or that is not in the state for it.
pub fn freeze(container: &Found, is_frozen: bool) -> Result<(), Error> {
    let (id, status) = (&container.record.id, container.status());
    let wanted = if is_frozen { [Status::Running, Status::Created] } else { [Status::Paused, Status::Paused] };
    if !wanted.contains(&status) {
        return Err(Error::Refused(format!("container {id:?} is {}", status.name())));
    }
    let group = container.group();
    let group = group.ok_or_else(|| {
        Error::Refused(format!("container {id:?} has no control group of its own, by which it could be paused"))
    })?;
    Ok(group.freeze(is_frozen)?)
}
