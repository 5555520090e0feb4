//! What keeps a container from outliving the program that answers for it.
//!
//! The kernel's own means, `PR_SET_PDEATHSIG`, ends where the command changes its ids or executes a set-id program: the
//! kernel then forgets the signal (`prctl(2)`), and every `gosu` or `su-exec` as process 1 does that. So a fork of ours
//! stays outside, holds the container by its pidfd and the caller by a pipe, and kills the one when the other's end closes.

use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::Signal;

use crate::sys::process::{self, Fork};

/// The watching process. Dropped, the container is killed.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Nothing is ever written: only that it is open counts, and the kernel closes it whatever the caller dies of.
    line: Option<PipeWriter>,
    id: i32,
}

impl Watch {
    /// Starts to watch over a container.
    pub(crate) fn over(container: BorrowedFd<'_>) -> io::Result<Self> {
        let (mut end, line) = io::pipe()?;
        match process::fork()? {
            Fork::Child => {
                drop(line);
                // A session of its own: what kills the caller by process group must not kill this too.
                let _ = nix::unistd::setsid();
                // The caller's pipes must end with the caller; a machine without /dev/null has started no container.
                let _ = process::detach_stdio();
                process::close_all_but([container, end.as_fd()].into_iter());
                let _ = end.read(&mut [0]);
                // A container that has ended already is left in peace by its descriptor.
                let _ = rustix::process::pidfd_send_signal(container, Signal::KILL);
                process::exit_now(0)
            }
            Fork::Parent(id) => Ok(Self { line: Some(line), id }),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.line = None;
        // It is a child of ours and has nothing left to do; that somebody else has waited for it changes nothing.
        let _ = process::wait_for(self.id);
    }
}
