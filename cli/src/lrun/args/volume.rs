//! The command lines of `lrun volume`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use clap::{Args, Subcommand};

use super::container_name;

/// What `lrun volume` can do.
#[derive(Subcommand, Debug)]
pub enum VolumeCommand {
    /// Make a volume, and print its name
    #[command(after_help = "\
Examples:
  lrun volume create data
  lrun volume create --label job=7 --ignore cache

The first container that mounts it puts in what its image has there.")]
    Create(VolumeCreateArguments),

    /// List volumes
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  lrun volume ls
  lrun volume ls -q --filter dangling=true
  lrun volume ls --format '{{.Name}} {{.Mountpoint}}'"
    )]
    Ls(VolumeListArguments),

    /// Show all that is known of volumes, as JSON
    #[command(after_help = "\
Examples:
  lrun volume inspect data
  lrun volume inspect --format '{{.Mountpoint}}' data")]
    Inspect(VolumeInspectArguments),

    /// Remove volumes that no container uses
    #[command(after_help = "\
Examples:
  lrun volume rm data cache
  lrun volume rm -f data     with the containers that use it

Exit status: 1 if a volume was not there, 2 if one is in use, 125 for other failures.")]
    Rm(VolumeRemoveArguments),

    /// Remove all volumes that no container uses
    #[command(after_help = "\
Examples:
  lrun volume prune
  lrun volume prune -f --filter anonymous=true")]
    Prune(VolumePruneArguments),

    /// Tell by the exit status whether a volume is there: 0 or 1
    #[command(after_help = "\
Examples:
  lrun volume exists data || lrun volume create data")]
    Exists(VolumeExistsArguments),
}

/// `lrun volume create`.
#[derive(Args, Debug)]
pub struct VolumeCreateArguments {
    /// Attach a label
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,

    /// One that is there is no error
    #[arg(long)]
    pub ignore: bool,

    /// Its name; random without
    #[arg(value_name = "NAME", value_parser = container_name)]
    pub name: Option<String>,
}

/// `lrun volume ls`.
#[derive(Args, Debug)]
pub struct VolumeListArguments {
    /// Only those for which NAME is VALUE: name, label, dangling, anonymous
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,

    /// Print with a template of Go's, or as json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Leave the headings out
    #[arg(short, long)]
    pub noheading: bool,
}

/// `lrun volume inspect`.
#[derive(Args, Debug)]
pub struct VolumeInspectArguments {
    /// All of them
    #[arg(short, long, conflicts_with = "volumes")]
    pub all: bool,

    /// Print with a template of Go's, or as json
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,

    /// Names of volumes
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    pub volumes: Vec<String>,
}

/// `lrun volume rm`.
#[derive(Args, Debug)]
pub struct VolumeRemoveArguments {
    /// Also end and remove the containers that use it; what is not there is no error
    #[arg(short, long)]
    pub force: bool,

    /// Seconds to wait before a container is killed, with --force [default: what it was made with, else 10]
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS", requires = "force")]
    pub time: Option<u64>,

    /// All of them
    #[arg(short, long, conflicts_with = "volumes")]
    pub all: bool,

    /// Names of volumes
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    pub volumes: Vec<String>,
}

/// `lrun volume prune`.
#[derive(Args, Debug)]
pub struct VolumePruneArguments {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,

    /// Only those for which NAME is VALUE: name, label, anonymous
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
}

/// `lrun volume exists`.
#[derive(Args, Debug)]
pub struct VolumeExistsArguments {
    /// Name of the volume
    #[arg(value_name = "VOLUME")]
    pub volume: String,
}

fn filter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    match (name, value) {
        ("name" | "label", _) | ("dangling" | "anonymous", "true" | "false") => Ok((name.into(), value.into())),
        ("dangling" | "anonymous", _) => Err("it is true or false".into()),
        _ => Err("known are name, label, dangling and anonymous".into()),
    }
}
