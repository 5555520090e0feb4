//! A further command in a running container: joins its namespaces and puts on the confinement of its first process.
//!
//! A fork of ours joins, and makes the command's process as its own sibling (`CLONE_PARENT`), since only what is made after
//! joining a pid namespace is in it. So no process of the caller's program stays behind inside, and the command is a child
//! of the caller, which waits for it and whose death ends it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Group};
use crate::channel::{Channel, Heard};
use crate::child::{self, During, Failure};
use crate::container::Container;
use crate::enter::{self, Hidden};
use crate::error::{Action, Error, Stage};
use crate::idmap::Shape;
use crate::launch::{answer, begin_apart, watch_signals};
use crate::plan::{Plan, Step};
use crate::spec::Network;
use crate::streams;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::process;
use crate::target::Root;
use crate::userns::{self, Maps};

/// A container's first process, told apart from later ones of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstProcess {
    /// Its number, as the host counts.
    pub id: i32,
    /// When it started, in ticks since boot (`proc_pid_stat(5)`, field 22).
    pub started: u64,
}

impl FirstProcess {
    /// The process that has this number now.
    ///
    /// # Errors
    /// `NotFound` for none.
    pub fn of(id: i32) -> io::Result<Self> {
        let started = stat(id, 22)?.parse().ok();
        let started = started.ok_or_else(|| io::Error::other(format!("/proc/{id}/stat cannot be understood")))?;
        Ok(Self { id, started })
    }

    /// A descriptor that means this process; `None` if it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.id)?, PidfdFlags::empty()).ok()?;
        // Looked at with the descriptor in hand: from here on the number cannot become another's.
        let is_this = Self::of(self.id).is_ok_and(|now| now == *self) && !has_ended(pidfd.as_fd());
        is_this.then_some(pidfd)
    }

    /// Whether its user namespace is the one that this process is in.
    ///
    /// # Errors
    /// Those of looking at another process; also if it has ended.
    pub(crate) fn shares_ids(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let _held = self.open().ok_or(io::ErrorKind::NotFound)?;
        let namespace = |process: &str| std::fs::metadata(format!("/proc/{process}/ns/user"));
        let (other, own) = (namespace(&self.id.to_string())?, namespace("self")?);
        Ok((other.dev(), other.ino()) == (own.dev(), own.ino()))
    }

    /// Joins its namespaces; `own` is what [`Self::open`] gave.
    ///
    /// The init of `--init` lets nobody in: it is not dumpable, and its memory is of an outer user namespace, in which
    /// only root may look into it (`ptrace(2)`, access mode checking). Its command is in the same namespaces.
    ///
    /// # Errors
    /// Those of `setns(2)`.
    pub(crate) fn join(&self, hidden: &Hidden, own: &OwnedFd, namespaces: CloneFlags) -> io::Result<()> {
        match hidden.enter(own, namespaces) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            joined => return joined,
        }
        hidden.enter(self.command(own)?.ok_or(Errno::EPERM)?, namespaces)
    }

    /// The user namespace that it is in, or where it lets nobody look, its command.
    fn user_namespace(&self, own: &OwnedFd) -> io::Result<OwnedFd> {
        let of = |id: i32| std::fs::File::open(format!("/proc/{id}/ns/user")).map(OwnedFd::from);
        match of(self.id) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => return opened,
        }
        let command = self.command(own)?.ok_or(Errno::EPERM)?;
        of(number(&command)?)
    }

    /// The first of its children, with which an init ends.
    fn command(&self, own: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.id))?;
        let Some(id) = children.split_ascii_whitespace().next().and_then(|id| id.parse().ok()) else { return Ok(None) };
        let Some(pid) = Pid::from_raw(id) else { return Ok(None) };
        let command = pidfd_open(pid, PidfdFlags::empty())?;
        // Looked at with both descriptors in hand: the numbers are theirs while neither has been reaped.
        let parent = stat(id, 4)?.parse();
        let is_its_child = parent == Ok(self.id) && !has_ended(command.as_fd()) && !has_ended(own.as_fd());
        Ok(is_its_child.then_some(command))
    }
}

/// A field of a process's `stat` (`proc_pid_stat(5)`), of those behind its name; empty where there is none.
pub(crate) fn stat(id: i32, field: usize) -> io::Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold anything; the third field follows the last of them.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    Ok(fields.split_ascii_whitespace().nth(field - 3).unwrap_or_default().to_owned())
}

/// Whether a process has ended, reaped or not.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)) != Ok(0)
}

/// Runs the plan's command in the container whose first process this is; returns when it runs. `runtime` is the folder of the
/// user's systemd, which may have to let this process into the container's control group.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::NotFound`] and [`Error::NotExecutable`] of the command; those of joining.
pub fn exec(plan: &Plan, container: &FirstProcess, runtime: Option<&Path>) -> Result<Container, Error> {
    let target = container.open().ok_or(Error::NotRunning)?;
    let mut apart = begin_apart(plan)?;
    // What real root's container was to have need not be what it could have, and it may have joined another's.
    let found;
    let plan = if plan.host.is_root {
        let has_own = !container.shares_ids().action("look up the container's user namespace")?;
        if has_own {
            let maps = Maps::of_process(container.id).action("read the container's ids")?;
            if has_ended(target.as_fd()) {
                // The number may have been another's by then.
                return Err(Error::NotRunning);
            }
            streams::give(&maps);
        }
        found = Plan { user_namespace: has_own.then_some(Shape::Auto), ..plan.clone() };
        &found
    } else {
        plan
    };
    let (parent, child) = Channel::pair().action("make a channel")?;
    // One of its own for the fork: what the command's process says may come before the fork has told which that is.
    let (hear, tell) = Channel::pair().action("make a channel")?;
    let signals = watch_signals()?;
    // systemd lets nobody into the group around its own.
    let group = if plan.spec.systemd { Some(Group::of(container.id)?) } else { plan.cgroup.clone() };
    let group = cgroup::descriptor(group.as_deref()).action("open the control group")?;
    let (cloned, is_outside) = fork_into(group.as_ref(), plan.spec.systemd, runtime)?;
    let Cloned::Parent { id: joiner, .. } = cloned else {
        apart.leave();
        let group = group.filter(|_| is_outside);
        let Err(failure) = join(plan, container, &target, group.as_ref(), (&tell, &child));
        tell.fail(failure.stage, &failure.what, &failure.error);
        process::exit_now(1)
    };
    drop((child, tell, target));
    let relays = apart.end().action("put the terminals back")?;
    let (id, pidfd) = sibling(&hear, joiner)?;
    let terminal = answer(&parent, plan, &mut |_| {}).inspect_err(|_| {
        // It has told why, and ends.
        let _ = process::wait_for(id);
    })?;
    Ok(Container::new(id, pidfd, signals, terminal, plan.spec.interactive, None).relaying(relays))
}

/// Makes the process that joins, in the container's control group if that has one; or outside of it, if that `is_foreign`, of
/// an id of the container's: then it can go there once it has the container's power.
fn fork_into(group: Option<&OwnedFd>, is_foreign: bool, runtime: Option<&Path>) -> Result<(Cloned, bool), Error> {
    const ACTION: &str = "start a process in the container's control group";
    let Some(group) = group else { return Ok((clone3(0, None).action("fork")?, false)) };
    let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let cloned = match clone3(0, Some(group.as_fd())) {
        // This process is where no other can be moved out of but by systemd.
        Err(error) if is_refused(&error) => {
            Group::approach(runtime)?;
            match clone3(0, Some(group.as_fd())) {
                Err(error) if is_foreign && is_refused(&error) => return Ok((clone3(0, None).action("fork")?, true)),
                other => other,
            }
        }
        other => other,
    };
    Ok((cloned.action(ACTION)?, false))
}

/// Goes into a group that root inside owns, among its ids.
fn enter_group(group: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let procs = rustix::fs::openat(group, "cgroup.procs", flags, rustix::fs::Mode::empty())?;
    // 0 is who writes.
    rustix::io::write(procs, b"0")?;
    Ok(())
}

/// The process that a fork of ours made as its own sibling where it has joined, by number and descriptor; the fork ends.
pub(crate) fn sibling(channel: &Channel, joiner: i32) -> Result<(i32, OwnedFd), Error> {
    let heard = channel.hear().action("hear from a fork");
    process::wait_for(joiner).action("wait for a fork")?;
    match heard? {
        Heard::Descriptor(pidfd) => Ok((number(&pidfd).action("look up the number of a process")?, pidfd)),
        Heard::Failed(stage, what, source) => Err(Error::Child { stage, what, source }),
        Heard::Closed | Heard::Released | Heard::Weaker(_) => Err(Error::Died),
    }
}

/// The number of a descriptor's process (`pidfd_open(2)`, `fdinfo`).
fn number(pidfd: &OwnedFd) -> io::Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("the kernel tells no number"))
}

/// Enters the namespaces and makes the command's process; comes back in neither.
fn join(
    plan: &Plan,
    container: &FirstProcess,
    target: &OwnedFd,
    group: Option<&OwnedFd>,
    (teller, channel): (&Channel, &Channel),
) -> Result<std::convert::Infallible, Failure> {
    if let Some(score) = plan.spec.oom_score {
        // Of the namespaces' own /proc there may be none.
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).during(Stage::OomScore, score.to_string())?;
    }
    let kept = [teller.as_fd(), channel.as_fd(), target.as_fd()].into_iter().chain(group.map(AsFd::as_fd));
    let hidden = Hidden::with(kept, &plan.spec.preserved).during(Stage::Join, "")?;
    let own = plan.spec.namespaces;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    let joined = &plan.spec.joined;
    namespaces.set(CloneFlags::CLONE_NEWPID, own.pid || joined.pid.is_some());
    namespaces.set(CloneFlags::CLONE_NEWIPC, own.ipc || joined.ipc.is_some());
    namespaces.set(CloneFlags::CLONE_NEWUTS, own.uts || joined.uts.is_some());
    namespaces.set(CloneFlags::CLONE_NEWCGROUP, own.cgroup || joined.cgroup.is_some());
    if own.time {
        namespaces |= CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME);
    }
    if plan.user_namespace.is_some() {
        let is_there = !plan.spec.keeps_groups && {
            let dropped = container.user_namespace(target).and_then(|own| hidden.drop_groups_before(own));
            dropped.during(Stage::Identity, "")?
        };
        if let Some(group) = group {
            if !is_there {
                container.join(&hidden, target, CloneFlags::CLONE_NEWUSER).during(Stage::Join, "")?;
            }
            enter_group(group).during(Stage::Join, "")?;
        } else if !is_there {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
    }
    if plan.spec.network != Network::Host {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    container.join(&hidden, target, namespaces).during(Stage::Join, "")?;
    match clone3(nix::libc::CLONE_PARENT, None).during(Stage::Join, "")? {
        Cloned::Parent { pidfd, .. } => {
            teller.give(pidfd).during(Stage::Join, "")?;
            process::exit_now(0)
        }
        Cloned::Child => {
            let Err(failure) = become_command(plan, channel);
            channel.fail(failure.stage, &failure.what, &failure.error);
            process::exit_now(1)
        }
    }
}

fn become_command(plan: &Plan, channel: &Channel) -> Result<std::convert::Infallible, Failure> {
    // By trying: a /proc of the container's may say anything. A namespace of a single id allows no choice of groups.
    let may_set_groups = !plan.spec.keeps_groups && enter::give_up_groups().during(Stage::Identity, "")?;
    if plan.user_namespace.is_some() {
        userns::become_root(false).during(Stage::Identity, "")?;
    }
    child::prepare().during(Stage::Identity, "")?;
    if plan.steps.contains(&Step::Keyring) {
        child::own_keyring().during(Stage::Keyring, "")?;
    }
    let root = Root::own().during(Stage::Join, "")?;
    nix::unistd::setsid().during(Stage::Terminal, "")?;
    let terminal =
        if plan.spec.terminal { Some(crate::pty::make(&root, channel).during(Stage::Terminal, "")?) } else { None };
    let workdir = root.directory(&plan.spec.cwd).during(Stage::Workdir, &plan.spec.cwd)?;
    child::run_command(plan, channel, root, workdir, terminal, may_set_groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_of_its_number() {
        let own = FirstProcess::of(process::own_id()).unwrap();
        assert!(own.open().is_some());
        assert!(FirstProcess { started: own.started + 1, ..own }.open().is_none());
        assert!(FirstProcess { id: i32::MAX, ..own }.open().is_none());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id().cast_signed();
        let ended = FirstProcess::of(id).unwrap();
        while std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {}
        assert!(ended.open().is_none(), "a zombie is no container");
        child.wait().unwrap();
    }
}
