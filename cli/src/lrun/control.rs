//! The control group of a container: made before each of its starts, if it wants one, or when a command needs it.

use std::path::Path;

use lrun::amendment::{Amendment, Gathered};
use lrun::cgroup::{Group, GroupError, Wish};
use lrun::join::Other;
use lrun::state::{Containers, Found, Record};
use lrun::{ExitStatus, FirstProcess};

use super::folder::Folder;
use crate::env::Environment;
use crate::report::Failure;

/// Makes the group, and has the record name it before there is anything in it: whoever is killed from here on leaves what a
/// later command finds. `is_first`: no keeper of an earlier start is about to remove the last group.
pub(super) fn make(
    record: &mut Record,
    folder: &Folder,
    environment: &Environment,
    is_first: bool,
) -> Result<Option<Group>, Failure> {
    let Some(wish) = record.spec.cgroup.clone() else {
        record.group = None;
        return Ok(None);
    };
    if let (true, Some(last)) = (is_first, record.group()) {
        // Of a start whose keeper was killed.
        last.remove();
    }
    let group = alone(&wish, record.holder, environment)?;
    record.group = Some(group.path().to_path_buf());
    if let Err(error) = record.write(folder.lock()) {
        group.remove();
        return Err(error.into());
    }
    Ok(Some(group))
}

/// Makes the group of a container that has no record.
pub(super) fn alone(wish: &Wish, holder: bool, environment: &Environment) -> Result<Group, Failure> {
    let runtime = environment.runtime_folder();
    if holder && !rustix::process::geteuid().is_root() {
        // Root has none, and must stay where its power is. Started now if there is none: it outlives the container, and must
        // not be in its group. What goes wrong is told by the start.
        let _ = lrun::holder::join(&lrun::holder::folder(runtime.as_deref()));
    }
    Ok(Group::make(wish, runtime.as_deref()).map_err(lrun::Error::from)?)
}

/// The control group of a container that runs: its own, or one that is made now and that all of its processes are moved to.
/// Limits are not set.
pub(super) fn demand(found: &Found, containers: &Containers, environment: &Environment) -> Result<Demanded, Failure> {
    let Found { name, path, record } = found;
    let first = record.running().ok_or_else(|| format!("{name}: the container is not running"))?;
    if let (None, Some(group)) = (record.gathered(), record.group()) {
        return Ok(Demanded { group, gathered: None });
    }
    let refused = |reason: &str| -> Failure {
        format!(
            "{name}: the container has no control group of its own, and none can be made for it now, as {reason}; \
             start it with --cgroups=enabled or a limit"
        )
        .into()
    };
    if !record.spec.namespaces.pid || record.spec.joined.pid.is_some() {
        return Err(refused("its processes are among those of the host or of another container"));
    }
    let joins = |other: &Found| matches!(&other.record.spec.joined.pid, Some(Other::Container(id)) if *id == record.id);
    if let Some(other) = containers.all().into_iter().find(|other| joins(other) && other.record.running().is_some()) {
        return Err(refused(&format!("those of {} are among its processes", other.name)));
    }
    let runtime = environment.runtime_folder();
    let wish = record.spec.cgroup.clone().unwrap_or_else(|| Wish { name: record.id.clone(), ..Wish::default() });
    let note = |group: &Group| {
        let gathered = Some(Gathered { first, path: group.path().to_path_buf() });
        // As it is now: another command may have changed it.
        Amendment { group: gathered, ..Amendment::read(path).unwrap_or_default() }.write(path)
    };
    let group = Group::gather(&wish, &first, runtime.as_deref(), note).map_err(|error| match error {
        error @ GroupError::Ended => Failure::from(format!("{name}: {error}")),
        other => lrun::Error::from(other).into(),
    })?;
    Ok(Demanded { group, gathered: Some((first, runtime)) })
}

/// A control group that a command needs.
pub(super) struct Demanded {
    /// The group.
    pub(super) group: Group,
    /// Whose processes had to be brought there, and where their user's systemd is.
    gathered: Option<(FirstProcess, Option<std::path::PathBuf>)>,
}

impl Demanded {
    /// Stops all that is in it. What was born outside while that was done is brought in, and stopped too.
    pub(super) fn freeze(&self) -> Result<(), GroupError> {
        self.group.freeze(true)?;
        if let Some((first, runtime)) = &self.gathered {
            while self.group.admit(first, runtime.as_deref())? > 0 {
                self.group.freeze(true)?;
            }
        }
        Ok(())
    }
}

/// Brings a command that has joined a container into a group that was made for this one meanwhile.
pub(super) fn follow(
    record: &Record,
    path: &Path,
    first: &FirstProcess,
    runtime: Option<&Path>,
) -> Result<(), Failure> {
    let made = record.group.is_none().then(|| Amendment::read(path)?.group).flatten();
    if let Some(gathered) = made.filter(|gathered| gathered.first == *first) {
        gathered.group().admit(first, runtime).map_err(lrun::Error::from)?;
    }
    Ok(())
}

/// Whether a process of a container that has failed was killed since a group that was made while it ran had no more memory.
pub(super) fn had_no_memory(folder: &Folder, status: ExitStatus) -> bool {
    let made = || Amendment::read(&folder.path())?.group;
    status.code() != 0 && made().is_some_and(|gathered| gathered.group().had_no_memory())
}

/// Removes the group of a container that has ended: its own, or one that was made while it ran.
pub(super) fn dissolve(folder: &Folder, group: Option<&Group>) {
    if let Some(group) = group {
        return group.remove();
    }
    // One that has been started again meanwhile has another first process.
    let made = Amendment::of(folder.lock()).and_then(|amendment| amendment.group);
    if let Some(gathered) = made.filter(|gathered| gathered.first.open().is_none()) {
        gathered.group().remove();
    }
}

/// Removes the group that the record in a folder names, of a container that nobody answers for any more.
pub(super) fn sweep(folder: &Path) {
    if let Some(group) = Record::left_in(folder).and_then(|record| record.group()) {
        group.remove();
    }
}
