//! `lrun run`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use lrun::cgroup::Group;
use lrun::idmap::Shape;
use lrun::spec::{Uplink, UserNamespace};
use lrun::state::{Record, random_id};
use lrun::{Aftermath, Container, Error, ExitStatus, Host, Plan, Rootfs, Spec, launch};

use super::PROGRAM;
use super::args::RunArguments;
use super::attendance;
use super::control;
use super::folder::Folder;
use super::images;
use super::join;
use super::make::{Made, make};
use super::monitor::Job;
use super::secret;
use super::start;
use super::systemd;
use super::uplink;
use super::volumes;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::{self, Failure};

/// Digits of an id that are enough to tell containers apart; also the name of one that was given none.
pub(super) const SHORT: usize = 12;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<Exit, Failure> {
    start_and_wait(global, arguments).map_err(|failure| Failure { exit: exit_of(&failure), ..failure })
}

/// podman's codes: 127 and 126 are the command's, all other failures the runner's.
pub(super) fn exit_of(failure: &Failure) -> Exit {
    match failure.error.downcast_ref::<Error>() {
        Some(Error::NotFound(_)) => Exit::NOT_FOUND,
        Some(Error::NotExecutable { .. }) => Exit::NOT_EXECUTABLE,
        // Told by the monitor, which had looked.
        None if failure.exit != Exit::FAILURE => failure.exit,
        _ => Exit::RUNNER,
    }
}

fn start_and_wait(global: &Global, arguments: &RunArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    if arguments.rootfs {
        let name = arguments.name.clone().map_or_else(|| Ok(random_id()?[..SHORT].to_owned()), Ok::<_, Failure>)?;
        let directory = std::path::absolute(arguments.image())?;
        if !directory.is_dir() {
            return Err(format!("{}: not a directory", directory.display()).into());
        }
        let store = environment.store(global)?;
        let joins = join::wanted(arguments, &store)?;
        let adopted = joins.as_ref().map(|joins| joins.adopt(arguments)).transpose()?;
        let arguments = adopted.as_ref().unwrap_or(arguments);
        let mut spec = bridge::spec(arguments, &lstore::manifest::RunConfig::default(), &name, &environment)?;
        if let Some(joins) = joins {
            joins.apply(&mut spec);
        }
        systemd::prepare(&mut spec, arguments, &random_id()?)?;
        let given = secret::wanted(&arguments.create.secrets, &store)?;
        secret::reveal(&given, &store, &mut spec)?;
        if matches!(spec.user_namespace, UserNamespace::Own(Shape::Range { .. })) {
            return Err("--rootfs: ids of its own are for a container of an image; leave out --userns auto".into());
        }
        if volumes::is_wanted(&spec) {
            return Err("--rootfs: volumes are for containers of images; bind a directory".into());
        }
        if images::is_wanted(&spec) {
            return Err("--rootfs: other images are for containers of images; give an image instead".into());
        }
        let warn = &mut |weaker: &str| report::warn(PROGRAM, weaker, &mut std::io::stderr());
        let rootfs = Rootfs::Directory(directory);
        let holder = !arguments.no_holder;
        let group = match &mut spec.cgroup {
            Some(wish) => {
                wish.name = random_id()?;
                Some(control::alone(wish, holder, &environment)?)
            }
            None => None,
        };
        let own = group.clone();
        let aftermath = own.map(|own| Aftermath { work: Box::new(move || own.remove()), keep: Vec::new() });
        let mut container =
            launch_spec(&store, spec, group.as_ref(), &rootfs, aftermath, (holder, &environment), warn)?;
        return Ok(exit(container.wait()?));
    }
    let store = environment.store(global)?;
    start::required(global, &environment, &store, &arguments.create.requires)?;
    let Made { folder, path, record, checkout, mut leases } = make(global, arguments, &store, &environment)?;
    let rootfs = bridge::overlay(&store, &checkout, &path);
    leases.push(checkout.into_lease());
    if arguments.detach {
        let id = record.id.clone();
        let job = Job { store, folder, record, rootfs, leases, environment: &environment, is_new: true };
        job.start(None)?;
        writeln!(std::io::stdout(), "{id}")?;
        return Ok(Exit::SUCCESS);
    }
    in_the_foreground(&store, &folder, record, &rootfs, &leases, &environment)
}

/// Starts the container and waits for its end.
fn in_the_foreground(
    store: &Path,
    folder: &Folder,
    mut record: Record,
    rootfs: &Rootfs,
    leases: &[OwnedFd],
    environment: &Environment,
) -> Result<Exit, Failure> {
    let volumes = volumes::named_by(&record);
    let group = control::make(&mut record, folder, environment, true).inspect_err(|_| {
        remove_with_volumes(store, &folder.path(), &volumes, Some(&record.id));
    })?;
    let work = Box::new(|| clear_up(store, folder, &volumes, group.as_ref()));
    let keep = leases.iter().map(AsFd::as_fd).chain([folder.lock()]).collect();
    let aftermath = Aftermath { work, keep };
    let warn = &mut |weaker: &str| report::warn(PROGRAM, weaker, &mut std::io::stderr());
    let mut spec = record.spec.clone();
    if let Err(failure) = secret::reveal(&record.secrets, store, &mut spec) {
        clear_up(store, folder, &volumes, group.as_ref());
        remove_with_volumes(store, &folder.path(), &volumes, Some(&record.id));
        return Err(failure);
    }
    let means = (record.holder, environment);
    let begun = launch_spec(store, spec, group.as_ref(), rootfs, Some(aftermath), means, warn);
    let mut container = begun.inspect_err(|_| {
        // A container that never ran leaves nothing, with --rm or without.
        remove_with_volumes(store, &folder.path(), &volumes, Some(&record.id));
    })?;
    // Beside the command's first steps: it waits for none of this.
    attendance::begun(store, folder, &mut record, &container, false, environment)?;
    let status = container.wait()?;
    if !folder.is_ephemeral() {
        record.end(status, container.had_no_memory() || control::had_no_memory(folder, status));
        record.write(folder.lock())?;
    }
    Ok(exit(status))
}

/// Starts what a spec says.
pub(super) fn launch_spec(
    store: &Path,
    mut spec: Spec,
    group: Option<&Group>,
    rootfs: &Rootfs,
    aftermath: Option<Aftermath<'_>>,
    (with_holder, environment): (bool, &Environment),
    warn: &mut dyn FnMut(&str),
) -> Result<Container, Failure> {
    let holder = with_holder.then(|| lrun::holder::folder(environment.runtime_folder().as_deref()));
    uplink::name_host(&mut spec);
    let others = join::others(store, &mut spec)?;
    let needs_folder = spec.network.uplink().is_some_and(Uplink::needs_folder);
    let mut plan = Plan::new(spec, Host { holder, others, ..Host::probe() })?;
    plan.folder = needs_folder.then(|| lrun::holder::folder(environment.runtime_folder().as_deref()));
    plan.cgroup = group.map(|group| group.path().to_path_buf());
    Ok(launch(&plan, rootfs, aftermath, warn)?)
}

pub(super) fn exit(status: ExitStatus) -> Exit {
    match status {
        ExitStatus::Code(code) => Exit::code(code),
        ExitStatus::Signal(signal) => Exit::signal(signal),
    }
}

/// Removes the files of a container that has ended, unless they are to stay, and those of others that were left behind.
/// `own` are the volumes of the one that has ended, `group` is its control group.
pub(super) fn clear_up(store: &Path, folder: &Folder, own: &[String], group: Option<&Group>) {
    control::dissolve(folder, group);
    if folder.is_ephemeral() {
        remove_with_volumes(store, &folder.path(), own, None);
    }
    for (path, _lock) in Folder::left_over(store) {
        control::sweep(&path);
        remove_with_volumes(store, &path, &volumes::named_in(&path), None);
    }
}

/// Removes a container's folder, those of its volumes that were made for it, and its root, for which its id is asked where it
/// may have one. What stays is swept by the next container, by `lstore gc`, or found by `lrun volume prune`.
pub(super) fn remove_with_volumes(store: &Path, folder: &Path, names: &[String], id: Option<&str>) {
    let is_gone = lstore::remove_tree(folder).is_ok();
    let _ = volumes::discard(store, names);
    if let Some(id) = id.filter(|_| is_gone) {
        let _ = bridge::roots::release(store, id);
    }
}
