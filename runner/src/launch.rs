//! The parent's part of a start: one clone, the id maps, the release, and the answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Uid};

use crate::cgroup::{self, Group};
use crate::channel::{Channel, Heard};
use crate::child::{self, Groups, Orders};
use crate::container::{Container, FORWARDED};
use crate::error::{Action, Error, Stage};
use crate::holder;
use crate::idmap::{IdMap, Shape};
use crate::idmapped::Trees;
use crate::join;
use crate::keeper::{self, Aftermath, Keeper};
use crate::members::{self, Members};
use crate::netns;
use crate::plan::Plan;
use crate::refusal;
use crate::root_ids;
use crate::rootfs::Rootfs;
use crate::spec::Network;
use crate::streams::{self, Apart, Relays};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::process;
use crate::uplink::{Connection, Wish};
use crate::userns::{self, Maps};

/// Starts a container, and returns when its command runs. `warn` hears what is weaker than was hoped for; `aftermath` is
/// done when the container has ended, or now where none came to be.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::NotExecutable`] of the command; all others are about the container.
pub fn launch(
    plan: &Plan,
    rootfs: &Rootfs,
    aftermath: Option<Aftermath<'_>>,
    warn: &mut dyn FnMut(&str),
) -> Result<Container, Error> {
    let mut aftermath = aftermath;
    start(plan, rootfs, &mut aftermath, warn).map_err(refusal::with_proc).inspect_err(|_| {
        // Not taken by a keeper: nothing of the container is left that could do it.
        if let Some(aftermath) = aftermath.take() {
            (aftermath.work)();
        }
    })
}

/// Real root's container has the host's ids where it can have no others, unless it was to have certain ones.
fn start<'a>(
    plan: &Plan,
    rootfs: &Rootfs,
    aftermath: &mut Option<Aftermath<'a>>,
    warn: &mut dyn FnMut(&str),
) -> Result<Container, Error> {
    let try_with = |plan: &Plan, aftermath: &mut Option<Aftermath<'a>>, warn: &mut dyn FnMut(&str)| {
        Launch { plan, rootfs, uplink: None, relays: Relays::default(), aftermath, warn }.run()
    };
    if !plan.host.is_root || plan.user_namespace.is_none() {
        return try_with(plan, aftermath, warn);
    }
    // Root of a user namespace has no host's ids to be warned of.
    let tell = |why: &str, warn: &mut dyn FnMut(&str)| {
        if userns::is_initial() {
            warn(&format!("the container has the host's ids: {why}; --userns host asks for that"));
        }
    };
    let can_do_without = plan.user_namespace == Some(Shape::Auto) && !plan.spec.insists_on_ids;
    if join::is_of_host(plan)? {
        if !can_do_without {
            return Err(unmapped("the namespace that it joins is the host's"));
        }
        if plan.spec.joined.others().next().is_some_and(|other| matches!(other, join::Other::File(_))) {
            tell("the namespace that it joins is the host's", warn);
        }
        return try_with(&plan.with_host_ids()?, aftermath, warn);
    }
    let why = match try_with(plan, aftermath, warn) {
        Err(Error::Unmapped(why)) if can_do_without => why,
        // By the kernel's age alone: no image may bring its container to the host's ids.
        Err(error @ Error::Child { stage: Stage::Rootfs, .. }) if can_do_without => root_ids::too_old().ok_or(error)?,
        other => return other,
    };
    tell(&why, warn);
    try_with(&plan.with_host_ids()?, aftermath, warn)
}

struct Launch<'a, 'b> {
    plan: &'a Plan,
    rootfs: &'a Rootfs,
    uplink: Option<Wish<'a>>,
    relays: Relays,
    aftermath: &'a mut Option<Aftermath<'b>>,
    warn: &'a mut dyn FnMut(&str),
}

impl Launch<'_, '_> {
    fn run(&mut self) -> Result<Container, Error> {
        let plan = self.plan;
        self.uplink = {
            let wish = |uplink| Wish::new(uplink, plan.folder.as_deref());
            plan.spec.network.uplink().map(wish).transpose()?
        };
        if let Some(uplink) = &self.uplink {
            uplink.check(&plan.spec)?;
        }
        let joins = !plan.spec.joined.is_empty();
        // Who lives in another's user namespace has its ids.
        let maps = if joins { Wanted::None } else { maps(plan, self.warn)? };
        let is_mapped_root = plan.host.is_root && plan.user_namespace.is_some();
        let trees = if is_mapped_root { Some(Trees::open(plan, self.rootfs)?) } else { None };
        let (parent, child) = Channel::pair().action("make a channel")?;
        let network = if plan.is_network_apart { Some(Channel::pair().action("make a channel")?) } else { None };
        let (to_child, from_maker) = network.unzip();
        // Before the clone, so that no signal is lost between it and the first wait; the child resets its own.
        let signals = watch_signals()?;
        let group = cgroup::descriptor(plan.cgroup.as_deref()).action("open the control group")?;
        let rootfs = self.rootfs;
        let mut apart = begin_apart(plan)?;
        let (id, pidfd) = if joins {
            let mut kept: Vec<_> = from_maker.iter().map(AsFd::as_fd).collect();
            kept.extend(trees.iter().flat_map(Trees::descriptors));
            let leave = || apart.leave();
            join::first_process(plan, namespaces(plan), group.as_ref(), (&child, &kept), leave, |found| {
                let network = from_maker.as_ref();
                let (groups, shared_memory) = (found.groups.as_ref(), found.shared_memory.as_ref().map(AsFd::as_fd));
                let trees = trees.as_ref();
                child::run(&Orders { plan, rootfs, trees, channel: &child, network, groups, shared_memory })
            })?
        } else {
            let made = clone3(namespaces(plan), cgroup::borrowed(group.as_ref()));
            let cloned = made.map_err(|error| match plan.user_namespace {
                // Nothing else answers so: a group that is not to be entered, or has just gone.
                _ if is_of_group(&error, group.is_some()) => {
                    Error::Parent { action: "start a process in the control group", source: error }
                }
                Some(_) if plan.host.is_root => unmapped(Error::user_namespace(error)),
                Some(_) => Error::user_namespace(error),
                None => Error::namespaces(error),
            })?;
            let Cloned::Parent { id, pidfd } = cloned else {
                // With an end of the parent's in its own hands, it would never hear that it has gone.
                drop((parent, to_child, group));
                apart.leave();
                let groups = maps.groups();
                let (groups, network, trees) = (groups.as_ref(), from_maker.as_ref(), trees.as_ref());
                child::run(&Orders { plan, rootfs, trees, channel: &child, network, groups, shared_memory: None })
            };
            (id, pidfd)
        };
        drop((child, from_maker));
        self.relays = apart.end().action("put the terminals back")?;
        self.finish((&maps, trees), id, pidfd, signals, parent, to_child).inspect_err(|_| {
            // The channel is closed by now, and the child goes with it; its mounts are gone once it is.
            let _ = process::wait_for(id);
        })
    }

    /// From the clone to the running command. The channels end with it.
    fn finish(
        &mut self,
        (maps, trees): (&Wanted, Option<Trees>),
        id: i32,
        pidfd: OwnedFd,
        signals: SignalFd,
        parent: Channel,
        to_child: Option<Channel>,
    ) -> Result<Container, Error> {
        let plan = self.plan;
        let (namespace, members) = if plan.spec.joined.is_empty() {
            // Before the child goes on: it soon lets nobody look into it.
            let namespace = if plan.user_namespace.is_some() { Some(open_namespace(id)?) } else { None };
            let members = Members::of(plan, id, namespace.as_ref().map(AsFd::as_fd))?;
            (namespace, members)
        } else {
            let namespace = if plan.user_namespace.is_some() { Some(members::descriptor(&parent)?) } else { None };
            (namespace, Members::hear(plan, &parent)?)
        };
        match maps {
            Wanted::None => {}
            Wanted::Nested(maps) => userns::write_directly(id, maps)?,
            Wanted::Direct(maps) => userns::write_directly(id, maps).map_err(unmapped)?,
            Wanted::Range(maps) => userns::write_by_helpers(id, maps)?,
            Wanted::Single => userns::write_single(id, Uid::current().as_raw(), Gid::current().as_raw())?,
        }
        if let (Some(trees), Some(namespace)) = (&trees, &namespace) {
            let joined;
            let maps = if let Wanted::Direct(maps) = maps {
                maps
            } else {
                joined = Maps::of_process(id).action("read the ids of the user namespace")?;
                &joined
            };
            trees.map(namespace.as_fd(), maps)?;
            streams::give(maps);
            self.relays.give(maps);
        }
        drop(trees);
        parent.release().action("release the child")?;
        // From here on the child is busy, so that this costs no time.
        let namespace = namespace.as_ref().map(AsFd::as_fd);
        let (mut to_keeper, mut maker) = (None, None);
        if let Some(to_child) = &to_child {
            let (from_maker, tell_keeper) =
                if self.uplink.is_some() { Some(Channel::pair().action("make a channel")?) } else { None }.unzip();
            let to: Vec<_> = [Some(to_child), tell_keeper.as_ref()].into_iter().flatten().collect();
            maker = Some(netns::Maker::start(namespace, &to).action("start the maker of the network")?);
            to_keeper = from_maker;
        }
        // A holder's namespace, and real root's, have power over the files as they are.
        let has_power = plan.host.is_root || matches!(maps, Wanted::Nested(_));
        let connection = |network| {
            let wish = self.uplink.take()?;
            Some(Connection { wish, network, namespace, child: to_child.as_ref()? })
        };
        let orders = keeper::Orders {
            container: pidfd.as_fd(),
            namespace: namespace.filter(|_| !has_power),
            uplink: to_keeper.and_then(connection),
            members,
            aftermath: self.aftermath.take(),
        };
        if let Some(maker) = maker {
            // First it alone beside the child, which waits for the network: a fork more would take the processor from one of them.
            maker.reap().action("wait for the maker of the network")?;
        }
        let keeper = Keeper::start(orders).action("start the container's keeper")?;
        drop(to_child);
        let terminal = answer(&parent, plan, self.warn)?;
        drop(parent);
        let container = Container::new(id, pidfd, signals, terminal, plan.spec.interactive, Some(keeper));
        let container = container.relaying(std::mem::take(&mut self.relays));
        Ok(container.in_group(plan.cgroup.clone().map(Group::at)))
    }
}

/// Blocks the signals that are to be passed on, and reads them from a descriptor instead.
pub(crate) fn watch_signals() -> Result<SignalFd, Error> {
    let mut mask = SigSet::empty();
    for signal in FORWARDED {
        mask.add(signal);
    }
    mask.thread_block().action("block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).action("watch signals")
}

/// Pipes in place of the caller's terminals, for a command that has none of its own.
pub(crate) fn begin_apart(plan: &Plan) -> Result<Apart, Error> {
    if plan.spec.terminal {
        return Ok(Apart::default());
    }
    Apart::begin(plan.spec.interactive).action("make pipes in place of the terminal")
}

/// Waits until the command runs.
pub(crate) fn answer(channel: &Channel, plan: &Plan, warn: &mut dyn FnMut(&str)) -> Result<Option<OwnedFd>, Error> {
    let mut terminal = None;
    loop {
        match channel.hear().action("hear from the child")? {
            Heard::Descriptor(outer) => terminal = Some(outer),
            Heard::Closed if plan.spec.terminal && terminal.is_none() => return Err(Error::Died),
            Heard::Closed => return Ok(terminal),
            Heard::Weaker(text) => warn(&text),
            // Nobody waits for such a word here.
            Heard::Released => {}
            Heard::Failed(Stage::Exec, command, source) => {
                return Err(match source.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => Error::NotFound(command),
                    _ => Error::NotExecutable { command, source },
                });
            }
            // The first that needs power in the namespace: AppArmor grants the one and refuses the other.
            Heard::Failed(Stage::Identity | Stage::Propagation, _, source) if plan.user_namespace.is_some() => {
                return Err(Error::user_namespace(source));
            }
            Heard::Failed(Stage::Propagation, _, source) => return Err(Error::namespaces(source)),
            Heard::Failed(stage, what, source) => return Err(Error::Child { stage, what, source }),
        }
    }
}

/// How the ids of the container are to be mapped.
enum Wanted {
    /// Not at all.
    None,
    /// From within the holder's namespace.
    Nested(Maps),
    /// By real root.
    Direct(Maps),
    /// By the set-id helpers.
    Range(Maps),
    /// The caller's alone.
    Single,
}

impl Wanted {
    /// The groups that will exist inside; `None` for all of the host's.
    fn groups(&self) -> Option<Groups> {
        match self {
            Self::None => None,
            Self::Nested(maps) | Self::Direct(maps) | Self::Range(maps) => {
                Some(Groups { map: maps.groups.clone(), may_be_set: true })
            }
            Self::Single => Some(Groups { map: IdMap::single(Gid::current().as_raw()), may_be_set: false }),
        }
    }
}

fn maps(plan: &Plan, warn: &mut dyn FnMut(&str)) -> Result<Wanted, Error> {
    let Some(shape) = plan.user_namespace else { return Ok(Wanted::None) };
    if plan.host.is_root {
        return root_ids::maps(shape).map(Wanted::Direct).map_err(unmapped);
    }
    let mapped = match &plan.host.holder {
        None => userns::maps_of_caller(shape).map(Wanted::Range),
        Some(folder) => match holder::join(folder) {
            Ok(ids) => Ok(Wanted::Nested(Maps::of_caller(shape, &ids.users, &ids.groups))),
            Err(Error::IdMap(error)) => Err(error),
            Err(error @ Error::Holder { .. }) => {
                warn(&error.to_string());
                userns::maps_of_caller(shape).map(Wanted::Range)
            }
            Err(error) => return Err(error),
        },
    };
    match mapped {
        Ok(wanted) => Ok(wanted),
        // Only the plain shape means anything with a single id.
        Err(error) if shape == Shape::Auto => {
            warn(&format!("the container has a single user id: {error}"));
            Ok(Wanted::Single)
        }
        Err(error) => Err(error.into()),
    }
}

/// Why real root's container cannot have ids of its own.
fn unmapped(error: impl std::fmt::Display) -> Error {
    Error::Unmapped(error.to_string())
}

fn is_of_group(error: &io::Error, has_group: bool) -> bool {
    has_group && matches!(error.raw_os_error(), Some(libc::EACCES | libc::ENODEV | libc::EBUSY | libc::EOPNOTSUPP))
}

fn namespaces(plan: &Plan) -> i32 {
    let own = plan.spec.namespaces;
    let mut flags = libc::CLONE_NEWNS;
    for (is_own, flag) in [(own.pid, libc::CLONE_NEWPID), (own.ipc, libc::CLONE_NEWIPC), (own.uts, libc::CLONE_NEWUTS)]
    {
        flags |= if is_own { flag } else { 0 };
    }
    if plan.user_namespace.is_some() && plan.spec.joined.is_empty() {
        flags |= libc::CLONE_NEWUSER;
    }
    if own.time {
        flags |= libc::CLONE_NEWTIME;
    }
    if !matches!(plan.spec.network, Network::Host | Network::Joined) && !plan.is_network_apart {
        flags |= libc::CLONE_NEWNET;
    }
    flags
}

fn open_namespace(id: i32) -> Result<OwnedFd, Error> {
    let file = std::fs::File::open(format!("/proc/{id}/ns/user")).action("open the user namespace")?;
    Ok(file.into())
}

/// Descriptors are polled by what they can do now.
pub(crate) fn poll(fds: &mut [rustix::event::PollFd<'_>]) -> io::Result<()> {
    match rustix::event::poll(fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd()
    }
}
