//! The control group of a container: made before each of its starts, if it wants one.

use lrun::cgroup::Group;
use lrun::state::Record;

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
    let Some(wish) = record.spec.cgroup.clone() else { return Ok(None) };
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
pub(super) fn alone(wish: &lrun::cgroup::Wish, holder: bool, environment: &Environment) -> Result<Group, Failure> {
    let runtime = environment.runtime_folder();
    if holder && !rustix::process::geteuid().is_root() {
        // Root has none, and must stay where its power is. Started now if there is none: it outlives the container, and must not be in its group. What goes wrong is told by
        // the start.
        let _ = lrun::holder::join(&lrun::holder::folder(runtime.as_deref()));
    }
    Ok(Group::make(wish, runtime.as_deref()).map_err(lrun::Error::from)?)
}

/// Removes the group that the record in a folder names, of a container that nobody answers for any more.
pub(super) fn sweep(folder: &std::path::Path) {
    if let Some(group) = Record::left_in(folder).and_then(|record| record.group()) {
        group.remove();
    }
}
