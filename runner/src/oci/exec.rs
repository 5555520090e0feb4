//! `exec`: a further command in a container.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signalfd::SignalFd;
use rustix::process::{Signal, pidfd_send_signal};

use super::become_process::{Confinement, Places, Way};
use super::cgroup::Made;
use super::check;
use super::config::Process;
use super::create::failure;
use super::namespaces::{Baggage, enter_by};
use super::placement::{keep_to, numbers};
use super::procfs::Procfs;
use super::seccomp;
use super::state::{Found, Status};
use crate::channel::{Channel, Heard};
use crate::child::{During, Failure, own_keyring, prepare};
use crate::container::{Container, ExitStatus};
use crate::enter::{self, Hidden};
use crate::error::{Action, Error, Stage};
use crate::launch::watch_signals;
use crate::streams::Relays;
use crate::sys::clone::Cloned;
use crate::sys::process;
use crate::target::Root;
use crate::{pty, userns};

/// The namespaces of a process, and what joins them.
const NAMESPACES: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("net", libc::CLONE_NEWNET),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", libc::CLONE_NEWTIME),
];

/// A command to be.
#[derive(Debug)]
pub struct Wish<'a> {
    /// What.
    pub process: &'a Process,
    /// The socket that its terminal is sent to.
    pub console: Option<&'a Path>,
    /// A file for the number of its process.
    pub pid_file: Option<&'a Path>,
    /// How many descriptors from 3 on it inherits.
    pub preserved: i32,
    /// A control group below the container's, made where it is missing.
    pub group: Option<&'a str>,
    /// Whether it may be put into a container that is paused, where it waits with all others.
    pub ignores_pause: bool,
}

/// A command that runs, a child of this process, and goes on when this value is dropped.
#[derive(Debug)]
pub struct Running {
    id: i32,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
    signals: SignalFd,
    relays: Relays,
}

impl Running {
    pub(super) fn new(id: i32, pidfd: OwnedFd, terminal: Option<OwnedFd>, signals: SignalFd) -> Self {
        Self { id, pidfd, terminal, signals, relays: Relays::default() }
    }

    /// The same, with pipes of its own in place of the caller's terminals.
    pub(super) fn relaying(self, relays: Relays) -> Self {
        Self { relays, ..self }
    }

    /// Passes signals and the terminal through until it ends.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn wait(self) -> Result<ExitStatus, Error> {
        Container::new(self.id, self.pidfd, self.signals, self.terminal, true, None).relaying(self.relays).wait()
    }
}

/// Runs a command in a container; returns when it runs. `warn` hears what is weaker than was asked for.
///
/// # Errors
/// [`Error::Refused`] for a container that has ended; [`Error::NotFound`] and [`Error::NotExecutable`] of the command.
pub fn exec(container: &Found, wish: &Wish<'_>, warn: &mut dyn FnMut(&str)) -> Result<Running, Error> {
    check::process(wish.process)?;
    let status = container.status();
    let id = &container.record.id;
    if status == Status::Paused && !wish.ignores_pause {
        return Err(Error::Refused(format!("container {id:?} is paused; resume it, or give --ignore-paused")));
    }
    if !matches!(status, Status::Running | Status::Created | Status::Paused) {
        return Err(Error::Refused(format!("container {id:?} is {}, so no command can be run in it", status.name())));
    }
    if wish.console.is_some() && !wish.process.terminal {
        return Err(Error::Refused("--console-socket is given, but the command has no terminal".to_owned()));
    }
    let linux = container.config()?.linux;
    let confinement = Confinement::of(wish.process, &linux)?;
    confinement.warnings.iter().for_each(|warning| warn(warning));
    let target = container.record.process.open().ok_or(Error::NotRunning)?;
    let own = own_namespaces(container.record.process.id).action("look at the container's namespaces")?;
    let has_user_namespace = own & libc::CLONE_NEWUSER != 0;
    let console =
        wish.console.map(|path| UnixStream::connect(path).action("connect to the console socket")).transpose()?;
    let signals = watch_signals()?;
    let group = match (&container.record.cgroup, wish.group) {
        (Some(made), Some(below)) => Some(made.sub(below)?),
        (None, Some(_)) => {
            return Err(Error::Refused(format!("--cgroup: container {id:?} has no control group of its own")));
        }
        (made, None) => made.as_ref().map(Made::group),
    };
    let (parent, child) = Channel::pair().action("make a channel")?;
    let affinity = wish.process.exec_cpu_affinity.clone().unwrap_or_default();
    let processors = |list: &str| numbers(list, "process.execCPUAffinity");
    let (initial, last) = (processors(&affinity.initial)?, processors(&affinity.last)?);
    // Looked at from here, for inside the container decides what is at /proc.
    let procfs = confinement.has_label().then(Procfs::here).transpose().action("open /proc")?;
    let users = File::open(format!("/proc/{}/ns/user", container.record.process.id));
    let users = users.action("look at the container's user namespace")?;
    let join = |hidden: &Hidden| {
        keep_to(&initial).during(Stage::Schedule, "")?;
        if let (Some(made), Some(group)) = (&container.record.cgroup, &group) {
            made.enter(group, container.record.process.id).during(Stage::Join, group.path())?;
        }
        keep_to(&last).during(Stage::Schedule, "")?;
        let mut kinds = own;
        if has_user_namespace {
            let is_there = hidden.drop_groups_before(&users).during(Stage::Identity, "")?;
            kinds &= if is_there { !libc::CLONE_NEWUSER } else { kinds };
        }
        hidden.enter(&target, CloneFlags::from_bits_retain(kinds)).during(Stage::Join, "")?;
        if has_user_namespace {
            // Here, where nobody in the pid namespace sees this process: with its ids the kernel resets whether it is hidden.
            userns::become_root(false).during(Stage::Identity, "")?;
            enter::hide().during(Stage::Identity, "")?;
        }
        Ok(())
    };
    let mut kept = vec![child.as_fd(), target.as_fd(), users.as_fd()];
    kept.extend(procfs.as_ref().map(AsFd::as_fd));
    let inherited: Vec<_> = (3..3 + wish.preserved).collect();
    let baggage = Baggage { kept: &kept, inherited: &inherited, score: wish.process.oom_score_adj };
    let Cloned::Parent { id, pidfd } = enter_by(&baggage, || Ok(None), |hidden, _| join(hidden), 0)? else {
        // Not dropped: they are closed already.
        std::mem::forget((parent, console));
        become_command(wish, &Orders { confinement: &confinement, procfs, has_user_namespace }, &child)
    };
    drop(child);
    let mut terminal = None;
    let heard = loop {
        match parent.hear().action("hear from the child")? {
            Heard::Descriptor(outer) if wish.process.terminal && terminal.is_none() => terminal = Some(outer),
            Heard::Descriptor(listener) => {
                let state = container.record.state(status);
                if let Err(error) = seccomp::send(&linux, &listener, &state, id) {
                    pidfd_send_signal(&pidfd, Signal::KILL).action("end the command")?;
                    process::wait_for(id).action("wait for the child")?;
                    return Err(error);
                }
            }
            heard => break heard,
        }
    };
    match heard {
        Heard::Closed if wish.process.terminal && terminal.is_none() => return Err(Error::Died),
        Heard::Failed(stage, what, source) => {
            process::wait_for(id).action("wait for the child")?;
            return Err(failure(stage, what, source));
        }
        _ => {}
    }
    if let Some(console) = console
        && let Some(terminal) = terminal.take()
    {
        Channel::over(console.into()).give(&terminal).action("send the terminal to the console socket")?;
    }
    if let Some(file) = wish.pid_file {
        fs::write(file, id.to_string()).action("write the file of the process's number")?;
    }
    Ok(Running::new(id, pidfd, terminal, signals))
}

/// Which namespaces of a process are not this one's.
fn own_namespaces(id: i32) -> io::Result<i32> {
    let mut own = 0;
    for (name, flag) in NAMESPACES {
        let differs =
            fs::read_link(format!("/proc/{id}/ns/{name}"))? != fs::read_link(format!("/proc/self/ns/{name}"))?;
        own |= if differs { flag } else { 0 };
    }
    Ok(own)
}

/// What the command's process is given besides the wish.
struct Orders<'a> {
    confinement: &'a Confinement,
    /// That of the outside, where a label is to be written.
    procfs: Option<Procfs>,
    /// Whether the container's user namespace is another than the caller's.
    has_user_namespace: bool,
}

fn become_command(wish: &Wish<'_>, orders: &Orders<'_>, channel: &Channel) -> ! {
    let failure = match on_the_way(wish, orders, channel) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    channel.fail(failure.stage, &failure.what, &failure.error);
    process::exit_now(1)
}

fn on_the_way(wish: &Wish<'_>, orders: &Orders<'_>, channel: &Channel) -> Result<std::convert::Infallible, Failure> {
    let (process, confinement) = (wish.process, orders.confinement);
    // By trying: a /proc of the container's may say anything. A namespace of a single id allows no choice of groups.
    let may_set_groups = enter::give_up_groups().during(Stage::Identity, "")?;
    prepare().during(Stage::Identity, "")?;
    own_keyring().during(Stage::Keyring, "")?;
    let label = match &orders.procfs {
        Some(procfs) => confinement.open_label(procfs)?,
        None => None,
    };
    let root = Root::own().during(Stage::Join, "")?;
    nix::unistd::setsid().during(Stage::Terminal, "")?;
    let terminal = if process.terminal { Some(pty::make(&root, channel).during(Stage::Terminal, "")?) } else { None };
    let workdir = root.directory(&process.cwd).during(Stage::Workdir, &process.cwd)?;
    let way = Way {
        process,
        confinement,
        preserved: wish.preserved,
        may_set_groups,
        owns_terminal: !orders.has_user_namespace,
    };
    let command = way.begin(Places { root, workdir, label }, terminal, &[channel.as_fd()])?;
    Err(way.end(&command, channel))
}
