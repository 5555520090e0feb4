//! Health checks: what the image and the command line want, the process that makes them, and `lrun healthcheck`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use lrun::health::{Check, Health, HealthCheck, HealthStatus, OnFailure, check};
use lrun::state::{Found, Record, Status};
use lrun::sys::process::{self, Fork};
use lrun::sys::title;
use lrun::{FirstProcess, Host, Plan, Spec};
use lstore::manifest::Healthcheck;
use rustix::process::Signal;

use super::args::{HealthArguments, HealthcheckCommand, Interval};
use super::folder::Folder;
use super::secret;
use super::select::containers;
use super::stop;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

/// Where nothing is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// Mark by which a monitor is told to start its container again though its policy does not say so.
pub(super) const AGAIN: &str = "again";

/// The health check of a container to be.
///
/// # Errors
/// Flags about a check where there is none.
pub(super) fn wanted(arguments: &HealthArguments, image: Option<&Healthcheck>) -> Result<Option<HealthCheck>, Failure> {
    if arguments.no_healthcheck {
        return Ok(None);
    }
    let test = match &arguments.health_cmd {
        Some(line) => written(line),
        None => image.map(|image| image.test.clone()).unwrap_or_default(),
    };
    let Some(command) = command(&test) else {
        return match arguments.detail() {
            Some(flag) => Err(format!("{flag}: there is no health check; add --health-cmd").into()),
            None => Ok(None),
        };
    };
    let of_image = |nanos: fn(&Healthcheck) -> i64| {
        image
            .map(nanos)
            .and_then(|nanos| u64::try_from(nanos).ok())
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
    };
    let interval =
        arguments.health_interval.unwrap_or_else(|| Interval(of_image(|image| image.interval).or(Some(INTERVAL))));
    let retries = image.and_then(|image| u32::try_from(image.retries).ok()).filter(|retries| *retries > 0);
    Ok(Some(HealthCheck {
        command,
        test,
        interval: interval.0,
        timeout: arguments.health_timeout.or_else(|| of_image(|image| image.timeout)).unwrap_or(TIMEOUT),
        start_period: arguments
            .health_start_period
            .or_else(|| of_image(|image| image.start_period))
            .unwrap_or_default(),
        retries: arguments.health_retries.or(retries).unwrap_or(RETRIES),
        on_failure: arguments.health_on_failure.unwrap_or_default(),
    }))
}

/// A check as the command line has it, in the form of an image's.
fn written(line: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(line) {
        _ if line.is_empty() || line == "none" => vec!["NONE".to_owned()],
        Ok(words) if words.first().is_some_and(|first| ["CMD", "CMD-SHELL", "NONE"].contains(&first.as_str())) => words,
        Ok(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        Err(_) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
    }
}

/// The command of a check; `None` for no check.
fn command(test: &[String]) -> Option<Vec<OsString>> {
    let words = |words: &[String]| words.iter().map(OsString::from).collect();
    match test {
        [kind, rest @ ..] if kind == "CMD" && !rest.is_empty() => Some(words(rest)),
        [kind, rest @ ..] if kind == "CMD-SHELL" && !rest.is_empty() => {
            Some(["/bin/sh", "-c"].into_iter().map(OsString::from).chain([rest.join(" ").into()]).collect())
        }
        // Before there were kinds, the words themselves were the command.
        [kind, ..] if !["NONE", "CMD", "CMD-SHELL"].contains(&kind.as_str()) => Some(words(test)),
        _ => None,
    }
}

/// Starts the process that makes the checks of a container which has just begun, if it has any. It ends with the container.
pub(super) fn watch(
    store: &Path,
    folder: &Folder,
    record: &Record,
    container: &lrun::Container,
    runtime: Option<&Path>,
) -> Result<(), Failure> {
    let (Some(wanted), Some(run)) = (&record.health, &record.run) else { return Ok(()) };
    // A descriptor of its own: the lock is not this process's to hold.
    let open = File::open(folder.path())?;
    Health::default().write(&open)?;
    let Some(interval) = wanted.interval else { return Ok(()) };
    let (first, started) = (run.first, run.started);
    if let Fork::Parent(_) = process::fork()? {
        return Ok(());
    }
    title::set("health");
    // It ends with its container, not with who started it.
    let pidfd: Option<OwnedFd> = container.pidfd().try_clone_to_owned().ok();
    if let Some(pidfd) = pidfd
        && process::detach_stdio().is_ok()
        && nix::unistd::setsid().is_ok()
    {
        process::close_all_but([open.as_fd(), pidfd.as_fd()].into_iter());
        let mut record = record.clone();
        loop {
            if let Some(path) = place(&open) {
                // Of a group that was made meanwhile.
                record.take_changes(&path);
            }
            // What is stopped cannot answer, and is not ill for it.
            if record.status() != Status::Paused {
                let Ok(checked) = once(store, &record, wanted, &first, runtime) else { break };
                if stop::wait(&pidfd, Duration::ZERO).unwrap_or(true) {
                    break;
                }
                let status = note(&open, wanted, checked, started);
                if status == Some(HealthStatus::Unhealthy) && act(&open, wanted.on_failure, &pidfd).unwrap_or(true) {
                    break;
                }
            }
            if stop::wait(&pidfd, interval).unwrap_or(true) {
                break;
            }
        }
    }
    process::exit_now(0)
}

fn once(
    store: &Path,
    record: &Record,
    wanted: &HealthCheck,
    first: &FirstProcess,
    runtime: Option<&Path>,
) -> Result<Check, Failure> {
    let mut own = record.spec.clone();
    // Variables are the check's too; files are there already.
    secret::reveal(&record.secrets, store, &mut own)?;
    let args = wanted.command.clone();
    let spec = Spec { args, terminal: false, interactive: false, init: false, secrets: Vec::new(), ..own };
    let plan = Plan { cgroup: record.group.clone(), ..Plan::new(spec, Host::probe())? };
    Ok(check(&plan, first, wanted.timeout, runtime)?)
}

/// Where a container's folder is now.
fn place(folder: &File) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()
}

/// Writes down what a check found; how the container is now.
fn note(folder: &File, wanted: &HealthCheck, checked: Check, started: u64) -> Option<HealthStatus> {
    let health = Health::read(&place(folder)?).after(checked, wanted, started);
    health.write(folder).ok()?;
    Some(health.status)
}

/// Does what is to be done with an unhealthy container; whether that was its end.
fn act(folder: &File, action: OnFailure, pidfd: &OwnedFd) -> Result<bool, Failure> {
    match action {
        OnFailure::Nothing => return Ok(false),
        OnFailure::Kill => process::signal(pidfd.as_fd(), Signal::KILL.as_raw())?,
        OnFailure::Restart | OnFailure::Stop => {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if action == OnFailure::Restart {
                File::create(path.join(AGAIN))?;
            }
            let record = Record::left_in(&path).ok_or("the container's record is gone")?;
            let found = Found { name, path, record };
            if action == OnFailure::Restart {
                stop::end_one(&found, pidfd)?;
            } else {
                stop::stop_one(&found, None)?;
            }
        }
    }
    Ok(true)
}

/// `lrun healthcheck run`.
pub(super) fn run(global: &Global, command: &HealthcheckCommand) -> Result<Exit, Failure> {
    let HealthcheckCommand::Run(arguments) = command;
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let found = containers(&store).find(&arguments.container)?;
    let (name, record) = (&found.name, &found.record);
    let wanted = record.health.as_ref().ok_or_else(|| format!("container {name} has no defined healthcheck"))?;
    if record.status() == Status::Paused {
        return Err(format!("container {name} is paused; `lrun unpause {name}` first").into());
    }
    let (Some(first), Some(run)) = (record.running(), &record.run) else {
        return Err(format!("container {name} is not running").into());
    };
    let checked = once(&store, record, wanted, &first, environment.runtime_folder().as_deref())?;
    let is_well = checked.exit == 0;
    note(&File::open(&found.path)?, wanted, checked, run.started);
    if is_well {
        return Ok(Exit::SUCCESS);
    }
    writeln!(std::io::stdout(), "{}", HealthStatus::Unhealthy.name())?;
    Ok(Exit::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(test: &[&str]) -> Healthcheck {
        let test = test.iter().map(|&word| word.to_owned()).collect();
        Healthcheck { test, interval: 5_000_000_000, timeout: 0, start_period: 0, retries: 7 }
    }

    #[test]
    fn the_image_says_what_to_check_and_the_caller_overrides() {
        let said = HealthArguments::default();
        let of_image = wanted(&said, Some(&image(&["CMD", "/check", "-x"]))).unwrap().unwrap();
        assert_eq!(of_image.command, ["/check", "-x"]);
        assert_eq!((of_image.interval, of_image.timeout, of_image.retries), (Some(Duration::from_secs(5)), TIMEOUT, 7));
        let shell = wanted(&said, Some(&image(&["CMD-SHELL", "a && b"]))).unwrap().unwrap();
        assert_eq!(shell.command, ["/bin/sh", "-c", "a && b"]);
        assert_eq!(wanted(&said, Some(&image(&["NONE"]))).unwrap(), None);
        assert_eq!(wanted(&said, None).unwrap(), None);

        let own =
            HealthArguments { health_cmd: Some("[\"true\"]".to_owned()), health_retries: Some(1), ..said.clone() };
        let own = wanted(&own, Some(&image(&["NONE"]))).unwrap().unwrap();
        assert_eq!((own.command, own.retries), (vec![OsString::from("true")], 1));
        let none = HealthArguments { no_healthcheck: true, ..said.clone() };
        assert_eq!(wanted(&none, Some(&image(&["CMD", "x"]))).unwrap(), None);
        let aimless = HealthArguments { health_retries: Some(1), ..said };
        assert!(wanted(&aimless, None).unwrap_err().error.to_string().contains("add --health-cmd"));
    }
}
