//! The command lines of what is done with the files of containers.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::path::PathBuf;

use clap::Args;

use super::which::One;

/// `lrun cp`.
#[derive(Args, Debug)]
pub struct CopyArguments {
    /// Give what goes into a container to its user; false leaves it to the ids that it has
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub archive: bool,

    /// Replace directories by what is none, and the other way round
    #[arg(long)]
    pub overwrite: bool,

    /// What to copy; - for a tar from standard input
    #[arg(value_name = "[CONTAINER:]SOURCE")]
    pub source: String,

    /// Where to; - for a tar to standard output
    #[arg(value_name = "[CONTAINER:]DESTINATION")]
    pub destination: String,
}

/// `lrun diff`.
#[derive(Args, Debug)]
pub struct DiffArguments {
    /// Print as json
    #[arg(long, value_name = "json", value_parser = ["json"])]
    pub format: Option<String>,

    /// Which.
    #[command(flatten)]
    pub one: One,
}

/// `lrun export`.
#[derive(Args, Debug)]
pub struct ContainerExportArguments {
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// `lrun commit`.
#[derive(Args, Debug)]
pub struct CommitArguments {
    /// Who made the image
    #[arg(short, long, value_name = "AUTHOR")]
    pub author: Option<String>,

    /// Set CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR of the image; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,

    /// How the image is written down; only as the OCI has it
    #[arg(short, long, value_name = "FORM", value_parser = ["oci"], hide = true)]
    pub format: Option<String>,

    /// Whether a container that runs is stopped meanwhile; only not
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = not, hide = true)]
    pub pause: Option<bool>,

    /// Write the image's id into a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// A sentence for the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,

    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// Name of the image
    #[arg(value_name = "IMAGE[:TAG]")]
    pub image: String,
}

fn not(text: &str) -> Result<bool, String> {
    if text == "false" { Ok(false) } else { Err("pause it by 'lrun pause' before, if it is to stand still".into()) }
}
