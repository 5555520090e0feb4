//! The processes of a container that does not have a pid namespace of its own: they do not end with its first one.
//!
//! Found by what they cannot all leave: the control group that the container has of its own; its user namespace and those that were
//! made in it; its mount, UTS and IPC namespaces. A process can leave the latter three where it may make new ones. It leaves a user
//! namespace never. `THREATS.md` says what remains.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::Group;
use crate::channel::{Channel, Heard};
use crate::error::{Action, Error};
use crate::exec::has_ended;
use crate::plan::Plan;
use crate::sys::namespace;

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(1);
/// How long those are looked for that make others and end, and how many looks at the youngest that is at most.
const PATIENCE: Duration = Duration::from_secs(2);
const CHASE: u32 = 20_000;
/// How often in a row nobody may have been made, for nobody to be left who makes others.
const RESTS: u32 = 8;
/// How many of the youngest are looked at.
const WINDOW: i32 = 16;

/// How the processes of a container are known. The namespaces stay open: the kernel gives the number of one that has ended to the
/// next that is made.
#[derive(Debug)]
pub(crate) struct Members {
    /// The control group, if it is the container's own.
    group: Option<Group>,
    /// The user namespace, if it is the container's own.
    user: Option<OwnedFd>,
    /// Files of `/proc/PID/ns` that this container has of its own, and their names there.
    own: Vec<(&'static str, OwnedFd)>,
}

impl Members {
    /// Those of a container that does not end with its first process; `None` for one that does. Of that process, which has
    /// not begun yet, this one must be allowed to open the namespaces.
    ///
    /// # Errors
    /// Those of looking at the process.
    pub(crate) fn of(plan: &Plan, first: i32, user: Option<BorrowedFd<'_>>) -> Result<Option<Self>, Error> {
        if plan.spec.namespaces.pid {
            return Ok(None);
        }
        let open = |name: &'static str| -> io::Result<_> {
            Ok((name, OwnedFd::from(File::open(format!("/proc/{first}/ns/{name}"))?)))
        };
        let own = names(plan).map(open).collect::<io::Result<_>>().action("open the container's namespaces")?;
        let user = user.map(|user| user.try_clone_to_owned()).transpose().action("keep the user namespace")?;
        Ok(Some(Self { group: group(plan), user, own }))
    }

    /// The same, of a process that lets nobody look into it and [tells](Self::introduce) by itself. Its user namespace is that of
    /// others.
    ///
    /// # Errors
    /// Those of the channel; what the process says.
    pub(crate) fn hear(plan: &Plan, channel: &Channel) -> Result<Option<Self>, Error> {
        if plan.spec.namespaces.pid {
            return Ok(None);
        }
        let own = names(plan).map(|name| Ok((name, descriptor(channel)?))).collect::<Result<_, Error>>()?;
        Ok(Some(Self { group: group(plan), user: None, own }))
    }

    /// Tells the parent what [`Self::hear`] waits for, in the first process.
    ///
    /// # Errors
    /// Those of the channel.
    pub(crate) fn introduce(plan: &Plan, channel: &Channel) -> io::Result<()> {
        if plan.spec.namespaces.pid {
            return Ok(());
        }
        names(plan).try_for_each(|name| channel.give(File::open(format!("/proc/self/ns/{name}"))?))
    }

    /// What must stay open.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.user.iter().chain(self.own.iter().map(|(_, file)| file)).map(AsFd::as_fd)
    }

    /// Kills all of them. The first must have ended: with it alive others could be made after each look.
    pub(crate) fn end(self) {
        if let Some(group) = &self.group {
            // Not there before Linux 5.14: then the namespaces are what there is.
            let _ = group.kill();
        }
        let begun = Instant::now();
        loop {
            while self.kill_each() {
                std::thread::sleep(PAUSE);
            }
            // One that forks and ends, over and over, is gone whenever a list of processes gets to it.
            if begun.elapsed() > PATIENCE || !self.kill_youngest() {
                return;
            }
        }
    }

    /// Looks at the processes that were made last, as fast as it goes, for as long as some are made; whether one was killed.
    fn kill_youngest(&self) -> bool {
        let Some(mut seen) = youngest() else { return false };
        let mut rests = 0;
        for _ in 0..CHASE {
            let Some(last) = youngest() else { return false };
            if last == seen {
                rests += 1;
                if rests == RESTS {
                    return false;
                }
                std::thread::sleep(PAUSE / 4);
                continue;
            }
            rests = 0;
            // The one that is told may have made another by now.
            if (seen.saturating_add(1).max(last.saturating_sub(WINDOW))..=last.saturating_add(2))
                .any(|id| self.kill(id))
            {
                return true;
            }
            seen = last;
        }
        false
    }

    /// Kills a process if it is one of these; whether it was.
    fn kill(&self, id: i32) -> bool {
        // Looked at with the descriptor in hand: the number cannot become another's meanwhile.
        if let Some(pid) = Pid::from_raw(id)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && self.has(id)
            && !has_ended(process.as_fd())
        {
            return pidfd_send_signal(process, Signal::KILL).is_ok();
        }
        false
    }

    /// Kills those that are found; whether there was one.
    fn kill_each(&self) -> bool {
        let Ok(processes) = std::fs::read_dir("/proc") else { return false };
        let mut found = false;
        for id in processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            found |= self.kill(id);
        }
        found
    }

    fn has(&self, id: i32) -> bool {
        self.user.as_ref().is_some_and(|user| is_below(id, user)) || self.own.iter().any(|own| is_in(id, own))
    }
}

/// Whether a process is in a namespace. Where its first thread has ended, and tells of none any more, the others are asked.
fn is_in(id: i32, (name, own): &(&'static str, OwnedFd)) -> bool {
    let is_same = |file: File| namespace::is_same(file, own).unwrap_or(false);
    if let Ok(file) = File::open(format!("/proc/{id}/ns/{name}")) {
        return is_same(file);
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let threads = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse::<i32>().ok());
    threads.filter_map(|thread| File::open(format!("/proc/{id}/task/{thread}/ns/{name}")).ok()).any(is_same)
}

/// The number of the process, or thread, that was made last (`proc_loadavg(5)`).
fn youngest() -> Option<i32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// Whether a process is in a user namespace, or in one that was made in there.
fn is_below(id: i32, user: &OwnedFd) -> bool {
    let mut next = File::open(format!("/proc/{id}/ns/user")).map(OwnedFd::from);
    while let Ok(namespace) = next {
        if namespace::is_same(&namespace, user).unwrap_or(false) {
            return true;
        }
        // Refused at the one that this process is in.
        next = namespace::around(&namespace);
    }
    false
}

/// The kinds, by their names in `/proc/PID/ns`, that a container has of its own and tells its processes by.
fn names(plan: &Plan) -> impl Iterator<Item = &'static str> {
    let own = plan.spec.namespaces;
    [("mnt", true), ("uts", own.uts), ("ipc", own.ipc)].into_iter().filter_map(|(name, is_own)| is_own.then_some(name))
}

fn group(plan: &Plan) -> Option<Group> {
    plan.cgroup.clone().map(Group::at)
}

/// The descriptor that is next on the channel.
///
/// # Errors
/// What the process says instead.
pub(crate) fn descriptor(channel: &Channel) -> Result<OwnedFd, Error> {
    match channel.hear().action("hear from the child")? {
        Heard::Descriptor(descriptor) => Ok(descriptor),
        Heard::Failed(stage, what, source) => Err(Error::Child { stage, what, source }),
        Heard::Closed | Heard::Released | Heard::Weaker(_) => Err(Error::Died),
    }
}
