//! What is said about images that are here.

use clap::Args;

use super::FormatArgument;

/// `lstore images`.
#[derive(Args, Debug)]
pub struct ImagesArguments {
    /// List images without a name too
    #[arg(short, long)]
    pub all: bool,
    /// Show digests of manifests
    #[arg(long)]
    pub digests: bool,
    /// Show ids in full length
    #[arg(long)]
    pub no_trunc: bool,
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}

/// `lstore inspect`.
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// Print a Go template instead of JSON
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Names or ids of images
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// `lstore tag`.
#[derive(Args, Debug)]
pub struct TagArguments {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Names to give it
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// `lstore rmi`.
#[derive(Args, Debug)]
pub struct RmiArguments {
    /// Remove images with all their names, and containers that use them, running ones too; ignore images that are not here
    #[arg(short, long)]
    pub force: bool,
    /// Remove all images
    #[arg(short, long, conflicts_with = "images")]
    pub all: bool,
    /// Names or ids of images
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    pub images: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: FormatArgument,
}
