//! A process that slirp4netns finds a container's namespaces by: with its sandbox it takes the number of a process alone.
//!
//! It can be looked into, since slirp4netns has to. So it stands only in a user namespace whose processes cannot see it: of a
//! container that has a pid namespace of its own, and shares its user namespace with none. It has one pipe, and ends when slirp4netns
//! is ready.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::CloneFlags;

use crate::enter::Hidden;
use crate::sys::process::{self, Fork};

/// Such a process. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Anchor {
    id: i32,
    /// Nothing is written: only that it is open counts.
    line: Option<PipeWriter>,
}

impl Anchor {
    /// Puts one into namespaces.
    pub(super) fn in_namespaces(user: BorrowedFd<'_>, network: BorrowedFd<'_>) -> io::Result<Self> {
        let (wait, line) = io::pipe()?;
        let (mut ready, tell_ready) = io::pipe()?;
        let id = match process::fork()? {
            Fork::Child => {
                drop((line, ready));
                let status = stand(user, network, wait, tell_ready);
                process::exit_now(i32::from(status.is_err()))
            }
            Fork::Parent(id) => id,
        };
        drop((wait, tell_ready));
        let anchor = Self { id, line: Some(line) };
        // Closed without a word where it could not get there.
        ready.read_exact(&mut [0]).map_err(|_| io::Error::other("the container's namespaces cannot be entered"))?;
        Ok(anchor)
    }

    /// Its number.
    pub(super) fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.line = None;
        let _ = process::wait_for(self.id);
    }
}

fn stand(user: BorrowedFd<'_>, network: BorrowedFd<'_>, mut wait: PipeReader, mut ready: PipeWriter) -> io::Result<()> {
    let hidden = Hidden::with([user, network, wait.as_fd(), ready.as_fd()].into_iter(), &[])?;
    hidden.enter(user, CloneFlags::CLONE_NEWUSER)?;
    hidden.enter(network, CloneFlags::CLONE_NEWNET)?;
    process::close_all_but([wait.as_fd(), ready.as_fd()].into_iter());
    hidden.show_outside()?;
    ready.write_all(b"r")?;
    drop(ready);
    wait.read(&mut [0]).map(drop)
}
