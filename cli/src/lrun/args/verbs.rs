//! The command lines of what is done with containers that are there.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::container_name;
use super::create::signal;
use super::descriptors::DescriptorArguments;
use super::which::{One, Which, filter};

/// `lrun exec`.
#[derive(Args, Debug)]
pub struct ExecArguments {
    /// Let the command run in the background, without input, and forget what it writes
    #[arg(short, long)]
    pub detach: bool,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Set a variable; NAME alone takes the value from here, PREFIX* all that begin so
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Set the variables in a file, one on each line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,

    /// Who runs the command: names or ids of the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Keys that leave the command; only empty, since a command ends with who asked for it
    #[arg(long, value_name = "KEYS", value_parser = no_keys)]
    pub detach_keys: Option<String>,

    /// Give the command every capability
    #[arg(long)]
    pub privileged: bool,

    /// Descriptors besides the first three.
    #[command(flatten)]
    pub descriptors: DescriptorArguments,

    /// In the container that was made last, which is then not named
    #[arg(short, long)]
    pub latest: bool,

    /// Name or id of the container, the command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CONTAINER COMMAND", num_args = 1..)]
    pub words: Vec<OsString>,
}

/// `lrun start`.
#[derive(Args, Debug)]
pub struct StartArguments {
    /// Show what the container writes, and leave with its exit status
    #[arg(short, long)]
    pub attach: bool,

    /// Give it this standard input
    #[arg(short, long, requires = "attach")]
    pub interactive: bool,

    /// How to lead the session.
    #[command(flatten)]
    pub session: SessionArguments,

    /// All of them
    #[arg(long, conflicts_with_all = ["latest", "containers", "attach"])]
    pub all: bool,

    /// Those for which NAME is VALUE, as for 'lrun ps'
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = filter, conflicts_with_all = ["latest", "containers", "attach"])]
    pub filters: Vec<(String, String)>,

    /// The one that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,

    /// Names or ids of containers
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// A session with a container in the background.
#[derive(Args, Debug)]
pub struct SessionArguments {
    /// Keys that leave a container with a terminal, and let it run on; empty for none
    #[arg(long, value_name = "KEYS", value_parser = keys, default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: Keys,

    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
}

/// Keys as the bytes that a terminal sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<u8>);

/// `lrun attach`.
#[derive(Args, Debug)]
pub struct AttachArguments {
    /// Only look
    #[arg(long)]
    pub no_stdin: bool,

    /// How to lead the session.
    #[command(flatten)]
    pub session: SessionArguments,

    /// Which.
    #[command(flatten)]
    pub one: One,
}

/// `lrun stop`.
#[derive(Args, Debug)]
pub struct StopArguments {
    /// Seconds to wait before a container is killed [default: what it was made with, else 10]
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u64>,

    /// What is not there is no error
    #[arg(short, long)]
    pub ignore: bool,

    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// `lrun restart`.
#[derive(Args, Debug)]
pub struct RestartArguments {
    /// Seconds to wait before a container is killed [default: what it was made with, else 10]
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u64>,

    /// Of all, those that run
    #[arg(long, conflicts_with_all = ["latest", "containers", "all"])]
    pub running: bool,

    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// `lrun kill`.
#[derive(Args, Debug)]
pub struct KillArguments {
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    pub signal: String,

    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// `lrun wait`.
#[derive(Args, Debug)]
pub struct WaitArguments {
    /// The one that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,

    /// What is not there has ended with -1
    #[arg(long)]
    pub ignore: bool,

    /// Wait for a state instead: created, running, stopped, exited, healthy or unhealthy; may be repeated
    #[arg(long, value_name = "STATE", value_parser = ["created", "running", "stopped", "exited", "healthy", "unhealthy"])]
    pub condition: Vec<String>,

    /// How often that is looked at: 250ms, or a number of milliseconds
    #[arg(short, long, value_name = "DURATION", value_parser = interval, default_value = "250ms")]
    pub interval: Duration,

    /// Names or ids of containers
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `lrun rm`.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// Kill what runs; what is not there is no error
    #[arg(short, long)]
    pub force: bool,

    /// What is not there is no error
    #[arg(short, long)]
    pub ignore: bool,

    /// Seconds to wait before a container is killed, with --force [default: 0]
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS", requires = "force")]
    pub time: Option<u64>,

    /// Also remove the volumes that were made for it and have no name of yours
    #[arg(short, long)]
    pub volumes: bool,

    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// `lrun ps`.
#[derive(Args, Debug)]
pub struct PsArguments {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,

    /// Only the one that was made last, whatever it does
    #[arg(short, long)]
    pub latest: bool,

    /// Only those for which NAME is VALUE: id, name, status, label, ancestor, exited, health
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,

    /// Only those that were made last, whatever they do
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    pub last: Option<usize>,

    /// In the order of: command, created, id, image, names, runningfor, size or status [default: the youngest first]
    #[arg(long, value_name = "FIELD", value_parser = ["command", "created", "id", "image", "names", "runningfor", "size", "status"])]
    pub sort: Option<String>,

    /// Show how much each has changed on disk
    #[arg(short, long)]
    pub size: bool,

    /// Show the namespaces of each
    #[arg(long = "ns", visible_alias = "namespace", conflicts_with = "size")]
    pub namespaces: bool,

    /// Print with a template of Go's, or as json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,

    /// Leave the headings out
    #[arg(long)]
    pub noheading: bool,
}

/// What `lrun inspect` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A container, else an image.
    All,
    /// A container.
    Container,
    /// An image of the store.
    Image,
}

/// `lrun inspect`.
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// What it is: container, image or all
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all", hide_possible_values = true)]
    pub kind: Kind,

    /// Print with a template of Go's, or as json
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// The container that was made last
    #[arg(short, long, conflicts_with = "names")]
    pub latest: bool,

    /// Names or ids
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    pub names: Vec<String>,
}

/// `lrun logs`.
#[derive(Args, Debug)]
pub struct LogsArguments {
    /// Go on with what is written until the container ends
    #[arg(short, long)]
    pub follow: bool,

    /// From this moment on: RFC 3339, seconds since 1970, or how long ago, as 10m
    #[arg(long, value_name = "MOMENT")]
    pub since: Option<String>,

    /// Up to this moment
    #[arg(long, value_name = "MOMENT")]
    pub until: Option<String>,

    /// Only the last lines; -1 for all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true, default_value_t = -1, hide_default_value = true)]
    pub tail: i64,

    /// When each line was written
    #[arg(short, long)]
    pub timestamps: bool,

    /// Of several containers, show their names instead of their ids
    #[arg(short, long)]
    pub names: bool,

    /// Of several containers, show each in a colour of its own
    #[arg(long)]
    pub color: bool,

    /// The one that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,

    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub containers: Vec<String>,
}

/// `lrun top`.
#[derive(Args, Debug)]
pub struct TopArguments {
    /// The container that was made last, which is then not named
    #[arg(short, long)]
    pub latest: bool,

    /// Name or id of the container, then what to show of each process: user, pid, ppid, hpid, elapsed, time, comm or args
    #[arg(value_name = "CONTAINER [FIELD]…", num_args = 0..)]
    pub words: Vec<String>,
}

/// `lrun rename`.
#[derive(Args, Debug)]
pub struct RenameArguments {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// Its new name
    #[arg(value_name = "NAME", value_parser = container_name)]
    pub name: String,
}

/// `lrun exists`.
#[derive(Args, Debug)]
pub struct ExistsArguments {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// A duration of Go's, or a number of milliseconds.
fn interval(text: &str) -> Result<Duration, String> {
    let milliseconds = text.parse().ok().map(Duration::from_millis);
    let parsed = milliseconds.or_else(|| crate::lrun::moment::duration(text)).filter(|parsed| !parsed.is_zero());
    parsed.ok_or_else(|| "write a duration as 250ms or 2s".into())
}

fn no_keys(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Ok(String::new())
    } else {
        Err("a command cannot be left; give none, as --detach-keys=".into())
    }
}

/// `ctrl-p,ctrl-q`, letters, or nothing.
fn keys(text: &str) -> Result<Keys, String> {
    let key = |word: &str| {
        let (byte, is_control) = match word.as_bytes() {
            [byte] => (*byte, false),
            [.., byte] if word.len() == 6 && word.starts_with("ctrl-") => (byte.to_ascii_uppercase(), true),
            _ => return None,
        };
        if is_control {
            (b'@'..=b'_').contains(&byte).then(|| byte - b'@')
        } else {
            byte.is_ascii_graphic().then_some(byte)
        }
    };
    if text.is_empty() {
        return Ok(Keys::default());
    }
    let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
    keys.map(Keys).ok_or_else(|| "give single characters or ctrl-X, separated by commas".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_a_terminal_sends() {
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(Keys(vec![16, 17])));
        assert_eq!(keys("ctrl-@,a,ctrl-["), Ok(Keys(vec![0, b'a', 27])));
        assert_eq!(keys(""), Ok(Keys(vec![])));
        assert!(keys("ctrl-").is_err() && keys("ab").is_err() && keys("ctrl-é").is_err());
    }
}
