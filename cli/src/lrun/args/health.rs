//! The flags of `lrun run` and `lrun create` about health checks, and the command line of `lrun healthcheck`.

use std::time::Duration;

use clap::{Args, Subcommand};
use lrun::health::OnFailure;

use crate::lrun::moment::duration;

/// See above.
#[derive(Args, Clone, Debug, Default)]
pub struct HealthArguments {
    /// Command that tells by its exit status whether the container is well: a line for /bin/sh, or a JSON array; none for no check
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,

    /// Time between checks, or disable for none but those of 'lrun healthcheck run' [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub health_interval: Option<Interval>,

    /// Failures in a row that make the container unhealthy [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub health_retries: Option<u32>,

    /// Time after the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub health_start_period: Option<Duration>,

    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub health_timeout: Option<Duration>,

    /// What becomes of an unhealthy container: none, kill, restart or stop
    #[arg(long, value_name = "ACTION", value_parser = on_failure)]
    pub health_on_failure: Option<OnFailure>,

    /// Leave out the image's health check
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_retries", "health_start_period", "health_timeout", "health_on_failure"])]
    pub no_healthcheck: bool,
}

/// How often a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

impl HealthArguments {
    /// A flag that says how a check is to be, if one was given.
    pub fn detail(&self) -> Option<&'static str> {
        [
            ("--health-interval", self.health_interval.is_some()),
            ("--health-retries", self.health_retries.is_some()),
            ("--health-start-period", self.health_start_period.is_some()),
            ("--health-timeout", self.health_timeout.is_some()),
            ("--health-on-failure", self.health_on_failure.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_said)| is_said.then_some(name))
    }
}

/// `lrun healthcheck`.
#[derive(Subcommand, Debug)]
pub enum HealthcheckCommand {
    /// Run the health check of a running container now; exit status 0 if it succeeds, 1 if it fails
    #[command(after_help = "\
Examples:
  lrun healthcheck run web")]
    Run(HealthcheckRunArguments),
}

/// `lrun healthcheck run`.
#[derive(Args, Debug)]
pub struct HealthcheckRunArguments {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

fn span(text: &str) -> Result<Duration, String> {
    let parsed = if text == "0" { Some(Duration::ZERO) } else { duration(text) };
    parsed.ok_or_else(|| "write a duration as 30s, 1m30s or 500ms".into())
}

fn interval(text: &str) -> Result<Interval, String> {
    if text == "disable" {
        return Ok(Interval(None));
    }
    match span(text)? {
        Duration::ZERO => Err("an interval is longer than nothing; give disable for no checks".into()),
        span => Ok(Interval(Some(span))),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    let all = [OnFailure::Nothing, OnFailure::Kill, OnFailure::Restart, OnFailure::Stop];
    all.into_iter().find(|action| action.name() == text).ok_or_else(|| "give none, kill, restart or stop".into())
}
