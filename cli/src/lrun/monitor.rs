//! The part of `lrun` that stays behind with a container in the background, and the part that tells how its start went.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lrun::cgroup::Group;
use lrun::logs::Writer;
use lrun::state::{Record, Restart};
use lrun::sys::process::{self, Fork};
use lrun::sys::title;
use lrun::{Aftermath, ExitStatus, Monitor, Rootfs, Streams};
use rustix::fs::AtFlags;

use super::PROGRAM;
use super::attendance;
use super::control;
use super::folder::Folder;
use super::health::AGAIN;
use super::run::{clear_up, exit_of, launch_spec, remove_with_volumes};
use super::secret;
use super::volumes::named_by;
use crate::env::Environment;
use crate::exit::Exit;
use crate::report::{self, Failure};

/// Mark by which a monitor is told not to start its container again.
pub(super) const STOPPED: &str = "stopped";
/// Pauses before a container is started again: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// A container that ran as long is no more taken to fail at once.
const SETTLED: Duration = Duration::from_secs(10);

/// A container to be started in the background.
pub(super) struct Job<'a> {
    /// The store.
    pub(super) store: PathBuf,
    /// Its folder, locked.
    pub(super) folder: Folder,
    /// Its record.
    pub(super) record: Record,
    /// Its root.
    pub(super) rootfs: Rootfs,
    /// What keeps its checkout, and those of other images that it mounts.
    pub(super) leases: Vec<OwnedFd>,
    /// The variables of the caller.
    pub(super) environment: &'a Environment,
    /// Whether it goes if it cannot be started, since the same command has made it.
    pub(super) is_new: bool,
}

impl Job<'_> {
    /// Starts it with a monitor, and returns when its command runs. `attached` is the end of a session for the monitor.
    ///
    /// # Errors
    /// What the monitor tells.
    pub(super) fn start(self, attached: Option<OwnedFd>) -> Result<(), Failure> {
        let (listen, tell) = io::pipe()?;
        if let Fork::Parent(_) = process::fork()? {
            drop((tell, attached));
            return hear(listen);
        }
        drop(listen);
        let mut teller = Some(tell);
        let outcome =
            self.settle_down(attached.as_ref(), teller.as_ref()).and_then(|()| self.supervise(attached, &mut teller));
        if let (Err(failure), Some(teller)) = (outcome, teller) {
            failed(teller, &Failure { exit: exit_of(&failure), ..failure });
        }
        process::exit_now(0)
    }

    /// A session of its own, and no descriptor of the caller's but what is needed: its pipes are to end with it.
    fn settle_down(&self, attached: Option<&OwnedFd>, teller: Option<&PipeWriter>) -> Result<(), Failure> {
        title::set("monitor");
        nix::unistd::setsid()?;
        process::detach_stdio()?;
        std::env::set_current_dir("/")?;
        let own = self.leases.iter().map(AsFd::as_fd).chain([self.folder.lock()]);
        let others = attached.map(AsFd::as_fd).into_iter().chain(teller.map(AsFd::as_fd));
        process::close_all_but(own.chain(others));
        Ok(())
    }

    fn supervise(mut self, attached: Option<OwnedFd>, teller: &mut Option<PipeWriter>) -> Result<(), Failure> {
        match rustix::fs::unlinkat(self.folder.lock(), STOPPED, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        self.record.restarts = 0;
        let log = if self.record.attendance.unlogged {
            Writer::none(self.folder.lock())?
        } else {
            Writer::open(self.folder.lock(), self.record.log_size)?
        };
        let mut monitor = Monitor::new(self.folder.lock(), log, attached)?;
        let mut pause = PAUSES[0];
        loop {
            let begun = Instant::now();
            let status = self.once(&mut monitor, teller)?;
            process::reap_ended();
            if !self.starts_again(status) {
                return Ok(());
            }
            if begun.elapsed() > SETTLED {
                pause = PAUSES[0];
            }
            if !self.pause(pause) {
                return Ok(());
            }
            pause = PAUSES[1].min(pause * 2);
            self.record.restarts += 1;
        }
    }

    /// One start, from the first step to the written status.
    fn once(&mut self, monitor: &mut Monitor, teller: &mut Option<PipeWriter>) -> Result<ExitStatus, Failure> {
        let group = self.make_group(teller.is_some())?;
        let mut spec = self.record.spec.clone();
        secret::reveal(&self.record.secrets, &self.store, &mut spec)?;
        let streams = if spec.terminal { Streams::default() } else { Streams::put_in_place(spec.interactive)? };
        let rootfs = at(&self.rootfs, &self.folder);
        // The first start may have had to make a copy.
        let rootfs = if teller.is_some() { rootfs } else { rootfs.as_left() };
        let folder = &self.folder;
        let volumes = named_by(&self.record);
        let work = Box::new(|| clear_up(&self.store, folder, &volumes, group.as_ref()));
        let keep = self.leases.iter().map(AsFd::as_fd).chain([folder.lock()]).collect();
        let aftermath = Aftermath { work, keep };
        let mut warnings = Vec::new();
        let warn = &mut |weaker: &str| warnings.push(weaker.to_owned());
        let means = (self.record.holder, self.environment);
        let begun = launch_spec(&self.store, spec, group.as_ref(), &rootfs, Some(aftermath), means, warn);
        // The container has them now, and they are to end with it.
        process::detach_stdio()?;
        let mut container = begun.inspect_err(|_| {
            if self.is_new && teller.is_some() {
                // A container that never ran leaves nothing.
                remove_with_volumes(&self.store, &folder.path(), &volumes, Some(&self.record.id));
            }
        })?;
        // One that has ended already is noted as such below, without a look at its process.
        attendance::begun(&self.store, folder, &mut self.record, &container, true, self.environment)?;
        if let Some(teller) = teller.take() {
            runs(teller, &warnings);
        }
        let status = monitor.serve(&mut container, streams)?;
        self.record.end(status, container.had_no_memory() || control::had_no_memory(folder, status));
        // A full disk must not keep those who wait from being told.
        let written = self.record.write(folder.lock());
        monitor.announce(status);
        drop(container);
        written?;
        Ok(status)
    }

    /// The container's control group; a new container that gets none leaves nothing.
    fn make_group(&mut self, is_first: bool) -> Result<Option<Group>, Failure> {
        control::make(&mut self.record, &self.folder, self.environment, is_first).inspect_err(|_| {
            if self.is_new && is_first {
                remove_with_volumes(&self.store, &self.folder.path(), &named_by(&self.record), Some(&self.record.id));
            }
        })
    }

    fn starts_again(&mut self, status: ExitStatus) -> bool {
        self.record.take_changes(&self.folder.path());
        // Removed in any case: it is about this end alone.
        let is_asked = rustix::fs::unlinkat(self.folder.lock(), AGAIN, AtFlags::empty()).is_ok();
        let wanted = is_asked
            || match self.record.restart {
                Restart::No => false,
                Restart::Always => true,
                Restart::OnFailure(most) => status.code() != 0 && (most == 0 || self.record.restarts < most),
            };
        wanted && !self.is_stopped()
    }

    /// Waits before the next start; `false` if there is to be none.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.is_stopped() {
                return false;
            }
            std::thread::sleep(PAUSES[0].min(pause));
        }
        !self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        rustix::fs::statat(self.folder.lock(), STOPPED, AtFlags::empty()).is_ok()
    }
}

/// A container's root where its folder is now: it may have another name.
fn at(rootfs: &Rootfs, folder: &Folder) -> Rootfs {
    match rootfs {
        Rootfs::Overlay { lower, data, .. } => {
            let path = folder.path();
            let (upper, work) = (path.join("upper"), path.join("work"));
            Rootfs::Overlay { lower: lower.clone(), data: data.clone(), upper, work, mountpoint: path }
        }
        Rootfs::Own { lower, data, .. } => {
            Rootfs::Own { lower: lower.clone(), data: data.clone(), tree: folder.path().join(lrun::own::TREE) }
        }
        other @ Rootfs::Directory(_) => other.clone(),
    }
}

/// What the caller is told: a word and a text in each line, and nothing where the monitor died.
pub(super) fn runs(mut teller: PipeWriter, warnings: &[String]) {
    let weaker = warnings.iter().map(|weaker| format!("weaker {}", weaker.replace('\n', " ")));
    let lines: Vec<String> = weaker.chain(["runs".to_owned()]).collect();
    // A caller that has gone does not care.
    let _ = teller.write_all(format!("{}\n", lines.join("\n")).as_bytes());
}

pub(super) fn failed(mut teller: PipeWriter, failure: &Failure) {
    let text = format!("failed {} {}", failure.exit.get(), failure.error);
    let _ = teller.write_all(text.as_bytes());
}

/// Waits for that word, and warns of what is weaker.
pub(super) fn hear(mut listener: PipeReader) -> Result<(), Failure> {
    let mut told = String::new();
    listener.read_to_string(&mut told)?;
    for weaker in told.lines().filter_map(|line| line.strip_prefix("weaker ")) {
        report::warn(PROGRAM, weaker, &mut io::stderr());
    }
    if told.lines().any(|line| line == "runs") {
        return Ok(());
    }
    match told.strip_prefix("failed ").and_then(|text| text.split_once(' ')) {
        Some((code, text)) => {
            Err(Failure { exit: Exit::code(code.parse().unwrap_or(125)), ..Failure::from(text.to_owned()) })
        }
        None => Err("the process in the background died while it was started".into()),
    }
}

/// Tells the monitor of a container's folder not to start it again.
pub(super) fn mark_stopped(folder: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(folder, STOPPED, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(())
}
