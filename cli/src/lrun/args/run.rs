//! The command line of `lrun run`: podman's flags with podman's meaning.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::container_name;
use super::create::CreateArguments;
use crate::global::RegistryArguments;

/// `lrun run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Let the container run in the background, print its id, and keep what it writes in its log
    #[arg(short, long, conflicts_with = "rootfs")]
    pub detach: bool,

    /// What a container is known by and how it is looked after.
    #[command(flatten)]
    pub create: CreateArguments,

    /// Remove the container when it has ended
    #[arg(long)]
    pub rm: bool,

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

    /// Bind a file or directory; OPTIONS: ro, noexec, nodev, suid, bind, [r]private|[r]slave|[r]shared, z, Z
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:OPTIONS]")]
    pub volumes: Vec<String>,

    /// Mount type=bind,source=PATH,target=PATH[,ro] or type=tmpfs,target=PATH[,tmpfs-size=64m]
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,

    /// Mount an empty file system in memory; OPTIONS: size=64m, mode=1777, ro, noexec, exec, suid, dev
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,

    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,

    /// Who runs the command: names or ids of the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Name of the container
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub name: Option<String>,

    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME", value_parser = host_name)]
    pub hostname: Option<String>,

    /// What the command is given to: a program, or a JSON array; empty for nothing
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,

    /// Make the image's files read-only
    #[arg(long)]
    pub read_only: bool,

    /// Share the host's network, or have none but lo
    #[arg(long, visible_alias = "net", value_name = "host|none", value_parser = network, default_value = "none", hide_default_value = false)]
    pub network: NetworkArgument,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    pub cap_add: Vec<String>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    pub cap_drop: Vec<String>,

    /// no-new-privileges, seccomp=FILE|unconfined, unmask=ALL|PATH:PATH, label=disable, apparmor=unconfined
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security: Vec<String>,

    /// Make PID 1 a small init that reaps processes and forwards signals
    #[arg(long)]
    pub init: bool,

    /// User namespace: auto (root is you), keep-id (you are you), host
    #[arg(long, value_name = "MODE", value_parser = user_namespace, default_value = "auto")]
    pub userns: UserNamespaceArgument,

    /// Start without the process that holds a mapped user namespace ready: some milliseconds slower
    #[arg(long)]
    pub no_holder: bool,

    /// Limit of processes; only -1, which is no limit
    #[arg(long, value_name = "N", value_parser = pids_limit, allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,

    /// IMAGE is the path of a directory
    #[arg(long)]
    pub rootfs: bool,

    /// When to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_possible_values = true)]
    pub pull: PullPolicy,

    /// How to pull it.
    #[command(flatten)]
    pub registry: RegistryArguments,

    /// Image, then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE", num_args = 1..)]
    pub words: Vec<OsString>,
}

impl RunArguments {
    /// The image, or with `--rootfs` the directory.
    pub fn image(&self) -> &OsString {
        // clap refuses a command line without words.
        &self.words[0]
    }

    /// The command that replaces the image's own, if any.
    pub fn command(&self) -> &[OsString] {
        &self.words[1..]
    }

    /// The entrypoint that replaces the image's: none said (`None`), none wanted (empty), or a program and arguments.
    ///
    /// As for podman a JSON array of strings gives several words; anything else is the name of a program.
    pub fn entrypoint(&self) -> Option<Vec<OsString>> {
        let text = self.entrypoint.as_ref()?;
        if text.is_empty() {
            return Some(Vec::new());
        }
        let words = text
            .to_str()
            .filter(|text| text.starts_with('['))
            .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
        Some(match words {
            Some(words) => words.into_iter().map(OsString::from).collect(),
            None => vec![text.clone()],
        })
    }
}

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkArgument {
    /// The host's.
    Host,
    /// One of its own with nothing but the loopback device.
    None,
}

/// How the ids of a container map to those of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespaceArgument {
    /// Root is the caller, other ids are the caller's subordinate ids.
    Auto,
    /// No user namespace beyond the one that gives the caller its subordinate ids.
    Host,
    /// The caller has the same id inside.
    KeepId,
}

/// When to pull the image of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// If it is not in the store.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

fn network(text: &str) -> Result<NetworkArgument, String> {
    match text {
        "host" => Ok(NetworkArgument::Host),
        "none" => Ok(NetworkArgument::None),
        _ => Err("there is no such network; give 'host' to share the host's, or 'none'".into()),
    }
}

fn user_namespace(text: &str) -> Result<UserNamespaceArgument, String> {
    match text {
        "" | "auto" | "private" => Ok(UserNamespaceArgument::Auto),
        "host" => Ok(UserNamespaceArgument::Host),
        "keep-id" => Ok(UserNamespaceArgument::KeepId),
        "nomap" => {
            Err("nomap is not supported: a container's files belong to the caller; give auto, host or keep-id".into())
        }
        _ => Err(match text.split_once(':') {
            // Distrobox recognises by these words a podman that lacks the option, and does without.
            Some((_, options)) => {
                let option = options.split_once('=').map_or(options, |(name, _)| name);
                format!("unknown option specified: {option:?}; the mode takes no options")
            }
            None => "there is no such mode; give auto, host or keep-id".into(),
        }),
    }
}

fn pids_limit(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(limit @ (-1 | 0)) => Ok(limit),
        _ => Err("there are no limits of processes; give -1 or leave it out".into()),
    }
}

/// What sethostname(2) takes: up to 64 bytes.
fn host_name(text: &str) -> Result<String, String> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=64).contains(&text.len()) && is_visible {
        return Ok(text.into());
    }
    Err("a host name has 1 to 64 visible ASCII characters".into())
}
