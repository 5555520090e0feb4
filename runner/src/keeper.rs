//! The process beside a container: it keeps the container from outliving the program that answers for it, ends what the
//! container leaves behind, and clears up when it has ended.
//!
//! *Keeps*: the kernel's own means, `PR_SET_PDEATHSIG`, ends where the command changes its ids or executes a set-id
//! program: the kernel then forgets the signal (`prctl(2)`), and every `gosu` or `su-exec` as process 1 does that. So the
//! container is held by its pidfd and the caller by a pipe, and the one is killed when the other's end closes.
//!
//! *Clears up*: nobody waits for it. The exit status is told before. The files of the container may belong to ids that the
//! keeper has no power over: then a fork does it, within the container's user namespace.
//!
//! It is also the parent of the program that connects the container to the world, where one is wanted: that one ends with the
//! container.
//!
//! It never enters a namespace of the container's: in there the container's root would have power over it.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::enter::{self, Hidden};
use crate::launch::poll;
use crate::members::Members;
use crate::sys::process::{self, Fork};
use crate::sys::title;
use crate::uplink::{Connection, Running};
use crate::userns::become_root;

/// What is left to do when a container has ended. It is done once: by the keeper within the container's user namespace,
/// or at once and in this process where no container came to be.
pub struct Aftermath<'a> {
    /// What to do.
    pub work: Box<dyn FnOnce() + 'a>,
    /// Descriptors that it needs, or that are to stay open until it is done.
    pub keep: Vec<BorrowedFd<'a>>,
}

impl fmt::Debug for Aftermath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Aftermath").field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// What a keeper is given.
pub(crate) struct Orders<'a> {
    /// The container's first process.
    pub(crate) container: BorrowedFd<'a>,
    /// The container's user namespace, if only who is in there has power over its files.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
    /// What is to connect its network.
    pub(crate) uplink: Option<Connection<'a>>,
    /// Its other processes, if these do not end with the first.
    pub(crate) members: Option<Members>,
    /// What to do in the end.
    pub(crate) aftermath: Option<Aftermath<'a>>,
}

/// The caller's hold on the keeper. Dropped, the container is killed if it still runs, and cleared up after.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Nothing is ever written: only that it is open counts, and the kernel closes it whatever the caller dies of.
    _line: PipeWriter,
    /// Closed when the uplink has ended; only where there is one.
    unplugged: Option<PipeReader>,
}

impl Keeper {
    /// Starts one.
    pub(crate) fn start(orders: Orders<'_>) -> io::Result<Self> {
        let (end, line) = io::pipe()?;
        let (unplugged, plug) = if orders.uplink.is_some() { Some(io::pipe()?) } else { None }.unzip();
        match process::fork()? {
            Fork::Child => {
                drop((line, unplugged));
                keep(orders, end, plug);
                process::exit_now(0)
            }
            Fork::Parent(_) => Ok(Self { _line: line, unplugged }),
        }
    }

    /// Waits until the uplink of a container that has ended has ended too, and its ports are free again.
    pub(crate) fn await_uplink(&mut self) {
        if let Some(mut unplugged) = self.unplugged.take() {
            let _ = unplugged.read(&mut [0]);
        }
    }
}

fn keep(orders: Orders<'_>, mut end: PipeReader, plug: Option<PipeWriter>) {
    title::set("keeper");
    // A session of its own: what kills the caller by process group must not kill this too.
    let _ = nix::unistd::setsid();
    // The caller's pipes must end with the caller; a machine without /dev/null has started no container.
    let _ = process::detach_stdio();
    let _ = enter::hide();
    let Orders { container, namespace, uplink, members, aftermath } = orders;
    let running = uplink.and_then(|uplink| uplink.connect(&end));
    let mut kept = vec![container, end.as_fd()];
    kept.extend(namespace);
    kept.extend(members.iter().flat_map(Members::descriptors));
    kept.extend(plug.as_ref().map(AsFd::as_fd));
    kept.extend(running.iter().flat_map(Running::kept));
    kept.extend(aftermath.iter().flat_map(|aftermath| aftermath.keep.iter().copied()));
    process::close_all_but(kept.into_iter());
    if let Some(running) = running {
        let _ = poll(&mut [PollFd::new(&container, PollFlags::IN), PollFd::new(&end, PollFlags::IN)]);
        running.end();
    }
    drop(plug);
    let _ = end.read(&mut [0]);
    // A container that has ended already is left in peace by its descriptor.
    let _ = rustix::process::pidfd_send_signal(container, Signal::KILL);
    // Its mounts end with it, and until then its files are in use. With it alive others could be made after each look.
    let _ = poll(&mut [PollFd::new(&container, PollFlags::IN)]);
    if let Some(members) = members {
        members.end();
    }
    let Some(aftermath) = aftermath else { return };
    let Some(namespace) = namespace else { return (aftermath.work)() };
    let kept = aftermath.keep.iter().copied().chain([namespace]);
    if let Ok(hidden) = Hidden::with(kept, &[])
        && hidden.enter(namespace, CloneFlags::CLONE_NEWUSER).is_ok()
        && become_root(true).or_else(|_| become_root(false)).is_ok()
    {
        (aftermath.work)();
    }
}
