//! What every subcommand works with: the environment, the store, and how to print.

use std::io::{IsTerminal, Stdout};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use lrun::userns::Mapping;
use lstore::{Durability, Lost, Placement, Store};
use serde_json::Value;

use crate::env::Environment;
use crate::global::{Global, PlacementArgument};
use crate::output::{Format, Output};
use crate::report::{self, Failure};

/// The name under which failures and warnings are told.
pub const PROGRAM: &str = "lstore";

/// A process that has entered the store's user namespace.
#[derive(Debug)]
pub struct Context {
    /// The variables of the process.
    pub environment: Environment,
    /// Global options.
    pub global: Global,
    /// The ids that the process has now.
    pub mapping: Mapping,
    /// Where the store is.
    pub root: PathBuf,
}

impl Context {
    /// Finds the store and enters the user namespace in which its files have their true owners.
    ///
    /// # Errors
    /// No place for a store is known; the namespace is refused.
    pub fn enter(global: Global) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let is_root = rustix::process::geteuid().is_root();
        let root = environment.store_root(global.root.as_deref(), is_root)?;
        let root = std::path::absolute(root)?;
        let mapping = lrun::userns::enter()?;
        Ok(Self { environment, global, mapping, root })
    }

    /// Opens the store, making it where it is missing: for commands that bring an image.
    ///
    /// # Errors
    /// Those of [`Store::open`]; limits that are none.
    pub fn store(&self, durability: Durability) -> Result<Store, Failure> {
        self.opened(Store::open(&self.root, durability)?)
    }

    /// Opens the store for a command that changes it without need of a sync; `None` where there is none yet.
    ///
    /// # Errors
    /// Those of [`Store::find_to_change`]; limits that are none.
    pub fn found_to_change(&self) -> Result<Option<Store>, Failure> {
        let found = Store::find_to_change(&self.root, Durability::Consistent)?;
        found.map(|store| self.opened(store)).transpose()
    }

    /// Opens the store for a command that only reads; `None` where there is none yet.
    ///
    /// # Errors
    /// Those of [`Store::find`]; limits that are none.
    pub fn found(&self) -> Result<Option<Store>, Failure> {
        Store::find(&self.root, Durability::Consistent)?.map(|store| self.opened(store)).transpose()
    }

    /// Opens the store to change something about an image, which is not known where there is no store.
    ///
    /// # Errors
    /// Those of [`Self::found_to_change`]; [`lstore::Error::ImageNotFound`].
    pub fn found_with(&self, image: &str) -> Result<Store, Failure> {
        Ok(self.found_to_change()?.ok_or_else(|| lstore::Error::ImageNotFound(image.to_owned()))?)
    }

    fn opened(&self, store: Store) -> Result<Store, Failure> {
        if let (Some(kind), false) = (store.shared_file_system()?, self.global.quiet) {
            report::warn(PROGRAM, &one_machine(kind), &mut std::io::stderr());
        }
        if !store.forgotten().is_empty() && !self.global.quiet {
            let count = store.forgotten().len();
            let said = format!(
                "{count} layers were torn when this machine went down, and are fetched again when they are needed; \
                 `lstore images` shows which images are incomplete"
            );
            report::warn(PROGRAM, &said, &mut std::io::stderr());
        }
        Ok(store.with_limits(self.environment.limits()?))
    }

    /// The placement that was forced, if any.
    pub fn forced_placement(&self) -> Option<Placement> {
        self.global.placement.map(placement)
    }

    /// Standard output.
    pub fn output(&self) -> Output<Stdout> {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        Output::new(stdout, is_terminal)
    }

    /// Says what of an image could not be made here.
    pub fn tell_lost(&self, lost: &Lost) {
        if self.global.quiet {
            return;
        }
        for sentence in lost.sentences() {
            report::warn(PROGRAM, &sentence, &mut std::io::stderr());
        }
    }
}

/// What holds for a store on a file system that several machines can have mounted.
pub fn one_machine(kind: &str) -> String {
    format!("the store is on {kind}: only one machine may use it, as its locks do not hold on others")
}

/// The library's word for an argument.
pub fn placement(argument: PlacementArgument) -> Placement {
    match argument {
        PlacementArgument::Stub => Placement::Stub,
        PlacementArgument::Hardlink => Placement::Hardlink,
        PlacementArgument::Reflink => Placement::Reflink,
        PlacementArgument::Copy => Placement::Copy,
    }
}

/// Seconds since 1970; a clock that stands before that counts as 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Prints one value: by `--format` where it was given, else as `plain` has it.
///
/// # Errors
/// A template with a mistake, or standard output that cannot be written.
pub fn print(
    context: &Context,
    format: Option<&str>,
    value: &Value,
    plain: impl FnOnce(&mut Output<Stdout>) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let mut output = context.output();
    match format {
        Some(format) => output.item(value, &Format::parse(format)?)?,
        None => plain(&mut output)?,
    }
    Ok(output.flush()?)
}
