//! Process 1 of `--init`: starts the command, passes signals on, reaps what is left, and ends with the command.
//!
//! It stays the caller's program, which no process inside can read or write: it is not dumpable, and its memory belongs
//! to a user namespace outside of theirs.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::channel::Channel;
use crate::sys::process::{self, Fork};
use crate::sys::title;

/// Splits the process: comes back in the command's, never in the init's.
pub(crate) fn split(channel: &Channel) -> io::Result<()> {
    let all = SigSet::all();
    all.thread_set_mask()?;
    match process::fork()? {
        Fork::Child => {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid());
            Ok(SigSet::empty().thread_set_mask()?)
        }
        Fork::Parent(command) => {
            // The channel must have no end here: its closing tells that the command runs.
            let _ = channel;
            process::close_all_but(std::iter::empty());
            title::set("init");
            // The change of ids has undone it, and the command's own call comes after the fork.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            process::exit_now(serve(Pid::from_raw(command), &all))
        }
    }
}

fn serve(command: Pid, signals: &SigSet) -> i32 {
    loop {
        let Ok(signal) = signals.wait() else { continue };
        if signal != Signal::SIGCHLD {
            // A command that has just ended needs no signal any more.
            let _ = kill(command, signal);
            continue;
        }
        if let Some(code) = reap(command) {
            return code;
        }
    }
}

/// Takes note of the children that have ended; the exit status if the command is among them, as shells tell it.
pub(crate) fn reap(command: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(id, code)) if id == command => return Some(code),
            Ok(WaitStatus::Signaled(id, signal, _)) if id == command => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
