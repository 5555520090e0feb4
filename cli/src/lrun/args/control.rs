//! The command lines about the control groups of containers: stopping, changing and telling what they use.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::OsString;

use clap::Args;
use lrun::state::Restart;

use super::create::restart;
use super::namespace::{self, NamespaceArgument};
use super::network::{NetworkArgument, network};
use super::resources::ResourceArguments;
use super::run::{entrypoint, host_name};
use super::which::{One, Which};

/// `lrun pause` and `lrun unpause`.
#[derive(Args, Debug)]
pub struct PauseArguments {
    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// `lrun update`.
#[derive(Args, Debug)]
pub struct UpdateArguments {
    /// What the container may use.
    #[command(flatten)]
    pub resources: ResourceArguments,

    /// What it is made of.
    #[command(flatten)]
    pub remake: RemakeArguments,

    /// What happens when it ends: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    pub restart: Option<Restart>,

    /// Which.
    #[command(flatten)]
    pub one: One,
}

/// What a container is made of, to be changed while it does not run.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RemakeArguments {
    /// Set a variable; NAME alone takes the value from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Attach a label
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,

    /// Mount a further directory or volume, in place of what is mounted there
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volumes: Vec<String>,

    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME", value_parser = host_name)]
    pub hostname: Option<String>,

    /// What to run instead: a program, or a JSON array of words
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,

    /// Another network: none, host, pasta, slirp4netns or private
    #[arg(long, value_name = "MODE", value_parser = network)]
    pub network: Option<NetworkArgument>,

    /// Processes: private or host
    #[arg(long, value_name = "MODE", value_parser = namespace::namespace)]
    pub pid: Option<NamespaceArgument>,

    /// System V IPC, message queues and /dev/shm: private or host
    #[arg(long, value_name = "MODE", value_parser = namespace::ipc)]
    pub ipc: Option<NamespaceArgument>,

    /// View of the control groups: private or host
    #[arg(long, value_name = "MODE", value_parser = namespace::namespace)]
    pub cgroupns: Option<NamespaceArgument>,

    /// Clocks that count from boot: private or host
    #[arg(long, value_name = "MODE", value_parser = namespace::time)]
    pub timens: Option<bool>,

    /// Whether it may do all that you may
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub privileged: Option<bool>,
}

impl RemakeArguments {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The words of the entrypoint, if one is said.
    pub fn entrypoint(&self) -> Option<Vec<OsString>> {
        self.entrypoint.as_deref().map(entrypoint)
    }
}

/// `lrun stats`.
#[derive(Args, Debug)]
pub struct StatsArguments {
    /// Also those that do not run
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    pub all: bool,

    /// The one that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,

    /// Print once and leave
    #[arg(long)]
    pub no_stream: bool,

    /// Do not clear the screen between rounds
    #[arg(long)]
    pub no_reset: bool,

    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,

    /// Seconds between rounds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,

    /// Print with a template of Go's, or as json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Names or ids of containers; all that run if none is said
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}
