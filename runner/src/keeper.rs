//! The process beside a container: it makes what the container needs and need not wait for, keeps it from outliving the
//! program that answers for it, and clears up when it has ended.
//!
//! *Makes*: the network namespace takes the kernel longer than all mounts together. It is made here while the child
//! mounts, in the container's user namespace, and handed over.
//!
//! It is also the parent of the program that connects it to the world, where one is wanted: that one ends with the container.
//!
//! *Keeps*: the kernel's own means, `PR_SET_PDEATHSIG`, ends where the command changes its ids or executes a set-id
//! program: the kernel then forgets the signal (`prctl(2)`), and every `gosu` or `su-exec` as process 1 does that. So the
//! container is held by its pidfd and the caller by a pipe, and the one is killed when the other's end closes.
//!
//! *Clears up*: nobody waits for it. The exit status is told before, and the files of the container may belong to ids
//! that exist in its user namespace alone.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::channel::Channel;
use crate::error::Stage;
use crate::launch::poll;
use crate::refusal;
use crate::sys::process::{self, Fork};
use crate::sys::{network, title};
use crate::uplink::{Prepared, Running, Wish};
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
    /// The container's user namespace, if it has one of its own.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
    /// Whether its files belong to real root's ids all the same, so that who enters the namespace cannot remove them.
    pub(crate) keeps_host_ids: bool,
    /// Where to hand a network namespace over, if one is wanted.
    pub(crate) network: Option<&'a Channel>,
    /// What is to connect it.
    pub(crate) uplink: Option<Wish<'a>>,
    /// The container's mount namespace, if its processes are among the host's: then the end of the first is not that of all.
    pub(crate) mounts: Option<PathBuf>,
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

fn keep(orders: Orders<'_>, end: PipeReader, plug: Option<PipeWriter>) {
    title::set("keeper");
    // A session of its own: what kills the caller by process group must not kill this too.
    let _ = nix::unistd::setsid();
    // The caller's pipes must end with the caller; a machine without /dev/null has started no container.
    let _ = process::detach_stdio();
    if !orders.keeps_host_ids {
        return stand_by(orders, end, plug);
    }
    // Another goes into the namespace, from which there is no way back to the ids that the files belong to.
    if let Some(channel) = orders.network {
        let is_connected = orders.uplink.is_some();
        match process::fork() {
            Ok(Fork::Child) => {
                let connecting = Orders { mounts: None, aftermath: None, ..orders };
                stand_by(connecting, end, plug);
                process::exit_now(0)
            }
            Ok(Fork::Parent(id)) if !is_connected => {
                let _ = process::wait_for(id);
            }
            Ok(Fork::Parent(_)) => {}
            Err(error) => channel.fail(Stage::Network, "", &error),
        }
    }
    drop(plug);
    stand_by(Orders { namespace: None, network: None, uplink: None, ..orders }, end, None);
}

fn stand_by(orders: Orders<'_>, mut end: PipeReader, plug: Option<PipeWriter>) {
    let Orders { container, namespace, keeps_host_ids, network, uplink, mounts, aftermath } = orders;
    // Where the caller is: its sockets are to be the host's, and its program none that the container has power over.
    let uplink = uplink.map(Wish::prepare);
    let entered = namespace.map_or(Ok(()), |namespace| nix::sched::setns(namespace, CloneFlags::CLONE_NEWUSER));
    let mut running = None;
    if let Some(channel) = network {
        match entered.map_err(io::Error::from).and_then(|()| make_network()) {
            Ok(made) => {
                // A child that has failed meanwhile wants none.
                let _ = channel.give(made.as_fd());
                running = uplink.and_then(|prepared| connect(prepared, channel, &end, namespace.is_some()));
            }
            Err(error) => channel.fail(Stage::Network, "", &error),
        }
        if keeps_host_ids && running.is_none() {
            return;
        }
    }
    let mut kept = vec![container, end.as_fd()];
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
    if let Some(mounts) = mounts {
        // With the first process alive another could be made after each look.
        let _ = poll(&mut [PollFd::new(&container, PollFlags::IN)]);
        while kill_those_in(&mounts) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let Some(aftermath) = aftermath else { return };
    // Its mounts end with it, and until then its files are in use.
    let _ = poll(&mut [PollFd::new(&container, PollFlags::IN)]);
    if namespace.is_none() || entered.is_ok() && become_root(true).or_else(|_| become_root(false)).is_ok() {
        (aftermath.work)();
    }
}

/// Has the uplink started, and tells the child how that went.
fn connect(
    prepared: io::Result<Prepared<'_>>,
    channel: &Channel,
    end: &PipeReader,
    has_user_namespace: bool,
) -> Option<Running> {
    let (name, started) = match prepared {
        Ok(prepared) => (prepared.name(), prepared.start(end, has_user_namespace)),
        Err(error) => ("", Err(error)),
    };
    match started {
        Ok(running) => {
            let _ = channel.release();
            Some(running)
        }
        Err(error) => {
            channel.fail(Stage::Uplink, name, &error);
            None
        }
    }
}

/// Kills every process that has this mount namespace; whether there was one.
fn kill_those_in(mounts: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut found = false;
    for id in processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
        let is_there = || std::fs::read_link(format!("/proc/{id}/ns/mnt")).is_ok_and(|link| link == mounts);
        // Looked at with the descriptor in hand: the number cannot become another's meanwhile.
        if let Some(pid) = Pid::from_raw(id)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && is_there()
        {
            found |= rustix::process::pidfd_send_signal(process, Signal::KILL).is_ok();
        }
    }
    found
}

/// A network namespace with its loopback device up. This process stays in it, which costs nothing, and so pays for its end.
fn make_network() -> io::Result<std::fs::File> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    network::loopback_up().map_err(refusal::of_loopback)?;
    std::fs::File::open("/proc/self/ns/net")
}
