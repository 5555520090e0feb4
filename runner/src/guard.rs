//! The process above a health check's command: all that comes of the command ends at its word, whatever group, session or
//! parent it has given itself.
//!
//! It is a subreaper (`PR_SET_CHILD_SUBREAPER`), so that what loses its parent is its child and nobody else's. Like the
//! [init](crate::init) it stays the caller's program, has the command's confinement, and lets no process of the container
//! look into it. A process of the container that kills it, which is that process's right, undoes it.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::channel::Channel;
use crate::init::reap;
use crate::sys::process::{self, Fork};
use crate::sys::title;

/// What it ends with after it was told to end all.
const ENDED: i32 = 128 + Signal::SIGKILL as i32;

/// Splits the process: comes back in the command's, never in the guard's.
pub(crate) fn split(channel: &Channel) -> io::Result<()> {
    let all = SigSet::all();
    all.thread_set_mask()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // A signal that waits to be taken, as from one who asks: the caller's death must not leave the others behind.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    if channel.is_abandoned() {
        process::exit_now(ENDED);
    }
    match process::fork()? {
        Fork::Child => Ok(SigSet::empty().thread_set_mask()?),
        Fork::Parent(command) => {
            // The channel must have no end here: its closing tells that the command runs.
            process::close_all_but(std::iter::empty());
            title::set("guard");
            process::exit_now(serve(Pid::from_raw(command), &all))
        }
    }
}

fn serve(command: Pid, signals: &SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(_) => {
                end_all();
                return ENDED;
            }
            Err(_) => continue,
        }
        if let Some(code) = reap(command) {
            return code;
        }
    }
}

/// Kills the children until there are none: those of the dead become ours.
fn end_all() {
    let own = process::own_id();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|id| id.parse().ok()).map(Pid::from_raw) {
            // A /proc of another namespace would name others.
            let is_ours = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
            if is_ours.is_ok() {
                let _ = kill(child, Signal::SIGKILL);
            }
        }
        if children.is_empty() || waitpid(None, None).is_err() {
            return;
        }
    }
}
