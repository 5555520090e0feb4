//! The flags of `lrun run` and `lrun create` about the container itself rather than about what runs in it.

use std::path::PathBuf;

use clap::Args;
use lrun::state::Restart;

use super::health::HealthArguments;
use super::secret::SecretArgument;

/// Bytes of a log file where nothing is said; there is an older one beside it.
const LOG_SIZE: u64 = 10 << 20;

/// See above.
#[derive(Args, Clone, Debug)]
pub struct CreateArguments {
    /// Attach a label
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,

    /// Attach the labels in a file, one on each line
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,

    /// Write the container's id into a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,

    /// Write the number of the container's first process into a file at each start
    #[arg(long, value_name = "FILE", conflicts_with = "rootfs")]
    pub pidfile: Option<PathBuf>,

    /// Write the number of the process that answers for the container into a file at each start
    #[arg(long, value_name = "FILE", conflicts_with = "rootfs")]
    pub conmon_pidfile: Option<PathBuf>,

    /// Remove another container that has this name, even if it runs
    #[arg(long, requires = "name", conflicts_with = "rootfs")]
    pub replace: bool,

    /// Start other containers before this one
    #[arg(long, value_name = "CONTAINER", value_delimiter = ',', conflicts_with = "rootfs")]
    pub requires: Vec<String>,

    /// Kill the container when it has run so many seconds; 0 for no such end
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true, conflicts_with = "rootfs")]
    pub timeout: u64,

    /// Where what it writes in the background is kept: k8s-file (also json-file), or none
    #[arg(long, value_name = "DRIVER", value_parser = log_driver, default_value = "k8s-file")]
    pub log_driver: LogDriver,

    /// What systemd is told through $NOTIFY_SOCKET: conmon (that the container runs, and who answers for it) or ignore (nothing)
    #[arg(long, value_name = "WHO", value_parser = notifies, default_value = "ignore", hide_default_value = true, action = clap::ArgAction::Set, conflicts_with = "rootfs")]
    pub sdnotify: bool,

    /// Start the container again when it ends: no, on-failure[:TIMES], always or unless-stopped; while its monitor lives
    #[arg(long, value_name = "POLICY", value_parser = restart, default_value = "no", hide_default_value = true)]
    pub restart: Restart,

    /// How the log is kept: max-size=SIZE, 10m if not said, -1 for no limit; one older file is kept beside it
    #[arg(long = "log-opt", value_name = "OPTION", value_parser = log_size)]
    pub log_size: Vec<u64>,

    /// Signal that asks the container to end [default: that of the image, else SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub stop_signal: Option<String>,

    /// Give it a secret, in /run/secrets/NAME or by type=env in a variable; OPTIONS: type=mount|env, target=NAME|PATH, uid=N, gid=N, mode=0444
    #[arg(long = "secret", value_name = "NAME[,OPTIONS]", value_parser = super::secret::secret)]
    pub secrets: Vec<SecretArgument>,

    /// Whether the container is well, and what if not.
    #[command(flatten)]
    pub health: HealthArguments,

    /// Seconds that 'stop' waits before it kills
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub stop_timeout: u64,
}

impl CreateArguments {
    /// Most bytes of a log file; 0 for no limit.
    pub fn log_size(&self) -> u64 {
        self.log_size.last().copied().unwrap_or(LOG_SIZE)
    }
}

/// Where the log of a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogDriver {
    /// In its folder.
    #[default]
    File,
    /// Nowhere.
    None,
}

fn log_driver(text: &str) -> Result<LogDriver, String> {
    match text {
        "k8s-file" | "json-file" => Ok(LogDriver::File),
        "none" => Ok(LogDriver::None),
        "passthrough" | "passthrough-tty" => {
            Err("a container in the foreground writes to where this program does; leave out -d".into())
        }
        "journald" => Err("logs are files, which 'lrun logs' shows; pipe 'lrun logs -f' to systemd-cat".into()),
        _ => Err("there are k8s-file and none".into()),
    }
}

fn notifies(text: &str) -> Result<bool, String> {
    match text {
        "ignore" => Ok(false),
        "conmon" => Ok(true),
        "container" => {
            Err("the socket of systemd is not shown inside; bind it by -v and set NOTIFY_SOCKET by -e".into())
        }
        _ => Err("there are conmon and ignore".into()),
    }
}

pub(super) fn restart(text: &str) -> Result<Restart, String> {
    match text.split_once(':').map_or((text, None), |(policy, times)| (policy, Some(times))) {
        ("" | "no", None) => Ok(Restart::No),
        ("always" | "unless-stopped", None) => Ok(Restart::Always),
        ("on-failure", None) => Ok(Restart::OnFailure(0)),
        ("on-failure", Some(times)) => {
            times.parse().map(Restart::OnFailure).map_err(|_| format!("{times:?} is no number of times"))
        }
        _ => Err("give no, on-failure, on-failure:TIMES, always or unless-stopped".into()),
    }
}

fn log_size(text: &str) -> Result<u64, String> {
    let Some(("max-size", size)) = text.split_once('=') else {
        return Err("the only option is max-size, as in max-size=10m".into());
    };
    if size == "-1" {
        return Ok(0);
    }
    let lower = size.to_ascii_lowercase();
    let lower = lower.trim_end_matches('b');
    let digits = lower.trim_end_matches(['k', 'm', 'g']);
    let shift = match &lower[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(format!("{size:?} is no size; write it as 500k, 10m or 1g")),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| format!("{size:?} is no size; write it as 500k, 10m or 1g"))
}

/// A signal by name or number, as it was said: the image's may be any.
pub(super) fn signal(text: &str) -> Result<String, String> {
    match crate::lrun::signal::number(text) {
        Some(_) => Ok(text.into()),
        None => Err("there is no such signal; give a name, as TERM, or a number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_podmans() {
        assert_eq!(restart("no"), Ok(Restart::No));
        assert_eq!(restart("on-failure"), Ok(Restart::OnFailure(0)));
        assert_eq!(restart("on-failure:3"), Ok(Restart::OnFailure(3)));
        assert_eq!(restart("unless-stopped"), Ok(Restart::Always));
        assert!(restart("always:3").is_err() && restart("on-failure:x").is_err() && restart("sometimes").is_err());
    }

    #[test]
    fn what_cannot_be_had_is_told_with_the_way_out() {
        assert_eq!((log_driver("json-file"), log_driver("none")), (Ok(LogDriver::File), Ok(LogDriver::None)));
        assert!(log_driver("journald").unwrap_err().contains("systemd-cat"));
        assert_eq!((notifies("conmon"), notifies("ignore")), (Ok(true), Ok(false)));
        assert!(notifies("container").unwrap_err().contains("-v"));
    }

    #[test]
    fn a_log_has_a_size() {
        assert_eq!(log_size("max-size=10m"), Ok(10 << 20));
        assert_eq!(log_size("max-size=1KB"), Ok(1024));
        assert_eq!(log_size("max-size=7"), Ok(7));
        assert_eq!(log_size("max-size=-1"), Ok(0));
        for wrong in ["max-size=", "max-size=0", "max-size=1t", "max-file=3", "x"] {
            assert!(log_size(wrong).is_err(), "{wrong}");
        }
    }
}
