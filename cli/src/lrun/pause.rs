//! `lrun pause` and `lrun unpause`.

use lrun::cgroup::Group;
use lrun::state::{Found, Status};

use super::args::{PauseArguments, Which};
use super::select::{containers, each};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn pause(global: &Global, arguments: &PauseArguments) -> Result<Exit, Failure> {
    change(global, &arguments.which, Status::Running, |found| {
        match found.record.status() {
            Status::Running => {}
            Status::Paused => return Err(format!("{}: the container is already paused", found.name).into()),
            _ => return Err(format!("{}: the container is not running, can't pause", found.name).into()),
        }
        Ok(group(found)?.freeze(true).map_err(lrun::Error::from)?)
    })
}

pub(super) fn unpause(global: &Global, arguments: &PauseArguments) -> Result<Exit, Failure> {
    change(global, &arguments.which, Status::Paused, |found| {
        if found.record.status() != Status::Paused {
            return Err(format!("{}: the container is not paused, can't unpause", found.name).into());
        }
        Ok(group(found)?.freeze(false).map_err(lrun::Error::from)?)
    })
}

/// Of all containers those are meant that can be changed.
fn change(
    global: &Global,
    which: &Which,
    from: Status,
    work: impl Fn(&Found) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let mut selected = which.select(&containers(&store))?;
    if which.all {
        selected.retain(|(_, found)| found.as_ref().is_ok_and(|found| found.record.status() == from));
    }
    each(selected, |found| work(&found))
}

/// The control group of a container that runs.
pub(super) fn group(found: &Found) -> Result<Group, Failure> {
    let group = found.record.group().filter(|group| group.path().exists());
    Ok(group.ok_or_else(|| {
        format!(
            "{}: the container has no control group of its own; start it with --cgroups=enabled or a limit",
            found.name
        )
    })?)
}
