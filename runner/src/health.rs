//! Health checks: a command that is run in a container from time to time, and what its ends say of the container.
//!
//! A process of its own runs them, beside a container that has one, and writes what it finds into the container's folder.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Action, Error};
use crate::exec::{FirstProcess, exec};
use crate::plan::Plan;
use crate::state::{Moment, now};
use crate::sys::process::{self, Fork};

/// File name of what was found, in the container's folder.
pub const HEALTH: &str = "health";
/// Checks that are remembered, and the most bytes of what each wrote.
const REMEMBERED: usize = 5;
const LONGEST: usize = 500;
/// What a check ended with that took too long.
pub const TIMED_OUT: i32 = -1;
/// How long the end of one that took too long may take.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How the health of a container is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// How the image or the caller wrote it: `CMD` and words, or `CMD-SHELL` and a line.
    pub test: Vec<String>,
    /// From the end of one check to the next; `None` for none but those that are asked for.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Duration,
    /// After the start, how long failures are not counted.
    pub start_period: Duration,
    /// Failures in a row that make the container unhealthy.
    pub retries: u32,
    /// What is done with it then.
    pub on_failure: OnFailure,
}

/// What is done with an unhealthy container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// It is only said.
    #[default]
    Nothing,
    /// It is killed.
    Kill,
    /// It is stopped, and started again.
    Restart,
    /// It is stopped.
    Stop,
}

impl OnFailure {
    /// podman's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// How a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// Not yet known.
    #[default]
    Starting,
    /// Its last check succeeded.
    Healthy,
    /// Its last checks failed.
    Unhealthy,
}

impl HealthStatus {
    /// podman's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it began.
    pub start: Moment,
    /// When it ended.
    pub end: Moment,
    /// What it ended with; [`TIMED_OUT`] for one that did not.
    pub exit: i32,
    /// What it wrote, cut.
    pub output: String,
}

/// What the checks of a container found since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, oldest first.
    pub log: Vec<Check>,
}

impl Health {
    /// What was written down in a container's folder; nothing is known of one that was never checked.
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join(HEALTH)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it into a container's folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: impl AsFd) -> io::Result<()> {
        let draft = format!("{HEALTH}.{}", process::own_id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(file).write_all(&serde_json::to_vec(self)?)?;
        Ok(rustix::fs::renameat(&folder, &draft, &folder, HEALTH)?)
    }

    /// What is known after another check of a container that was started at a moment.
    #[must_use]
    pub fn after(mut self, check: Check, wanted: &HealthCheck, started: Moment) -> Self {
        let period = u64::try_from(wanted.start_period.as_nanos()).unwrap_or(u64::MAX);
        let counts = check.end >= started.saturating_add(period);
        if check.exit == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if counts {
            self.failing_streak += 1;
            if self.failing_streak >= wanted.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(check);
        let surplus = self.log.len().saturating_sub(REMEMBERED);
        self.log.drain(..surplus);
        self
    }
}

/// Runs a check, which is the plan's command, in a container. `runtime` as for [`exec`]. One that takes too long is ended,
/// and so are all processes that came of it.
///
/// # Errors
/// Those of the kernel. A command that cannot be executed is a check that failed.
pub fn check(plan: &Plan, container: &FirstProcess, timeout: Duration, runtime: Option<&Path>) -> Result<Check, Error> {
    let start = now();
    let plan = &Plan { is_guarded: true, ..plan.clone() };
    let (mut output, write) = io::pipe().action("make a pipe")?;
    let id = match process::fork().action("fork")? {
        Fork::Child => {
            drop(output);
            let run = || -> io::Result<i32> {
                // The guard of the command is told so by this process, and by its end.
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                rustix::stdio::dup2_stdout(&write)?;
                rustix::stdio::dup2_stderr(&write)?;
                drop(write);
                let ended = exec(plan, container, runtime).and_then(|mut command| command.wait());
                Ok(match ended {
                    Ok(status) => status.code().into(),
                    Err(error) => {
                        let code = match error {
                            Error::NotFound(_) => 127,
                            Error::NotExecutable { .. } => 126,
                            _ => 125,
                        };
                        writeln!(io::stdout(), "{error}")?;
                        code
                    }
                })
            };
            process::exit_now(run().unwrap_or(125))
        }
        Fork::Parent(id) => id,
    };
    drop(write);
    rustix::io::ioctl_fionbio(&output, true).map_err(io::Error::from).action("read from a pipe")?;
    let child = Pid::from_raw(id).ok_or(Error::Died)?;
    let child = pidfd_open(child, PidfdFlags::empty()).map_err(io::Error::from).action("watch the check")?;
    let deadline = Instant::now() + timeout;
    let mut text = Vec::new();
    let mut is_open = true;
    let mut exit = None;
    while exit.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let wanted = if is_open { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(&child, PollFlags::IN), PollFd::from_borrowed_fd(output.as_fd(), wanted)];
        let fds = &mut fds[..=usize::from(is_open)];
        match rustix::event::poll(fds, Some(&patience)) {
            Ok(0) => {
                // Passed on to the guard of the command, with which the child ends.
                let _ = pidfd_send_signal(&child, Signal::TERM);
                let _ = rustix::event::poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&PATIENCE));
                let _ = pidfd_send_signal(&child, Signal::KILL);
                process::wait_for(id).action("wait for the check")?;
                let words = format!("Healthcheck command exceeded timeout of {timeout:?}\n");
                text.extend_from_slice(words.as_bytes());
                exit = Some(TIMED_OUT);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error)).action("wait for the check"),
            Ok(_) => {
                let has_ended = !fds[0].revents().is_empty();
                is_open = is_open && drain(&mut output, &mut text);
                if has_ended {
                    let status = process::wait_for(id).action("wait for the check")?;
                    exit = Some(crate::ExitStatus::of(status).map_or(125, |status| status.code().into()));
                }
            }
        }
    }
    if is_open {
        drain(&mut output, &mut text);
    }
    let mut output = String::from_utf8_lossy(&text).into_owned();
    if let Some((cut, _)) = output.char_indices().nth(LONGEST) {
        output.truncate(cut);
    }
    Ok(Check { start, end: now(), exit: exit.unwrap_or(TIMED_OUT), output })
}

/// Takes what is there, of which only the beginning is kept; whether more can come.
fn drain(pipe: &mut io::PipeReader, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                let room = (LONGEST * 4).saturating_sub(text.len());
                text.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(retries: u32, start_period: u64) -> HealthCheck {
        HealthCheck {
            command: Vec::new(),
            test: Vec::new(),
            interval: None,
            timeout: Duration::from_secs(1),
            start_period: Duration::from_nanos(start_period),
            retries,
            on_failure: OnFailure::Nothing,
        }
    }

    fn ended(at: Moment, exit: i32) -> Check {
        Check { start: at, end: at, exit, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_makes_it_well() {
        let wanted = wanted(2, 0);
        let health = Health::default().after(ended(1, 1), &wanted, 0);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 1));
        let health = health.after(ended(2, TIMED_OUT), &wanted, 0);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Unhealthy, 2));
        let health = health.after(ended(3, 0), &wanted, 0);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
        let health = health.after(ended(4, 1), &wanted, 0);
        assert_eq!(health.status, HealthStatus::Healthy, "one failure of two");
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_and_old_checks_are_forgotten() {
        let wanted = wanted(1, 10);
        let mut health = Health::default();
        for at in 100..109 {
            health = health.after(ended(at, 1), &wanted, 100);
        }
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(health.log.iter().map(|check| check.end).collect::<Vec<_>>(), [104, 105, 106, 107, 108]);
        assert_eq!(health.after(ended(110, 1), &wanted, 100).status, HealthStatus::Unhealthy);
    }
}
