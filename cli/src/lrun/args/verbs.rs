//! The command lines of what is done with containers that are there.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::container_name;

/// `lrun exec`.
#[derive(Args, Debug)]
pub struct ExecArguments {
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

    /// Name of the container
    #[arg(value_name = "CONTAINER", value_parser = container_name)]
    pub container: String,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND", num_args = 1..)]
    pub words: Vec<OsString>,
}

/// `lrun stop`.
#[derive(Args, Debug)]
pub struct StopArguments {
    /// Seconds to wait before a container is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    pub time: u64,

    /// Names of the containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = container_name)]
    pub containers: Vec<String>,
}

/// `lrun rm`.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// Kill what runs; what is not there is no error
    #[arg(short, long)]
    pub force: bool,

    /// Names of the containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = container_name)]
    pub containers: Vec<String>,
}
