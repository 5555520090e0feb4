//! Arguments that both commands and all their subcommands take.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lstore::Platform;

use crate::rate::Rate;

/// Options that may stand before or after a subcommand.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the store [default: $LSTORE_ROOT, else $XDG_DATA_HOME/lstore; root: /var/lib/lstore]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Print ids only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// How files reach a tree: stub, hardlink, reflink or copy [default: the best that 'info' shows]
    #[arg(long, global = true, value_name = "HOW", hide_possible_values = true)]
    pub placement: Option<PlacementArgument>,

    /// Accepted for scripts that give it to podman; there is no log
    #[arg(long, global = true, value_name = "LEVEL", hide = true)]
    pub log_level: Option<LogLevel>,
}

/// The ways in which a tree can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlacementArgument {
    /// Small files that point into the pool, where Linux is 6.16 or later.
    Stub,
    /// Links to files that trees share.
    Hardlink,
    /// Files that share their blocks, on btrfs and XFS.
    Reflink,
    /// Files of their own.
    Copy,
}

/// podman's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are podman's, and mean nothing here")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    Error,
    Fatal,
    #[value(alias = "mute")]
    Panic,
}

/// How to reach a registry.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RegistryArguments {
    /// Choose another platform than this machine's from images for several, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["arch", "os", "variant"])]
    pub platform: Option<String>,

    /// The same, in part: the processor, as arm64
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,

    /// The same, in part: the system, as linux
    #[arg(long, value_name = "OS")]
    pub os: Option<String>,

    /// The same, in part: the kind of processor, as v7
    #[arg(long, value_name = "VARIANT", requires = "arch")]
    pub variant: Option<String>,

    /// Whether HTTPS with a certificate that can be verified is required; 'false' also allows plain HTTP
    #[arg(
        long,
        value_name = "true|false",
        hide_possible_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub tls_verify: bool,

    /// File with registry credentials [default: $REGISTRY_AUTH_FILE, else those of Podman, then Docker]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,

    /// Give up a source that sends fewer than BYTES a second over SECONDS; 0 waits [default: $LSTORE_MIN_RATE, else 1000:60]
    #[arg(long, value_name = "BYTES[:SECONDS]")]
    pub min_rate: Option<Rate>,
}

impl RegistryArguments {
    /// The platform that was chosen, whole or in parts; `None` for this machine's.
    pub fn platform(&self) -> Option<String> {
        if self.arch.is_none() && self.os.is_none() {
            return self.platform.clone();
        }
        let host = Platform::host();
        let os = self.os.clone().unwrap_or(host.os);
        let parts = [Some(os), Some(self.arch.clone().unwrap_or(host.architecture)), self.variant.clone()];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
    }
}
