//! `lrun start` and `lrun restart`.

use std::path::Path;

use lrun::Session;
use lrun::session::{Ended, Manner};
use lrun::state::Found;

use super::args::{RestartArguments, StartArguments, Which};
use super::attach;
use super::folder::Folder;
use super::images;
use super::monitor::Job;
use super::provide::provide_again;
use super::run::exit_of;
use super::select::{containers, each};
use super::stop::stop_one;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn start(global: &Global, arguments: &StartArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let which = Which {
        all: arguments.all,
        latest: arguments.latest,
        filters: arguments.filters.clone(),
        containers: arguments.containers.clone(),
        ..Which::default()
    };
    let selected = which.select(&containers(&store))?;
    if !arguments.attach {
        return each(selected, |found| begin(global, &environment, &store, &found, None));
    }
    let [(_, found)] = <[_; 1]>::try_from(selected).map_err(|_| "only one container can be attached to at a time")?;
    let found = found?;
    let session = if found.record.running().is_some() {
        attach::open(&found)?
    } else {
        let (session, other) = Session::pair()?;
        session.watch()?;
        begin(global, &environment, &store, &found, Some(other))
            .map_err(|failure| Failure { exit: exit_of(&failure), ..failure })?;
        session
    };
    let manner = Manner {
        input: arguments.interactive && found.record.spec.interactive,
        ..attach::manner(&found, &arguments.session)
    };
    match session.follow(&manner)? {
        Ended::Exit(status) => Ok(Exit::code(status)),
        Ended::Detached => Ok(Exit::SUCCESS),
        Ended::Lost => Err(attach::lost(&found)),
    }
}

pub(super) fn restart(global: &Global, arguments: &RestartArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let all = containers(&store);
    let selected = if arguments.running {
        let running = all.all().into_iter().filter(|found| found.record.running().is_some());
        running.map(|found| (found.name.clone(), Ok(found))).collect()
    } else {
        arguments.which.select(&all)?
    };
    each(selected, |found| {
        if found.record.spec.ephemeral && found.record.running().is_some() {
            return Err(
                format!("{}: a container of --rm goes when it ends, and cannot be restarted", found.name).into()
            );
        }
        stop_one(&found, arguments.time)?;
        begin(global, &environment, &store, &found.again()?, None)
    })
}

/// Starts the containers that another requires.
pub(super) fn required(
    global: &Global,
    environment: &Environment,
    store: &Path,
    names: &[String],
) -> Result<(), Failure> {
    for name in names {
        let found = containers(store).find(name).map_err(|error| format!("--requires: {error}"))?;
        begin(global, environment, store, &found, None)?;
    }
    Ok(())
}

/// Starts a container in the background; one that runs is left as it is.
fn begin(
    global: &Global,
    environment: &Environment,
    store: &Path,
    found: &Found,
    attached: Option<std::os::fd::OwnedFd>,
) -> Result<(), Failure> {
    if found.record.running().is_some() {
        return Ok(());
    }
    required(global, environment, store, &found.record.attendance.requires)?;
    let is_ephemeral = found.record.spec.ephemeral;
    let Some(folder) = Folder::take(&found.path, is_ephemeral)? else {
        return match found.again() {
            // Another was faster.
            Ok(now) if now.record.running().is_some() => Ok(()),
            _ => Err(format!("{}: the container is being started, stopped or removed; try again", found.name).into()),
        };
    };
    // Under the lock, since another may have started it meanwhile.
    let mut found = found.again()?;
    let start = provide_again(global, store, &found.record)?;
    let mut leases = images::look_up_again(global, store, &mut found.record.spec)?;
    if is_ephemeral {
        folder.keep(false)?;
        // From here on its leases keep what it runs from.
        bridge::roots::release(store, &found.record.id)?;
    }
    let rootfs = bridge::existing(store, &start.checkout, &folder.path());
    leases.push(start.checkout.into_lease());
    let job = Job { store: store.to_owned(), folder, record: found.record, rootfs, leases, environment, is_new: false };
    job.start(attached)
}
