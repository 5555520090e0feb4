//! Which containers a command is about, and what it says of each.

use std::io::Write;
use std::path::Path;

use lrun::health::Health;
use lrun::state::{Containers, Found, StateError, Status};

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
        if !self.filters.is_empty() {
            let wanted = containers.all().into_iter().filter(|found| is_wanted(found, &self.filters));
            return Ok(wanted.map(named).collect());
        }
        if self.all {
            return Ok(containers.all().into_iter().map(named).collect());
        }
        if self.latest {
            return Ok(vec![named(latest(containers)?)]);
        }
        let mut wanted = self.containers.clone();
        for file in &self.cidfile {
            let text =
                std::fs::read_to_string(file).map_err(|error| format!("--cidfile {}: {error}", file.display()))?;
            wanted.push(text.lines().next().unwrap_or_default().to_owned());
        }
        if wanted.is_empty() {
            return Err("name a container, or give --latest or --all".into());
        }
        Ok(wanted.iter().map(|wanted| (wanted.clone(), containers.find(wanted))).collect())
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

/// Of several values for one name, one must hold, but all labels; all names must hold.
pub(super) fn is_wanted(found: &Found, filters: &[(String, String)]) -> bool {
    let record = &found.record;
    let holds = |name: &str, value: &str| match name {
        "id" => record.id.starts_with(value),
        "name" => found.name.contains(value),
        "status" => record.status().name() == value || value == "stopped" && record.status() == Status::Exited,
        "exited" => record.status() == Status::Exited && record.exit().is_some_and(|code| code.to_string() == value),
        "health" => match &record.health {
            Some(_) => Health::read(&found.path).status.name() == value,
            None => value == "none",
        },
        "ancestor" => {
            let id = value.strip_prefix("sha256:").unwrap_or(value);
            let is_id = id.len() >= 3 && record.image_id.starts_with(id);
            is_id
                || record.image == value
                || record.image.rsplit_once(':').is_some_and(|(repository, _)| repository == value)
        }
        _ => match value.split_once('=') {
            Some((key, wanted)) => record.labels.get(key).is_some_and(|label| label == wanted),
            None => record.labels.contains_key(value),
        },
    };
    filters.iter().all(|(name, value)| {
        if name == "label" {
            return holds(name, value);
        }
        filters.iter().filter(|(other, _)| other == name).any(|(name, value)| holds(name, value))
    })
}
