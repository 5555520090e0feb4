//! The network namespace of a container, made beside the child while that mounts: it takes the kernel longer than all mounts
//! together.
//!
//! It has to be made within the container's user namespace, to belong to that. So a fork goes there, hidden, with nothing but a
//! channel; it makes the namespace, hands it over, and ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::CloneFlags;

use crate::channel::Channel;
use crate::enter::Hidden;
use crate::error::Stage;
use crate::refusal;
use crate::sys::network;
use crate::sys::process::{self, Fork};

/// The process that makes one.
#[derive(Debug)]
pub(crate) struct Maker(i32);

impl Maker {
    /// Starts it. `namespace` is the container's user namespace, if it has another than this process. Each of `to` gets the network
    /// namespace, or hears why there is none.
    ///
    /// # Errors
    /// Those of `fork(2)`.
    pub(crate) fn start(namespace: Option<BorrowedFd<'_>>, to: &[&Channel]) -> io::Result<Self> {
        match process::fork()? {
            Fork::Child => {
                match make(namespace, to) {
                    // Who has failed meanwhile wants none.
                    Ok(made) => to.iter().for_each(|channel| drop(channel.give(made.as_fd()))),
                    Err(error) => to.iter().for_each(|channel| channel.fail(Stage::Network, "", &error)),
                }
                process::exit_now(0)
            }
            Fork::Parent(id) => Ok(Self(id)),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of `waitpid(2)`.
    pub(crate) fn reap(self) -> io::Result<()> {
        process::wait_for(self.0).map(drop)
    }
}

/// A network namespace with its loopback device up.
fn make(namespace: Option<BorrowedFd<'_>>, to: &[&Channel]) -> io::Result<File> {
    let kept = to.iter().map(AsFd::as_fd).chain(namespace);
    let hidden = Hidden::with(kept, &[])?;
    if let Some(namespace) = namespace {
        hidden.enter(namespace, CloneFlags::CLONE_NEWUSER)?;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    network::loopback_up().map_err(refusal::of_loopback)?;
    File::open("/proc/self/ns/net")
}
