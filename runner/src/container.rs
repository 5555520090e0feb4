//! A running container: signals in, terminal through, exit status out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use rustix::event::{PollFd, PollFlags};

use crate::cgroup::Group;
use crate::error::{Action, Error};
use crate::keeper::Keeper;
use crate::launch::poll;
use crate::pty::{Raw, Relay, copy_size, end_of_input};
use crate::streams::{self, Relays};
use crate::sys::process;

/// Signals that are passed on to the command instead of acting here.
pub(crate) const FORWARDED: [Signal; 10] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGALRM,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with a code.
    Code(u8),
    /// By a signal.
    Signal(u8),
}

impl ExitStatus {
    /// As `wait(2)` tells it; `None` for one that has not ended.
    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self::Code(code.to_le_bytes()[0])),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Signal((signal as i32).to_le_bytes()[0])),
            _ => None,
        }
    }

    /// One number for both, as a shell has it: that of a signal is 128 above.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// A container whose command runs. It is killed when this value is dropped, and when this process ends.
#[derive(Debug)]
pub struct Container {
    id: i32,
    pidfd: OwnedFd,
    signals: SignalFd,
    terminal: Option<OwnedFd>,
    takes_input: bool,
    relays: Relays,
    keeper: Option<Keeper>,
    group: Option<Group>,
    had_no_memory: bool,
}

impl Container {
    pub(crate) fn new(
        id: i32,
        pidfd: OwnedFd,
        signals: SignalFd,
        terminal: Option<OwnedFd>,
        takes_input: bool,
        keeper: Option<Keeper>,
    ) -> Self {
        let relays = Relays::default();
        Self { id, pidfd, signals, terminal, takes_input, relays, keeper, group: None, had_no_memory: false }
    }

    /// The same, with pipes of its own in place of the caller's terminals.
    pub(crate) fn relaying(self, relays: Relays) -> Self {
        Self { relays, ..self }
    }

    /// The same, in a control group of its own.
    pub(crate) fn in_group(self, group: Option<Group>) -> Self {
        Self { group, ..self }
    }

    /// Whether a process of a container that has ended was killed because its control group had no more memory.
    pub fn had_no_memory(&self) -> bool {
        self.had_no_memory
    }

    /// Its process 1 by descriptor.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its process 1 by number, as the host counts.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The signals that this process got for it.
    pub(crate) fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// The outer end of its terminal.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Passes signals and the terminal through until the command ends.
    ///
    /// # Errors
    /// Those of the kernel; the container is then killed as this process ends.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let raw = if self.terminal.is_some() && self.takes_input {
            Some(Raw::enter().action("make the terminal raw")?)
        } else {
            None
        };
        if let Some(terminal) = &self.terminal {
            copy_size(terminal.as_fd());
        }
        self.serve().action("serve the container")?;
        drop(raw);
        self.settle();
        self.keeper = None;
        ExitStatus::of(process::wait_for(self.id).action("wait for the container")?).ok_or(Error::Died)
    }

    /// Waits until the ports of a container that has ended are free again: who hears of its end may want them. Looks how it
    /// ended while its control group is there.
    pub(crate) fn settle(&mut self) {
        self.had_no_memory = self.group.as_ref().is_some_and(Group::had_no_memory);
        if let Some(keeper) = &mut self.keeper {
            keeper.await_uplink();
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        if self.terminal.is_some() { self.relay_terminal() } else { self.relay_streams() }
    }

    /// Without a terminal of the container's: what goes through pipes in place of the caller's.
    fn relay_streams(&mut self) -> io::Result<()> {
        let mut was_asked_to_end = false;
        loop {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            fds.extend(self.relays.waits());
            poll(&mut fds)?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[1] {
                was_asked_to_end |= self.pass_signals()?;
            }
            self.relays.step(ready[2..].iter().copied());
            if ready[0] {
                return self.relays.finish(&self.signals, was_asked_to_end);
            }
        }
    }

    /// With one: what goes through it.
    fn relay_terminal(&mut self) -> io::Result<()> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let (mut inward, mut outward) = (Relay::new(), Relay::new());
        inward.ended = !self.takes_input;
        let mut has_ended = false;
        loop {
            let wait_for = |wanted: bool, flags| if wanted { flags } else { PollFlags::empty() };
            let mut fds = vec![
                PollFd::new(&self.pidfd, wait_for(!has_ended, PollFlags::IN)),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            if let Some(terminal) = &self.terminal {
                let reads = wait_for(!outward.is_pending() && !outward.ended, PollFlags::IN);
                let writes = wait_for(inward.is_pending(), PollFlags::OUT);
                // A terminal whose inner end is closed is always ready with that news: not asked once it is known.
                if !outward.ended {
                    fds.push(PollFd::new(terminal, reads | writes));
                }
                if !inward.is_pending() && !inward.ended && !has_ended {
                    fds.push(PollFd::new(&stdin, PollFlags::IN));
                }
                if outward.is_pending() {
                    fds.push(PollFd::new(&stdout, PollFlags::OUT));
                }
            }
            if has_ended {
                // What the command wrote last is still in the terminal; with nothing there, all is done.
                let Some(terminal) = &self.terminal else { return Ok(()) };
                if outward.is_pending() {
                    outward.write(&stdout);
                } else {
                    let mut last = [PollFd::new(terminal, PollFlags::IN)];
                    let ready =
                        rustix::event::poll(&mut last, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
                    if outward.ended
                        || ready.is_ok_and(|count| count == 0)
                        || !last[0].revents().contains(PollFlags::IN)
                    {
                        return Ok(());
                    }
                    outward.read(terminal);
                }
                continue;
            }
            poll(&mut fds)?;
            has_ended = fds[0].revents().contains(PollFlags::IN);
            let is_signalled = fds[1].revents().contains(PollFlags::IN);
            let is_ready = |fd: BorrowedFd<'_>| {
                use std::os::fd::AsRawFd;
                let ready = fds.iter().find(|polled| polled.as_fd().as_raw_fd() == fd.as_raw_fd());
                ready.map_or(PollFlags::empty(), PollFd::revents)
            };
            if let Some(terminal) = &self.terminal {
                let state = is_ready(terminal.as_fd());
                if state.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !outward.is_pending() {
                    outward.read(terminal);
                }
                if state.contains(PollFlags::OUT) && inward.is_pending() {
                    inward.write(terminal);
                }
                if is_ready(stdin.as_fd()).intersects(PollFlags::IN | PollFlags::HUP) && !inward.is_pending() {
                    inward.read(&stdin);
                    if inward.ended {
                        // A terminal has no end that could be closed: its reader is told as by a key.
                        inward.push(end_of_input(terminal.as_fd()));
                    }
                }
                if is_ready(stdout.as_fd()).intersects(PollFlags::OUT | PollFlags::ERR) && outward.is_pending() {
                    outward.write(&stdout);
                }
            }
            if is_signalled {
                self.pass_signals()?;
            }
        }
    }

    /// Passes on the signals that have come; whether one of them asks a program to end.
    pub(crate) fn pass_signals(&self) -> io::Result<bool> {
        let mut asked = false;
        while let Some(info) = self.signals.read_signal()? {
            let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(rustix::process::Signal::from_named_raw)
            else {
                continue;
            };
            asked |= streams::ends(signal);
            match &self.terminal {
                Some(terminal) if signal == rustix::process::Signal::WINCH => copy_size(terminal.as_fd()),
                // A command that has just ended needs no signal any more.
                _ => {
                    let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
                }
            }
        }
        Ok(asked)
    }
}
