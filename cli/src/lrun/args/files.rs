//! The command lines of what is done with the files of containers.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use clap::Args;

/// `lrun cp`.
#[derive(Args, Debug)]
pub struct CopyArguments {
    /// Give what goes into a container to its user; false leaves it to the ids that it has
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub archive: bool,

    /// What to copy
    #[arg(value_name = "[CONTAINER:]SOURCE")]
    pub source: String,

    /// Where to
    #[arg(value_name = "[CONTAINER:]DESTINATION")]
    pub destination: String,
}
