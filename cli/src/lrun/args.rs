//! The command line of `lrun`: what was said. Nothing here looks at the system.
//!
//! `lrun IMAGE` is short for `lrun run IMAGE`: [`with_command`] puts the word in. The flags of `run` are podman's, with
//! podman's meaning; one that cannot be honoured does not exist, so that it is refused and never ignored.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

mod control;
mod create;
mod defaults;
mod descriptors;
mod examples;
mod files;
mod health;
mod limits;
mod namespace;
mod network;
mod port;
mod prune;
mod quick;
mod refused;
mod resources;
mod run;
mod secret;
#[cfg(test)]
mod tests;
mod usual;
mod variables;
mod verbs;
mod volume;
mod which;

use std::ffi::OsString;

use clap::{ArgAction, Parser, Subcommand};

pub use self::control::{PauseArguments, RemakeArguments, StatsArguments, UpdateArguments};
pub use self::create::{CreateArguments, LogDriver};
pub use self::descriptors::DescriptorArguments;
use self::examples::{EXAMPLES, RUN_EXAMPLES};
pub use self::files::{CommitArguments, ContainerExportArguments, CopyArguments, DiffArguments};
pub use self::health::{HealthArguments, HealthcheckCommand, HealthcheckRunArguments, Interval};
pub use self::limits::UlimitArgument;
pub(crate) use self::limits::bytes;
pub use self::namespace::NamespaceArgument;
pub use self::network::NetworkArgument;
pub(crate) use self::network::exposed;
pub use self::port::PortArguments;
pub use self::prune::PruneArguments;
pub use self::quick::parse_run;
pub use self::resources::{CgroupsArgument, ResourceArguments, SystemdArgument};
pub use self::run::{ImageVolume, PullPolicy, RunArguments, UserNamespaceArgument};
pub use self::secret::{
    SecretArgument, SecretCommand, SecretCreateArguments, SecretExistsArguments, SecretInspectArguments,
    SecretListArguments, SecretRemoveArguments,
};
pub use self::variables::VariableArguments;
pub use self::verbs::{
    AttachArguments, ExecArguments, ExistsArguments, InspectArguments, Keys, KillArguments, Kind, LogsArguments,
    PsArguments, RemoveArguments, RenameArguments, RestartArguments, SessionArguments, StartArguments, StopArguments,
    TopArguments, WaitArguments,
};
pub use self::volume::{
    VolumeCommand, VolumeCreateArguments, VolumeExistsArguments, VolumeInspectArguments, VolumeListArguments,
    VolumePruneArguments, VolumeRemoveArguments,
};
pub use self::which::{One, Which};
use crate::global::Global;
use crate::lstore::args::{CompletionsArguments, ManArguments, ReportArguments};

/// Subcommands; an image with such a name is run by `lrun run NAME`.
pub(crate) const COMMANDS: [&str; 33] = [
    "run",
    "create",
    "start",
    "restart",
    "exec",
    "attach",
    "logs",
    "ps",
    "inspect",
    "top",
    "port",
    "healthcheck",
    "exists",
    "stop",
    "kill",
    "pause",
    "unpause",
    "update",
    "stats",
    "wait",
    "rename",
    "rm",
    "prune",
    "volume",
    "secret",
    "cp",
    "diff",
    "export",
    "commit",
    "info",
    "apparmor",
    "completions",
    "man",
];

/// Options of [`Global`] that are followed by a value.
pub(crate) const GLOBAL_WITH_VALUE: [&str; 3] = ["--root", "--placement", "--log-level"];

/// Containers from images of lstore, without root and without a daemon
#[derive(Parser, Debug)]
#[command(
    name = "lrun",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    disable_help_flag = true,
    arg_required_else_help = true,
    override_usage = "lrun [OPTIONS] IMAGE [COMMAND…]\n       lrun <COMMAND>"
)]
pub struct Lrun {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// Print help
    #[arg(long, action = ArgAction::Help, global = true, help_heading = "Global options")]
    pub help: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub command: LrunCommand,
}

/// What `lrun` can do.
#[derive(Subcommand, Debug)]
pub enum LrunCommand {
    /// Run a command in a new container
    #[command(after_help = RUN_EXAMPLES, override_usage = "lrun run [OPTIONS] IMAGE [COMMAND…]")]
    Run(Box<RunArguments>),

    /// Make a container without starting it, and print its id
    #[command(
        mut_arg("detach", |argument| argument.hide(true)),
        mut_arg("rootfs", |argument| argument.hide(true)),
        after_help = "\
Examples:
  lrun create --name web -v ./site:/srv:ro app:1
  lrun create --name box --label manager=me -it debian:12 bash

It is started by 'lrun start'. The flags are those of 'lrun run'.",
        override_usage = "lrun create [OPTIONS] IMAGE [COMMAND…]"
    )]
    Create(Box<RunArguments>),

    /// Start containers in the background, with the changes that they made before
    #[command(after_help = "\
Examples:
  lrun start web db
  lrun start -ai box    with this terminal; ctrl-p ctrl-q leaves it running

Exit status with --attach: that of the container.")]
    Start(StartArguments),

    /// Stop containers and start them again
    #[command(after_help = "\
Examples:
  lrun restart web
  lrun restart -t 1 --running")]
    Restart(RestartArguments),

    /// Run a further command in a running container
    #[command(
        after_help = "\
Examples:
  lrun exec -it web bash
  lrun exec -u 0 -w /tmp -e DEBUG=1 web env
  lrun exec -d web touch /tmp/reload

Exit status: as for 'lrun run'.",
        override_usage = "lrun exec [OPTIONS] CONTAINER COMMAND…"
    )]
    Exec(ExecArguments),

    /// See what a container in the background writes, and write to it
    #[command(after_help = "\
Examples:
  lrun attach box              ctrl-p ctrl-q leaves it running
  lrun attach --no-stdin web

What was written before is shown by 'lrun logs'. Exit status: that of the container.")]
    Attach(AttachArguments),

    /// Show what a container in the background wrote
    #[command(after_help = "\
Examples:
  lrun logs web
  lrun logs -f --tail 10 web
  lrun logs --names web db
  lrun logs -t --since 10m --until 2026-01-31T12:00:00Z web

Standard output and standard error go where they went inside.")]
    Logs(LogsArguments),

    /// List containers
    #[command(after_help = "\
Examples:
  lrun ps -a
  lrun ps -a --filter status=exited --filter label=manager=me -q
  lrun ps --format '{{.ID}} {{.Names}} {{.Status}}'
  lrun ps -a --format json")]
    Ps(PsArguments),

    /// Show all that is known of containers or images, as JSON
    #[command(after_help = "\
Examples:
  lrun inspect web
  lrun inspect --format '{{.State.Status}} {{.State.ExitCode}}' web
  lrun inspect --type image debian:12")]
    Inspect(InspectArguments),

    /// List the processes of a container, with the numbers that they have inside
    #[command(after_help = "\
Examples:
  lrun top web
  lrun top web pid comm")]
    Top(TopArguments),

    /// Tell which ports of the host lead into a container
    #[command(after_help = "\
Examples:
  lrun port web
  lrun port web 80
  lrun port web 53/udp
  lrun port --all")]
    Port(PortArguments),

    /// Run the health check of a container
    #[command(after_help = "\
Examples:
  lrun healthcheck run web")]
    Healthcheck {
        /// What to do.
        #[command(subcommand)]
        command: HealthcheckCommand,
    },

    /// Tell by the exit status whether a container is there: 0 or 1
    #[command(after_help = "\
Examples:
  lrun exists web && lrun rm web")]
    Exists(ExistsArguments),

    /// Ask containers to end, and end those that do not
    #[command(after_help = "\
Examples:
  lrun stop web
  lrun stop -t 1 web db
  lrun stop --all")]
    Stop(StopArguments),

    /// Send a signal to containers
    #[command(after_help = "\
Examples:
  lrun kill web
  lrun kill -s HUP web")]
    Kill(KillArguments),

    /// Stop all processes of containers where they are
    #[command(after_help = "\
Examples:
  lrun pause web
  lrun pause --all

A container is paused by its control group. One that was started without gets it now: from your systemd, or below a group in
which you may make others.")]
    Pause(PauseArguments),

    /// Let paused containers go on
    #[command(after_help = "\
Examples:
  lrun unpause web
  lrun unpause --all")]
    Unpause(PauseArguments),

    /// Change the limits of a container, what happens when it ends, and what it is made of
    #[command(after_help = "\
Examples:
  lrun update --memory 1g --cpus 2 web
  lrun update --restart on-failure:3 web
  lrun update -e DEBUG=1 -v ./site:/srv web      while it does not run

Limits of one that runs are set in its control group. One that was started without gets it now, and memory that it took
before is not counted there. What is not said stays.")]
    Update(Box<UpdateArguments>),

    /// Show what containers use
    #[command(after_help = "\
Examples:
  lrun stats
  lrun stats --no-stream --format json web
  lrun stats --no-stream --format '{{.Name}} {{.MemUsage}}'

Of a container without a control group of its own, what its processes tell is shown, and the rest as --.")]
    Stats(StatsArguments),

    /// Wait until containers have ended, and print their exit statuses
    #[command(after_help = "\
Examples:
  lrun wait web")]
    Wait(WaitArguments),

    /// Give a container another name
    #[command(after_help = "\
Examples:
  lrun rename web old-web")]
    Rename(RenameArguments),

    /// Remove containers that have ended
    #[command(after_help = "\
Examples:
  lrun rm web
  lrun rm -f web        also if it runs
  lrun rm -v web        with its volumes that have no name of yours
  lrun rm --all

Exit status: 1 if a container was not there, 2 if one runs, 125 for other failures.")]
    Rm(RemoveArguments),

    /// Remove all containers that do not run
    #[command(after_help = "\
Examples:
  lrun prune
  lrun prune -f --filter until=24h --filter label=job=ci")]
    Prune(PruneArguments),

    /// Copy files out of a container or into it, whether it runs or not
    #[command(after_help = "\
Examples:
  lrun cp web:/var/log/app.log .
  lrun cp ./site/. web:/srv        what is in the directory
  lrun cp ./site web:/srv          the directory, into /srv if that is there, else as /srv
  lrun cp web:/srv - | tar -t      as a tar; 'lrun cp - web:/srv' unpacks one
  lrun cp web:/srv/x other:/srv    from one container to another

A path inside that begins with no slash is meant from the container's working directory. Links
are followed inside of the container alone; those below a directory are copied as links.
What comes out is yours, without set-id bits and devices.")]
    Cp(CopyArguments),

    /// Show which files of its image a container has added (A), changed (C) and deleted (D)
    #[command(after_help = "\
Examples:
  lrun diff web
  lrun diff --format json web")]
    Diff(DiffArguments),

    /// Write all files of a container as a tar, without what is mounted in it
    #[command(after_help = "\
Examples:
  lrun export web -o web.tar
  lrun export web | tar -t")]
    Export(ContainerExportArguments),

    /// Make an image of a container's files: its changes become a layer above those of its image
    #[command(after_help = "\
Examples:
  lrun commit box app:2
  lrun commit -m 'with hello' -a me -c 'CMD [\"hello\"]' box app:2

The image has the command, variables, labels, user and directory of the container, unless they
are changed by -c. Volumes and other mounts are no part of it. One that runs is not paused.")]
    Commit(CommitArguments),

    /// Make, list, look at and remove volumes: directories that outlive containers
    #[command(after_help = "\
Examples:
  lrun volume create data
  lrun volume ls
  lrun volume prune")]
    Volume {
        /// What to do.
        #[command(subcommand)]
        command: VolumeCommand,
    },

    /// Keep secrets for containers: in memory inside, readable for you alone outside
    #[command(after_help = "\
Examples:
  lrun secret create key ./key.pem
  lrun run --rm --secret key app:1               in /run/secrets/key
  lrun run --rm --secret key,type=env,target=KEY app:1")]
    Secret {
        /// What to do.
        #[command(subcommand)]
        command: SecretCommand,
    },

    /// Show what the kernel and the system allow, and what is missing
    #[command(after_help = "\
Examples:
  lrun info
  lrun info --format json")]
    Info(ReportArguments),

    /// Print the AppArmor profile that lets this program make user namespaces
    #[command(
        hide = true,
        after_help = "\
Examples:
  lrun apparmor | sudo tee /etc/apparmor.d/lrun
  sudo apparmor_parser -r /etc/apparmor.d/lrun"
    )]
    Apparmor,

    /// Write the completion script of a shell
    #[command(
        hide = true,
        after_help = "\
Examples:
  lrun completions bash > ~/.local/share/bash-completion/completions/lrun"
    )]
    Completions(CompletionsArguments),

    /// Write the manual page, or all pages into a directory
    #[command(
        hide = true,
        after_help = "\
Examples:
  lrun man | man -l -
  lrun man /usr/local/share/man/man1"
    )]
    Man(ManArguments),
}

impl LrunCommand {
    /// Whether the exit status is that of a container's command.
    pub fn passes_status(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Start(_) | Self::Exec(_) | Self::Attach(_))
    }
}

/// The arguments of the process with the word `run` put in where the short form leaves it out.
///
/// The first argument that is no global option decides: a command's name is the long form, anything else, also a flag
/// of `run`, is the short one. A lone `-h` asks for help; with more behind it, it is `run`'s `--hostname`.
pub fn with_command(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        let Some(text) = argument.to_str() else {
            arguments.insert(at, "run".into());
            break;
        };
        let is_global = |name: &&str| text.strip_prefix(*name).is_some_and(|value| value.starts_with('='));
        match text {
            "-q" | "--quiet" => at += 1,
            _ if GLOBAL_WITH_VALUE.contains(&text) => at += 2,
            _ if GLOBAL_WITH_VALUE.iter().any(is_global) => at += 1,
            "-h" if arguments.len() == at + 1 => {
                arguments[at] = "--help".into();
                break;
            }
            "--help" | "--version" | "-V" => break,
            _ if COMMANDS.contains(&text) => break,
            _ => {
                arguments.insert(at, "run".into());
                break;
            }
        }
    }
    arguments
}

/// podman's rule for names: they become names of files.
pub(crate) fn container_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && text.len() <= 128 {
        return Ok(text.into());
    }
    Err("a name has up to 128 letters, digits and any of '_.-', and begins with a letter or digit".into())
}
