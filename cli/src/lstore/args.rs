//! The command line of `lstore`: what was said. Nothing here looks at the system.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

mod images;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::images::*;
pub use self::transfer::*;
use crate::global::Global;

const EXAMPLES: &str = "\
Examples:
  lstore pull debian:12                   fetch an image, keep each content once
  lstore images                           list what is here
  lstore checkout debian:12 rootfs        write its files into a directory
  lstore du                               see what each image costs
  lstore rmi debian:12 && lstore gc       forget it, then free the space

Environment:
  LSTORE_ROOT, XDG_DATA_HOME              where the store is
  REGISTRY_AUTH_FILE, DOCKER_CONFIG       where credentials are
  HTTPS_PROXY, NO_PROXY and their kin     through whom registries are reached
  LSTORE_MIN_RATE                         how slowly an image may come
  NO_COLOR                                no colours";

/// Container images, every file content kept once
#[derive(Parser, Debug)]
#[command(name = "lstore", version, after_help = EXAMPLES, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Lstore {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: LstoreCommand,
}

/// What `lstore` can do.
#[derive(Subcommand, Debug)]
pub enum LstoreCommand {
    /// Fetch images from a registry
    #[command(after_help = "\
Examples:
  lstore pull debian:12                             from Docker Hub
  lstore pull ghcr.io/org/app@sha256:0123…          exactly this manifest
  lstore pull --platform linux/arm64 alpine:3.20    for another machine
  lstore pull --tls-verify=false reg.lan:5000/app   from a registry with plain HTTP
  id=$(lstore pull -q debian:12)                    print only the id")]
    Pull(PullArguments),

    /// List images
    #[command(after_help = "\
Examples:
  lstore images
  lstore images -q                                       ids only
  lstore images --format json
  lstore images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
  lstore images --format 'table {{.ID}}\\t{{.CreatedSince}}'")]
    Images(ImagesArguments),

    /// Show everything known about images
    #[command(after_help = "\
Examples:
  lstore inspect debian:12
  lstore inspect --format '{{.Config.Cmd}}' debian:12
  lstore inspect --format '{{index .Config.Labels \"version\"}}' app:1
  lstore inspect --format '{{range .Config.Env}}{{println .}}{{end}}' app:1")]
    Inspect(InspectArguments),

    /// Give an image more names
    #[command(after_help = "\
Examples:
  lstore tag debian:12 base:stable
  lstore tag 4c0b0a5a1e59 registry.lan/base:1 registry.lan/base:latest")]
    Tag(TagArguments),

    /// Remove names of images, and images without a name
    #[command(after_help = "\
Examples:
  lstore rmi debian:12         the name; the image too if it was the last one
  lstore rmi -f 4c0b0a5a1e59   the image with all its names
  lstore rmi -a                all images

The space is freed by 'lstore gc'.")]
    Rmi(RmiArguments),

    /// Free the space of what no image and no container needs
    #[command(after_help = "\
Examples:
  lstore gc --dry-run   show what would be freed
  lstore gc             safe beside pulls and running containers
  lstore gc --cold      the smallest store: for images that are not started for a while")]
    Gc(GcArguments),

    /// Prove that the store holds what the manifests named
    #[command(after_help = "\
Examples:
  lstore fsck                 derive each layer's diff ID again from the pool
  lstore fsck --repair        take damaged parts out of use, so that a pull brings them anew
  lstore fsck --format json")]
    Fsck(FsckArguments),

    /// Show what images cost: logical, exclusive, shared and reclaimable bytes
    #[command(after_help = "\
Examples:
  lstore du
  lstore du --format json
  lstore du --format '{{.Name}} {{.Exclusive}}'")]
    Du(ReportArguments),

    /// Show the store's paths, its placement and why, the id mapping and kernel features
    #[command(after_help = "\
Examples:
  lstore info
  lstore info --format '{{.Placement}}'")]
    Info(ReportArguments),

    /// Make an image of a tar archive, an image archive or an OCI layout
    #[command(after_help = "\
Examples:
  lstore import rootfs.tar base:1
  tar -C rootfs -c . | lstore import - base:1
  docker save app:1 | lstore import -
  lstore import oci-layout/ app:1
  lstore import -c 'CMD [\"/bin/bash\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar base:1")]
    Import(ImportArguments),

    /// Write the files of an image, or one of its layers, as a tar archive
    #[command(after_help = "\
Examples:
  lstore export debian:12 > rootfs.tar
  lstore export -o rootfs.tar debian:12
  lstore export --layer sha256:9fee… | sha256sum    the layer, bit for bit")]
    Export(ExportArguments),

    /// Write the files of an image into a new directory
    #[command(after_help = "\
Examples:
  lstore checkout debian:12 rootfs              independent and writable
  lstore checkout --hardlink debian:12 rootfs   instant; must not be changed
  lstore unshare rm -r rootfs                   remove one with other owners")]
    Checkout(CheckoutArguments),

    /// Run a command among the user ids of the store
    #[command(after_help = "\
Examples:
  lstore unshare rm -r rootfs     remove files that belong to ids of your range
  lstore unshare ls -ln rootfs    see owners as a container does
  lstore unshare                  a shell")]
    Unshare(UnshareArguments),

    /// Make the checkout that a container of an image needs
    #[command(
        hide = true,
        after_help = "\
Examples:
  lstore prepare debian:12"
    )]
    Prepare(PrepareArguments),

    /// Enter an image with one more layer than another, as 'lrun commit' gives it on standard input
    #[command(
        hide = true,
        after_help = "\
Examples:
  lrun commit box app:2"
    )]
    Commit(CommitImageArguments),

    /// Write the completion script of a shell
    #[command(
        hide = true,
        after_help = "\
Examples:
  lstore completions bash > ~/.local/share/bash-completion/completions/lstore"
    )]
    Completions(CompletionsArguments),

    /// Write the manual page, or all pages into a directory
    #[command(
        hide = true,
        after_help = "\
Examples:
  lstore man | man -l -
  lstore man /usr/local/share/man/man1"
    )]
    Man(ManArguments),
}

/// `--format`.
#[derive(Args, Debug, Default)]
pub struct FormatArgument {
    /// Print 'json', a Go template, or 'table TEMPLATE'
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// Commands that take nothing but `--format`.
#[derive(Args, Debug)]
pub struct ReportArguments {
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}

/// `lstore fsck`.
#[derive(Args, Debug)]
pub struct FsckArguments {
    /// Take what is damaged out of use; pulling the images again makes them whole
    #[arg(long)]
    pub repair: bool,
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}

/// `lstore gc`.
#[derive(Args, Debug)]
pub struct GcArguments {
    /// Only show what would be freed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Also remove checkouts that no container uses; the next run makes them again
    #[arg(long)]
    pub checkouts: bool,
    /// Also compress what no checkout shows then; implies --checkouts. The next run of an image unpacks it first
    #[arg(long)]
    pub cold: bool,
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}

/// `lstore unshare`.
#[derive(Args, Debug)]
pub struct UnshareArguments {
    /// Command and its arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `man`.
#[derive(Args, Debug)]
pub struct ManArguments {
    /// Existing directory for all pages [default: the main page on standard output]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::global::PlacementArgument;
    use crate::lstore::change::Change;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Lstore, clap::Error> {
        Lstore::try_parse_from(std::iter::once("lstore").chain(line.split_whitespace()))
    }

    /// The one line, without its end, that is told about a command line.
    fn refused(line: &str) -> String {
        let words: Vec<OsString> =
            std::iter::once("lstore").chain(line.split_whitespace()).map(OsString::from).collect();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let parsed = crate::report::parse::<Lstore>(&words, Exit::USAGE, false, &mut stdout, &mut stderr);
        assert_eq!(parsed.err(), Some(Exit::USAGE));
        assert_eq!(stdout, b"");
        String::from_utf8(stderr).unwrap().trim_end().to_owned()
    }

    #[test]
    fn the_definition_is_consistent() {
        Lstore::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        let mut lstore = Lstore::command();
        lstore.build();
        for command in lstore.get_subcommands() {
            let help = command.clone().render_help().to_string();
            let name = command.get_name();
            assert!(help.contains("Examples:\n  "), "{name}");
            assert!(help.contains(&format!("lstore {name}")), "{name}");
        }
        let help = Lstore::command().render_help().to_string();
        assert!(help.contains("lstore pull debian:12") && help.contains("LSTORE_ROOT"));
        assert!(!help.contains("completions"));
    }

    #[test]
    fn pull_takes_its_flags_before_and_after_the_command() {
        let parsed = parse(
            "--root /s pull --platform linux/arm64 --tls-verify=false --sync --authfile a.json -q --placement copy x y",
        )
        .unwrap();
        assert_eq!(parsed.global.root, Some("/s".into()));
        assert!(parsed.global.quiet);
        assert_eq!(parsed.global.placement, Some(PlacementArgument::Copy));
        let LstoreCommand::Pull(pull) = parsed.command else {
            panic!("not a pull");
        };
        assert!(pull.sync && !pull.registry.tls_verify);
        assert_eq!(pull.registry.platform.as_deref(), Some("linux/arm64"));
        assert_eq!(pull.references, ["x", "y"]);
    }

    #[test]
    fn certificates_are_verified_unless_told_otherwise() {
        for (line, expected) in [
            ("pull x", true),
            ("pull --tls-verify x", true),
            ("pull --tls-verify=true x", true),
            ("pull --tls-verify=false x", false),
        ] {
            let LstoreCommand::Pull(pull) = parse(line).unwrap().command else {
                panic!("not a pull");
            };
            assert_eq!(pull.registry.tls_verify, expected, "{line}");
            assert_eq!(pull.references, ["x"]);
        }
    }

    #[test]
    fn changes_are_checked_at_once() {
        let parsed =
            Lstore::try_parse_from(["lstore", "import", "-c", "CMD [\"sh\"]", "--change", "LABEL=a=b", "-", "n"]);
        let LstoreCommand::Import(import) = parsed.unwrap().command else {
            panic!("not an import");
        };
        assert_eq!(import.changes, [Change::Cmd(vec!["sh".into()]), Change::Label("a".into(), "b".into())]);
        assert_eq!(
            refused("import -c FOO=x - n"),
            "lstore: invalid value 'FOO=x' for '--change <INSTRUCTION>': unknown instruction \"FOO\"; \
             known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR; see 'lstore import --help'"
        );
    }

    #[test]
    fn a_command_in_the_namespace_keeps_its_own_flags() {
        for line in ["unshare -- rm -r --force x", "unshare rm -r --force x"] {
            let LstoreCommand::Unshare(unshare) = parse(line).unwrap().command else {
                panic!("not an unshare");
            };
            assert_eq!(unshare.command, ["rm", "-r", "--force", "x"]);
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_is_refused_in_one_line() {
        for (line, expected) in [
            ("pull", "the following required arguments were not provided: <REF>..."),
            ("rmi", "the following required arguments were not provided: <IMAGE>..."),
            ("rmi -a x", "the argument '--all' cannot be used with '[IMAGE]...'"),
            ("export", "the following required arguments were not provided: <IMAGE>"),
            ("export --layer x y", "the argument '--layer <DIFFID>' cannot be used with '[IMAGE]'"),
            ("pul x", "unrecognized subcommand 'pul'; a similar subcommand exists: 'pull'"),
            ("pull --bogus x", "unexpected argument '--bogus' found"),
        ] {
            let command = line.split_whitespace().next().unwrap();
            let help = if command == "pul" { "" } else { command };
            let help = format!("lstore {help} --help").replace("  ", " ");
            assert_eq!(refused(line), format!("lstore: {expected}; see '{help}'"));
        }
    }

    #[test]
    fn flags_of_podman_scripts_are_tolerated_before_and_after() {
        assert!(parse("--log-level debug images").is_ok());
        assert!(parse("images --log-level=warning -aq --digests --no-trunc --format json").is_ok());
        assert!(parse("images --log-level=loud").is_err());
    }

    #[test]
    fn pages_and_completions_can_be_made() {
        let mut page = Vec::new();
        crate::manual::page(Lstore::command(), &mut page).unwrap();
        assert!(String::from_utf8(page).unwrap().contains(".TH lstore 1"));
        let mut script = Vec::new();
        crate::manual::completions(Lstore::command(), Shell::Bash, &mut script).unwrap();
        assert!(String::from_utf8(script).unwrap().contains("checkout"));
        let directory = tempfile::tempdir().unwrap();
        crate::manual::pages(Lstore::command(), directory.path()).unwrap();
        assert!(directory.path().join("lstore-pull.1").exists());
    }
}
