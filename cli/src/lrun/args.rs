//! The command line of `lrun`: what was said. Nothing here looks at the system.
//!
//! `lrun IMAGE` is short for `lrun run IMAGE`: [`with_command`] puts the word in. The flags of `run` are podman's, with
//! podman's meaning; one that cannot be honoured does not exist, so that it is refused and never ignored.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::global::{Global, RegistryArguments};
use crate::lstore::args::{CompletionsArguments, ManArguments, ReportArguments};

/// Subcommands; an image with such a name is run by `lrun run NAME`.
const COMMANDS: [&str; 7] = ["run", "exec", "stop", "rm", "info", "completions", "man"];

/// Options of [`Global`] that are followed by a value.
const GLOBAL_WITH_VALUE: [&str; 3] = ["--root", "--placement", "--log-level"];

const EXAMPLES: &str = "\
Examples:
  lrun --rm -it debian:12                     a shell in a new container; pulled if needed
  lrun --rm -v .:/src -w /src gcc:14 make     build what is in the working directory
  lrun --rm --network host debian:12 apt-get update
  lrun info                                   what this machine allows

'lrun IMAGE' is short for 'lrun run IMAGE', whose flags 'lrun run --help' explains.
An image that is named like a command, such as 'info', needs the long form.

Environment:
  LSTORE_ROOT, XDG_DATA_HOME                  where the store is";

const RUN_EXAMPLES: &str = "\
Examples:
  lrun run --rm -it debian:12 bash
  lrun run --rm -v ./src:/src:ro -w /src --tmpfs /tmp debian:12 make test
  lrun run --rm -e LANG=C.UTF-8 --env-file ci.env -u 1000:1000 app:1
  lrun run --rm --read-only --cap-drop ALL --security-opt no-new-privileges app:1
  lrun run --rm --rootfs ./rootfs /bin/sh     over a directory instead of an image

Flags end at the image: what follows it belongs to the command in the container.

Exit status: that of the command; 128+n if signal n killed it; 127 if it was not found,
126 if it cannot be executed, 125 if the container could not be started.";

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

    /// Run a further command in a running container
    #[command(
        after_help = "\
Examples:
  lrun exec -it web bash
  lrun exec -u 0 -w /tmp -e DEBUG=1 web env

Exit status: as for 'lrun run'.",
        override_usage = "lrun exec [OPTIONS] CONTAINER COMMAND…"
    )]
    Exec(ExecArguments),

    /// Ask containers to end, and end those that do not
    #[command(after_help = "\
Examples:
  lrun stop web
  lrun stop -t 1 web db")]
    Stop(StopArguments),

    /// Remove containers that have ended
    #[command(after_help = "\
Examples:
  lrun rm web
  lrun rm -f web        also if it runs")]
    Rm(RemoveArguments),

    /// Show what the kernel and the system allow, and what is missing
    #[command(after_help = "\
Examples:
  lrun info
  lrun info --format json")]
    Info(ReportArguments),

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

/// `lrun run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Let the container run in the background, print its name, and keep what it writes in its log
    #[arg(short, long, conflicts_with = "rootfs")]
    pub detach: bool,

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

/// podman's rule for names: they become names of files.
fn container_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && text.len() <= 128 {
        return Ok(text.into());
    }
    Err("a name has up to 128 letters, digits and any of '_.-', and begins with a letter or digit".into())
}

/// What sethostname(2) takes: up to 64 bytes.
fn host_name(text: &str) -> Result<String, String> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=64).contains(&text.len()) && is_visible {
        return Ok(text.into());
    }
    Err("a host name has 1 to 64 visible ASCII characters".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use clap::CommandFactory as _;

    fn parse(words: &[&str]) -> Result<Lrun, clap::Error> {
        let words = std::iter::once("lrun").chain(words.iter().copied());
        Lrun::try_parse_from(with_command(words.map(OsString::from)))
    }

    fn run(words: &[&str]) -> RunArguments {
        match parse(words).unwrap().command {
            LrunCommand::Run(run) => *run,
            other => panic!("not a run: {other:?}"),
        }
    }

    /// The one line that is told about a command line.
    fn refused(words: &[&str]) -> String {
        let words = std::iter::once("lrun").chain(words.iter().copied());
        let words = with_command(words.map(OsString::from));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let parsed = crate::report::parse::<Lrun>(&words, Exit::RUNNER, false, &mut stdout, &mut stderr);
        assert_eq!(parsed.err(), Some(Exit::RUNNER));
        assert_eq!(stdout, b"");
        String::from_utf8(stderr).unwrap().trim_end().to_owned()
    }

    #[test]
    fn the_definition_is_consistent() {
        Lrun::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        let mut lrun = Lrun::command();
        lrun.build();
        for command in lrun.get_subcommands() {
            let help = command.clone().render_help().to_string();
            let name = command.get_name();
            assert!(help.contains(&format!("Examples:\n  lrun {name}")), "{name}");
        }
        let help = Lrun::command().render_help().to_string();
        assert!(help.contains("short for 'lrun run IMAGE'"));
    }

    #[test]
    fn flags_end_at_the_image() {
        let run = run(&["run", "--rm", "debian:12", "ls", "--rm", "-it", "--", "-x"]);
        assert!(run.rm && !run.tty);
        assert_eq!(run.image(), "debian:12");
        assert_eq!(run.command(), ["ls", "--rm", "-it", "--", "-x"]);
    }

    #[test]
    fn a_command_may_begin_with_a_flag_or_be_empty() {
        assert_eq!(run(&["run", "i", "-c", "x"]).command(), ["-c", "x"]);
        assert_eq!(run(&["run", "i", "--help"]).command(), ["--help"]);
        assert_eq!(run(&["run", "i", "--root", "x"]).command(), ["--root", "x"]);
        assert_eq!(run(&["run", "i", ""]).command(), [""]);
        assert_eq!(run(&["run", "i"]).command(), [""; 0]);
        assert_eq!(run(&["run", "--", "i", "--", "x"]).command(), ["--", "x"]);
    }

    #[test]
    fn the_short_form_is_the_long_one() {
        for words in [
            &["debian", "ls", "-l"][..],
            &["run", "debian", "ls", "-l"],
            &["--root", "/s", "debian", "ls", "-l"],
            &["--root=/s", "-q", "run", "debian", "ls", "-l"],
            &["--", "debian", "ls", "-l"],
        ] {
            let run = run(words);
            assert_eq!(run.image(), "debian", "{words:?}");
            assert_eq!(run.command(), ["ls", "-l"]);
        }
        let short = run(&["--rm", "-it", "-h", "box", "debian"]);
        assert!(short.rm && short.interactive && short.tty);
        assert_eq!(short.hostname.as_deref(), Some("box"));
    }

    #[test]
    fn an_image_named_like_a_command_needs_the_long_form() {
        assert_eq!(run(&["run", "run"]).image(), "run");
        assert_eq!(run(&["run", "info"]).image(), "info");
        assert_eq!(run(&["--rm", "info"]).image(), "info");
        assert!(matches!(parse(&["info"]).unwrap().command, LrunCommand::Info(_)));
    }

    #[test]
    fn help_can_be_asked_for_in_every_way() {
        use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
        for (words, kind) in [
            (&[][..], DisplayHelpOnMissingArgumentOrSubcommand),
            (&["-h"], DisplayHelp),
            (&["--help"], DisplayHelp),
            (&["run", "--help"], DisplayHelp),
            (&["--rm", "--help"], DisplayHelp),
            (&["--version"], DisplayVersion),
        ] {
            assert_eq!(parse(words).unwrap_err().kind(), kind, "{words:?}");
        }
    }

    #[test]
    fn help_goes_to_standard_output_and_is_no_failure() {
        let words = ["lrun", "run", "--help"].map(OsString::from);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let parsed = crate::report::parse::<Lrun>(&words, Exit::RUNNER, false, &mut stdout, &mut stderr);
        assert_eq!(parsed.err(), Some(Exit::SUCCESS));
        assert_eq!(stderr, b"");
        let help = String::from_utf8(stdout).unwrap();
        assert!(help.contains("--network <host|none>") && !help.contains('\u{1b}'));
    }

    #[test]
    fn every_flag_of_podman_that_is_there_has_podmans_form() {
        let run = run(&[
            "run",
            "-e",
            "A=1",
            "--env=B",
            "--env-file",
            "f",
            "-v",
            "/a:/b:ro",
            "--mount",
            "type=tmpfs,dst=/x",
            "--tmpfs",
            "/t",
            "-w",
            "/w",
            "-u",
            "1:2",
            "--name",
            "n",
            "--hostname",
            "h",
            "--entrypoint",
            "[\"a\",\"b\"]",
            "--read-only",
            "--net",
            "host",
            "--cap-add",
            "CHOWN,KILL",
            "--cap-drop=ALL",
            "--security-opt",
            "label=disable",
            "--init",
            "--userns",
            "keep-id",
            "--pids-limit=-1",
            "--pull",
            "never",
            "--platform",
            "linux/amd64",
            "--tls-verify=false",
            "--placement",
            "copy",
            "i",
        ]);
        assert_eq!(run.env, ["A=1", "B"]);
        assert_eq!(run.network, NetworkArgument::Host);
        assert_eq!(run.cap_add, ["CHOWN", "KILL"]);
        assert_eq!(run.userns, UserNamespaceArgument::KeepId);
        assert_eq!(run.pull, PullPolicy::Never);
        assert_eq!(run.entrypoint(), Some(vec!["a".into(), "b".into()]));
        assert_eq!(run.user.as_deref(), Some("1:2"));
    }

    #[test]
    fn nothing_said_is_a_private_container() {
        let run = run(&["i"]);
        assert_eq!(run.network, NetworkArgument::None);
        assert_eq!(run.userns, UserNamespaceArgument::Auto);
        assert_eq!(run.pull, PullPolicy::Missing);
        assert_eq!(run.entrypoint(), None);
        assert!(run.registry.tls_verify && !run.read_only && !run.rootfs);
    }

    #[test]
    fn an_entrypoint_is_a_program_an_array_or_nothing() {
        let entrypoint = |text: &str| run(&["--entrypoint", text, "i"]).entrypoint().unwrap();
        assert_eq!(entrypoint("/bin/sh"), ["/bin/sh"]);
        assert_eq!(entrypoint("a b"), ["a b"]);
        assert_eq!(entrypoint("[a"), ["[a"]);
        assert_eq!(entrypoint("[\"a\"]"), ["a"]);
        assert_eq!(entrypoint(""), [""; 0]);
    }

    #[test]
    fn a_directory_takes_the_place_of_an_image() {
        let run = run(&["run", "--rootfs", "./rootfs", "/bin/sh", "-c", "x"]);
        assert!(run.rootfs);
        assert_eq!(run.image(), "./rootfs");
        assert_eq!(run.command(), ["/bin/sh", "-c", "x"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_a_remedy() {
        for (words, expected) in [
            (&["--network", "bridge", "i"][..], "give 'host' to share the host's, or 'none'"),
            (&["--userns", "keep-id:size=65536", "i"], "unknown option specified: \"size\""),
            (&["--userns", "bogus", "i"], "give auto, host or keep-id"),
            (&["--pids-limit", "5", "i"], "give -1 or leave it out"),
            (&["--name", "a/b", "i"], "a name has up to 128"),
            (&["--hostname", "a b", "i"], "1 to 64 visible ASCII"),
            (&["--pull", "bogus", "i"], "[possible values: missing, always, never]"),
            (&["-d", "--rootfs", "i"], "cannot be used with"),
            (&["--privileged", "i"], "unexpected argument '--privileged' found"),
            (&["run"], "required arguments were not provided"),
        ] {
            let line = refused(words);
            assert!(line.contains(expected), "{line}");
            assert!(line.starts_with("lrun: ") && line.ends_with("; see 'lrun run --help'"));
            assert!(!line.contains('\n') && !line.contains("-- -"), "{line}");
        }
    }
}
