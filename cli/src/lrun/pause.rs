//! `lrun pause` and `lrun unpause`.

use lrun::state::{Containers, Found, Status};

use super::args::{PauseArguments, Which};
use super::control;
use super::select::{containers, each};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn pause(global: &Global, arguments: &PauseArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    change(global, &environment, &arguments.which, Status::Running, |found, containers| {
        match found.record.status() {
            Status::Running => {}
            Status::Paused => return Err(format!("{}: the container is already paused", found.name).into()),
            _ => return Err(format!("{}: the container is not running, can't pause", found.name).into()),
        }
        Ok(control::demand(found, containers, &environment)?.freeze().map_err(lrun::Error::from)?)
    })
}

pub(super) fn unpause(global: &Global, arguments: &PauseArguments) -> Result<Exit, Failure> {
    change(global, &Environment::of_process(), &arguments.which, Status::Paused, |found, _| {
        if found.record.status() != Status::Paused {
            return Err(format!("{}: the container is not paused, can't unpause", found.name).into());
        }
        let group = found.record.group().ok_or_else(|| format!("{}: its control group has gone", found.name))?;
        Ok(group.freeze(false).map_err(lrun::Error::from)?)
    })
}

/// Of all containers those are meant that can be changed.
fn change(
    global: &Global,
    environment: &Environment,
    which: &Which,
    from: Status,
    work: impl Fn(&Found, &Containers) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let containers = containers(&environment.store(global)?);
    let mut selected = which.select(&containers)?;
    if which.all {
        selected.retain(|(_, found)| found.as_ref().is_ok_and(|found| found.record.status() == from));
    }
    each(selected, |found| work(&found, &containers))
}
