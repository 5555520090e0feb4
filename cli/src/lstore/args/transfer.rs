//! What is said about images and files on their way into the store and out of it.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::path::PathBuf;

use clap::Args;
use lstore::IdShift;

use super::FormatArgument;
use crate::global::RegistryArguments;
use crate::lstore::change::Change;

/// `lstore pull`.
#[derive(Args, Debug)]
pub struct PullArguments {
    /// How to reach the registry.
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// Return only when the images are safe from a power cut
    #[arg(long)]
    pub sync: bool,
    /// Images: NAME[:TAG], NAME@DIGEST or REGISTRY/NAME…
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
}

/// `lstore import`.
#[derive(Args, Debug)]
pub struct ImportArguments {
    /// Platform of a plain tar archive, or the one to choose from an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Set CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR of a plain tar archive; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<Change>,
    /// Return only when the image is safe from a power cut
    #[arg(long)]
    pub sync: bool,
    /// Archive or directory; '-' is standard input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name of the image [default: the one in the archive, if any]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}

/// `lstore commit`.
#[derive(Args, Debug)]
pub struct CommitImageArguments {
    /// Id of the image with the other layers
    #[arg(long, value_name = "IMAGE")]
    pub base: String,
    /// Configuration, a JSON object
    #[arg(long, value_name = "JSON")]
    pub config: String,
    /// Who made it
    #[arg(long, value_name = "AUTHOR")]
    pub author: Option<String>,
    /// A sentence for its history
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Changes of the configuration
    #[arg(long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<Change>,
    /// File to write the id into
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `lstore export`.
#[derive(Args, Debug)]
pub struct ExportArguments {
    /// Write this layer as it was, instead of all files of an image
    #[arg(long, value_name = "DIFFID", conflicts_with = "image")]
    pub layer: Option<String>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name or id of the image
    #[arg(required_unless_present = "layer", value_name = "IMAGE")]
    pub image: Option<String>,
}

/// `lstore checkout`.
#[derive(Args, Debug)]
pub struct CheckoutArguments {
    /// Link the files of the pool instead of copying them; the directory must not be changed
    #[arg(long, conflicts_with = "placement")]
    pub hardlink: bool,
    /// Keep setuid and setgid bits and capabilities of programs, for root alone: whoever can reach them has their rights
    #[arg(long)]
    pub set_id: bool,
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Directory to make
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `lstore prepare`.
#[derive(Args, Debug)]
pub struct PrepareArguments {
    /// Ids that you have in the container
    #[arg(long, value_name = "UID:GID", default_value = "0:0")]
    pub caller: IdShift,
    /// Make nothing, and do not fail, where layers of the image are missing
    #[arg(long)]
    pub if_complete: bool,
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
}
