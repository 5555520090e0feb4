//! Which containers a command is about, and what it says of each.

use std::io::Write;
use std::path::Path;

use lrun::state::{Containers, Found, StateError};

use super::PROGRAM;
use super::args::{One, Which};
use crate::exit::Exit;
use crate::report::{self, Failure};

/// The containers of a store.
pub(super) fn containers(store: &Path) -> Containers {
    Containers::within(store.join("containers"))
}

/// The container that was made last.
pub(super) fn latest(containers: &Containers) -> Result<Found, Failure> {
    Ok(containers.all().into_iter().next().ok_or("there is no container yet")?)
}

/// A container that was asked for by what is first, or what became of it.
pub(super) type Selected = (String, Result<Found, StateError>);

impl Which {
    /// Looks them up; an unknown one is for the caller to tell.
    pub(super) fn select(&self, containers: &Containers) -> Result<Vec<Selected>, Failure> {
        let named = |found: Found| (found.name.clone(), Ok(found));
        if self.all {
            return Ok(containers.all().into_iter().map(named).collect());
        }
        if self.latest {
            return Ok(vec![named(latest(containers)?)]);
        }
        if self.containers.is_empty() {
            return Err("name a container, or give --latest or --all".into());
        }
        Ok(self.containers.iter().map(|wanted| (wanted.clone(), containers.find(wanted))).collect())
    }
}

impl One {
    /// Looks it up.
    pub(super) fn select(&self, containers: &Containers) -> Result<Found, Failure> {
        match &self.container {
            Some(wanted) => Ok(containers.find(wanted)?),
            None => latest(containers),
        }
    }
}

/// Does something with each container, telling what it was called when done; the last failure is the result, after all were
/// tried and the others told.
pub(super) fn each(
    selected: Vec<Selected>,
    mut work: impl FnMut(Found) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let mut failed: Option<Failure> = None;
    for (wanted, found) in selected {
        match found.map_err(Failure::from).and_then(&mut work) {
            Ok(()) => writeln!(std::io::stdout(), "{wanted}")?,
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    let _ = writeln!(std::io::stderr(), "{}", report::line(PROGRAM, earlier.error.as_ref()));
                }
            }
        }
    }
    failed.map_or(Ok(Exit::SUCCESS), Err)
}
