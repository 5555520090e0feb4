//! The command line of the runtime: runc's and crun's.

use std::path::PathBuf;

mod limits;

pub use limits::{EventsArguments, UpdateArguments};

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  podman --runtime $PWD/lrun-oci run --rm debian:12 true    lrun-oci is a link to lrun
  lrun oci spec && lstore checkout debian:12 rootfs
  lrun oci run box                                          the bundle in the working directory
  lrun oci create --bundle DIR box && lrun oci start box

Each command is one step in a container's life, for an engine that does the rest. Exit status: 1
for failures; 'run' and 'exec' have that of the command.";

/// The runtime of the OCI: containers from bundles, as podman, containerd and docker call it
#[derive(Parser, Debug)]
#[command(
    name = "lrun oci",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Oci {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: OciCommand,
}

/// Options that stand before the command.
#[derive(Args, Debug)]
pub struct Global {
    /// Where containers are remembered [default: $XDG_RUNTIME_DIR/lrun-oci; root: /run/lrun-oci]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Where to tell of failures, besides standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// How to tell of them there
    #[arg(long, value_name = "text|json", default_value = "text", hide_possible_values = true)]
    pub log_format: LogFormat,

    /// Accepted for engines that give it; failures are told in any case
    #[arg(long, value_name = "LEVEL", hide = true)]
    pub log_level: Option<String>,

    /// Accepted for engines that give it; there is nothing more to tell
    #[arg(long, hide = true)]
    pub debug: bool,

    /// Who makes control groups: cgroupfs, which is the runtime itself, systemd, or disabled, which is nobody
    #[arg(long, value_name = "WHO", hide_possible_values = true)]
    pub cgroup_manager: Option<ManagerArgument>,

    /// Have systemd make control groups; cgroupsPath is SLICE:PREFIX:NAME then
    #[arg(long)]
    pub systemd_cgroup: bool,

    /// Accepted for engines that give it; whether this is root shows by itself
    #[arg(long, value_name = "WHETHER", hide = true)]
    pub rootless: Option<String>,
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines.
    Text,
    /// Objects, one a line.
    Json,
}

/// Who makes control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManagerArgument {
    /// The runtime.
    Cgroupfs,
    /// systemd.
    Systemd,
    /// Nobody.
    Disabled,
}

/// What the runtime can do.
#[derive(Subcommand, Debug)]
pub enum OciCommand {
    /// Make a container of a bundle; its command waits to be started
    Create(CreateArguments),
    /// Have a container that was made run its command
    Start(OneArguments),
    /// Make a container and start it
    Run(RunArguments),
    /// Tell what is known of a container, as JSON
    State(OneArguments),
    /// Send a signal to a container's first process, or to all in it
    Kill(KillArguments),
    /// Remove what is left of a container
    Delete(DeleteArguments),
    /// Run a further command in a container
    Exec(ExecArguments),
    /// List containers
    List(ListArguments),
    /// List the processes in a container
    Ps(PsArguments),
    /// Stop all processes of a container where they are
    Pause(OneArguments),
    /// Let paused processes go on
    Resume(OneArguments),
    /// Change limits of a container that is there
    Update(UpdateArguments),
    /// Tell what a container uses, as JSON, again and again
    Events(EventsArguments),
    /// Tell what this runtime knows of the specification, as JSON
    Features,
    /// Write a config.json to begin with
    Spec(SpecArguments),
}

/// The name of a container.
#[derive(Args, Debug)]
pub struct OneArguments {
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// What a process shares with its caller.
#[derive(Args, Debug)]
pub struct SharedArguments {
    /// Unix socket that the terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// File to write the number of its process to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Let it inherit so many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u16,
}

/// How a container is made.
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,

    /// Configuration in another file
    #[arg(short = 'f', long, value_name = "FILE", default_value = "config.json")]
    pub config: PathBuf,

    /// What it shares with its caller.
    #[command(flatten)]
    pub shared: SharedArguments,

    /// Leave it the session keyring of the caller
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// How a container is made and started.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// As for create.
    #[command(flatten)]
    pub create: CreateArguments,

    /// Return when it runs
    #[arg(short, long)]
    pub detach: bool,

    /// Keep what is known of it when it has ended
    #[arg(long)]
    pub keep: bool,
}

/// A signal for a container.
#[derive(Args, Debug)]
pub struct KillArguments {
    /// All processes in it
    #[arg(short, long)]
    pub all: bool,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,

    /// Name or number [default: TERM]
    #[arg(value_name = "SIGNAL")]
    pub signal: Option<String>,
}

/// What to delete.
#[derive(Args, Debug)]
pub struct DeleteArguments {
    /// Kill it if it runs, and be content if there is none
    #[arg(short, long)]
    pub force: bool,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// A further command.
#[derive(Args, Debug)]
pub struct ExecArguments {
    /// Take all of it from a file, an object as 'process' is in config.json
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,

    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Return when it runs
    #[arg(short, long)]
    pub detach: bool,

    /// What it shares with its caller.
    #[command(flatten)]
    pub shared: SharedArguments,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Variable to set
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,

    /// User, by number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,

    /// Capability to have besides
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,

    /// Control group below the container's, made where it is missing
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// Also in a paused container, where it waits with all others
    #[arg(long)]
    pub ignore_paused: bool,

    /// No rights by set-id programs
    #[arg(long)]
    pub no_new_privs: bool,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,

    /// The command
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// What to list.
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,

    /// Form
    #[arg(short, long, value_name = "table|json", default_value = "table", hide_possible_values = true)]
    pub format: Format,
}

/// What to list the processes of.
#[derive(Args, Debug)]
pub struct PsArguments {
    /// Form
    #[arg(short, long, value_name = "table|json", default_value = "table", hide_possible_values = true)]
    pub format: Format,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Forms of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What to write.
#[derive(Args, Debug)]
pub struct SpecArguments {
    /// Directory to write it to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,

    /// For a user who is not root
    #[arg(long)]
    pub rootless: bool,
}
