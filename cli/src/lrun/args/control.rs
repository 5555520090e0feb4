//! The command lines about the control groups of containers: stopping, changing and telling what they use.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use clap::Args;
use lrun::state::Restart;

use super::create::restart;
use super::resources::ResourceArguments;
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

    /// What happens when it ends: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    pub restart: Option<Restart>,

    /// Which.
    #[command(flatten)]
    pub one: One,
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
