//! `lrun run`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lrun::cgroup::Group;
use lrun::idmap::Shape;
use lrun::root_ids;
use lrun::spec::{Uplink, UserNamespace};
use lrun::state::{Record, Restart, random_id};
use lrun::userns::maps_of_caller;
use lrun::{Aftermath, Container, Error, ExitStatus, Host, Plan, Rootfs, Spec, launch};
use lstore::{Checkout, Start, Store};

use super::PROGRAM;
use super::args::{CreateArguments, PullPolicy, RunArguments};
use super::attendance;
use super::control;
use super::etc;
use super::folder::Folder;
use super::health;
use super::images;
use super::inherit;
use super::join;
use super::monitor::Job;
use super::publish::exposed;
use super::secret;
use super::start;
use super::stop;
use super::systemd;
use super::uplink;
use super::volumes;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::context::placement;
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

/// A container that is there and does not run.
pub(super) struct Made {
    /// Its folder, locked.
    pub(super) folder: Folder,
    /// Where that is, until somebody renames it.
    pub(super) path: PathBuf,
    /// Its record, not yet written.
    pub(super) record: Record,
    /// Its checkout.
    pub(super) checkout: Checkout,
    /// What keeps those of other images that it mounts.
    pub(super) leases: Vec<OwnedFd>,
}

/// Makes the container of a command line.
pub(super) fn make(
    global: &Global,
    arguments: &RunArguments,
    store: &Path,
    environment: &Environment,
) -> Result<Made, Failure> {
    if arguments.rm && arguments.create.restart != Restart::No {
        return Err("--rm and --restart contradict each other; leave one out".into());
    }
    let joins = join::wanted(arguments, store)?;
    let adopted = joins.as_ref().map(|joins| joins.adopt(arguments)).transpose()?;
    let arguments = adopted.as_ref().unwrap_or(arguments);
    let id = random_id()?;
    let name = arguments.name.clone().unwrap_or_else(|| id[..SHORT].to_owned());
    let own = arguments.image().to_str().ok_or("the image's name is not UTF-8")?;
    let Start { image, config, checkout } = provide(global, arguments, store, own)?;
    let mut spec = bridge::spec(arguments, &config, &name, environment)?;
    systemd::prepare(&mut spec, arguments, &id)?;
    if let Some(wish) = &mut spec.cgroup {
        wish.name.clone_from(&id);
    }
    if let Some(joins) = joins {
        joins.apply(&mut spec);
    }
    if arguments.privileged {
        etc::introduce(&mut spec, &name, &id, &arguments.image().to_string_lossy(), &image);
    }
    if !arguments.volumes_from.is_empty() {
        inherit::mounts(arguments, store, &mut spec)?;
    }
    inherit::image_volumes(arguments.image_volume, &config.volumes, &mut spec)?;
    let leases = images::look_up(global, arguments, store, &mut spec)?;
    let health = health::wanted(&arguments.create.health, config.healthcheck.as_ref())?;
    let secrets = secret::wanted(&arguments.create.secrets, store)?;
    let exposed = exposed(arguments, &config.exposed_ports)?;
    let labels = labels(&arguments.create, config.labels)?;
    let attendance = attendance::wanted(&arguments.create, store)?;
    let create = &arguments.create;
    if create.replace {
        stop::displace(store, &name)?;
    }
    if let Some(file) = &create.cidfile {
        // Before the container: one that cannot be told is not to be made.
        let mut cidfile = std::fs::File::create_new(file)
            .map_err(|error| format!("--cidfile {}: {error}; it must not be there yet", file.display()))?;
        cidfile.write_all(id.as_bytes())?;
    }
    let folder = Folder::make(store, &name, arguments.rm).map_err(|error| {
        if let Some(file) = &create.cidfile {
            let _ = std::fs::remove_file(file);
        }
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::from(format!("the name {name} is in use by another container; choose another one"))
            }
            _ => error.into(),
        }
    })?;
    let image_id = image.strip_prefix("sha256:").unwrap_or(&image).to_owned();
    let entrypoint = arguments.entrypoint().unwrap_or_else(|| config.entrypoint.iter().map(OsString::from).collect());
    let own_signal = || spec.systemd.then(|| systemd::STOP_SIGNAL.to_owned());
    let stop_signal = create.stop_signal.clone().or(config.stop_signal).or_else(own_signal);
    let record = Record {
        labels,
        exposed,
        health,
        secrets,
        attendance,
        entrypoint,
        stop_signal,
        stop_timeout: create.stop_timeout,
        restart: create.restart,
        log_size: create.log_size(),
        holder: !arguments.no_holder,
        ..Record::new(id, arguments.image().to_string_lossy().into_owned(), image_id, spec)
    };
    let mut made = Made { folder, path: Folder::place(store, &name), record, checkout, leases };
    reserve(store, &mut made).inspect_err(|_| {
        let _ = lstore::remove_tree(&made.path);
        if let Some(file) = &create.cidfile {
            let _ = std::fs::remove_file(file);
        }
    })?;
    Ok(made)
}

/// Makes what is the container's by its record.
fn reserve(store: &Path, made: &mut Made) -> Result<(), Failure> {
    if let UserNamespace::Own(Shape::Range { size, .. }) = made.record.spec.user_namespace {
        deal_out_ids(store, made, size)?;
    }
    if volumes::is_wanted(&made.record.spec) {
        make_volumes(store, made)?;
    }
    Ok(())
}

/// Gives the container ids that no other one of the store has: one at a time, and each is told of by its record.
fn deal_out_ids(store: &Path, made: &mut Made, size: u32) -> Result<(), Failure> {
    let containers = std::fs::File::open(store.join("containers"))?;
    rustix::fs::flock(&containers, rustix::fs::FlockOperation::LockExclusive)?;
    let taken =
        super::select::containers(store).all().into_iter().filter_map(|found| match found.record.spec.user_namespace {
            UserNamespace::Own(shape) => Some(shape),
            UserNamespace::Host => None,
        });
    let shape = root_ids::free(size, &taken.collect::<Vec<_>>()).map_err(Error::from)?;
    made.record.spec.user_namespace = UserNamespace::Own(shape);
    Ok(made.record.write(made.folder.lock())?)
}

/// Makes the container's volumes, and has its record name them before they can be taken for unused.
fn make_volumes(store: &Path, made: &mut Made) -> Result<(), Failure> {
    let _kept = volumes::provide(store, &mut made.record.spec)?;
    Ok(made.record.write(made.folder.lock())?)
}

/// The image's labels, then those of the files, then those of the command line; a later one wins.
fn labels(arguments: &CreateArguments, image: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = image;
    let mut add = |text: &str| {
        let (key, value) = label(text)?;
        labels.insert(key, value);
        Ok::<_, String>(())
    };
    for file in &arguments.label_file {
        let text =
            std::fs::read_to_string(file).map_err(|error| format!("--label-file {}: {error}", file.display()))?;
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).try_for_each(&mut add)?;
    }
    arguments.labels.iter().try_for_each(|label| add(label))?;
    Ok(labels)
}

/// A label as `KEY=VALUE` or `KEY`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err(format!("label {text:?} has no name")) } else { Ok((key.to_owned(), value.to_owned())) }
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
        remove_with_volumes(store, &folder.path(), &volumes);
    })?;
    let work = Box::new(|| clear_up(store, folder, &volumes, group.as_ref()));
    let keep = leases.iter().map(AsFd::as_fd).chain([folder.lock()]).collect();
    let aftermath = Aftermath { work, keep };
    let warn = &mut |weaker: &str| report::warn(PROGRAM, weaker, &mut std::io::stderr());
    let mut spec = record.spec.clone();
    if let Err(failure) = secret::reveal(&record.secrets, store, &mut spec) {
        clear_up(store, folder, &volumes, group.as_ref());
        remove_with_volumes(store, &folder.path(), &volumes);
        return Err(failure);
    }
    let means = (record.holder, environment);
    let begun = launch_spec(store, spec, group.as_ref(), rootfs, Some(aftermath), means, warn);
    let mut container = begun.inspect_err(|_| {
        // A container that never ran leaves nothing, with --rm or without.
        remove_with_volumes(store, &folder.path(), &volumes);
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

/// An image's wishes and its checkout, leased. What is missing is made by running `lstore`, which has the network and
/// the ids.
pub(super) fn provide(global: &Global, arguments: &RunArguments, path: &Path, name: &str) -> Result<Start, Failure> {
    let wanted = global.placement.map(placement);
    let shift = bridge::shift(arguments);
    if arguments.pull == PullPolicy::Always {
        pull(global, arguments, path, name)?;
    } else if let Some(start) = Start::recall(path, name, wanted, shift) {
        return Ok(start);
    }
    let store = match look(path, name)? {
        Some(store) => store,
        None if arguments.pull == PullPolicy::Never => {
            return Err(format!("{name}: image not known, and --pull=never; `lstore pull {name}` fetches it").into());
        }
        None => {
            pull(global, arguments, path, name)?;
            look(path, name)?.ok_or_else(|| format!("{name}: not there after the pull"))?
        }
    };
    if let Some(start) = store.start(name, wanted, shift)? {
        return Ok(start);
    }
    // Nothing is made for a container that could not be mapped.
    if !shift.is_none() {
        maps_of_caller(bridge::shape(arguments)).map_err(Error::from)?;
    }
    lstore_command(global, path, &["prepare", &format!("--caller={shift}"), name])?;
    store.start(name, wanted, shift)?.ok_or_else(|| format!("{name}: no checkout could be made").into())
}

/// The checkout of the image that a container was made from, by its id.
pub(super) fn provide_again(global: &Global, path: &Path, record: &Record) -> Result<Start, Failure> {
    let id = format!("sha256:{}", record.image_id);
    again(global, path, (&id, &record.image), shape(&record.spec))
}

/// How the ids of a container relate to those of its caller.
pub(super) fn shape(spec: &Spec) -> Shape {
    match spec.user_namespace {
        UserNamespace::Own(shape) => shape,
        UserNamespace::Host => Shape::Auto,
    }
}

/// The checkout of an image that a container was made with, by its id; `name` is what it was called then.
pub(super) fn again(global: &Global, path: &Path, (id, name): (&str, &str), shape: Shape) -> Result<Start, Failure> {
    let (wanted, shift) = (global.placement.map(placement), bridge::shift_of(shape));
    if let Some(start) = Start::recall(path, id, wanted, shift) {
        return Ok(start);
    }
    let gone = || format!("the image {name} of the container has been removed; pull it again");
    let store = look(path, id)?.ok_or_else(gone)?;
    if let Some(start) = store.start(id, wanted, shift)? {
        return Ok(start);
    }
    lstore_command(global, path, &["prepare", &format!("--caller={shift}"), id])?;
    Ok(store.start(id, wanted, shift)?.ok_or_else(|| format!("{name}: no checkout could be made"))?)
}

/// The store, if it is there and has the image.
fn look(path: &Path, name: &str) -> Result<Option<Store>, Failure> {
    let store = match Store::open_existing(path) {
        Err(lstore::Error::NoStore(_)) => return Ok(None),
        other => other?,
    };
    match store.image(name) {
        Err(lstore::Error::ImageNotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(Some(store)),
    }
}

fn pull(global: &Global, arguments: &RunArguments, path: &Path, name: &str) -> Result<(), Failure> {
    let mut words = vec!["pull".to_owned()];
    if let Some(platform) = arguments.registry.platform() {
        words.push(format!("--platform={platform}"));
    }
    if !arguments.registry.tls_verify {
        words.push("--tls-verify=false".to_owned());
    }
    if let Some(file) = &arguments.registry.authfile {
        words.push(format!("--authfile={}", file.display()));
    }
    words.extend(["--".to_owned(), name.to_owned()]);
    lstore_command(global, path, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// `lstore`: the one beside this program, else that of PATH.
fn store_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("lstore")).filter(|path| path.exists());
    beside.unwrap_or_else(|| PathBuf::from("lstore"))
}

/// Becomes `lstore`, which leaves with the exit codes of the program by whose name it is called. Returns only if that
/// fails.
pub fn become_store(name: Option<OsString>, words: &[OsString]) -> Failure {
    let program = store_program();
    let mut command = Command::new(&program);
    if let Some(name) = name {
        command.arg0(name);
    }
    let error = command.args(words).exec();
    Failure::new(Exit::RUNNER, format!("cannot run {}: {error}; it looks after the images", program.display()))
}

/// `lstore` for a store.
pub(super) fn lstore_program(global: &Global, path: &Path) -> (PathBuf, Command) {
    let program = store_program();
    let mut command = Command::new(&program);
    command.arg("--root").arg(path);
    if let Some(placement) = global.placement {
        command.arg(format!("--placement={}", super::super::lstore::context::placement(placement)));
    }
    if global.quiet {
        command.arg("--quiet");
    }
    (program, command)
}

/// Runs `lstore`. Its ids are not for our output.
fn lstore_command(global: &Global, path: &Path, words: &[&str]) -> Result<(), Failure> {
    let (program, mut command) = lstore_program(global, path);
    let status = command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status =
        status.map_err(|error| format!("cannot run {}: {error}; lstore pulls what is missing", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("`lstore {}` failed", words.join(" ")).into()) }
}

/// Removes the files of a container that has ended, unless they are to stay, and those of others that were left behind.
/// `own` are the volumes of the one that has ended, `group` is its control group.
pub(super) fn clear_up(store: &Path, folder: &Folder, own: &[String], group: Option<&Group>) {
    control::dissolve(folder, group);
    if folder.is_ephemeral() {
        remove_with_volumes(store, &folder.path(), own);
    }
    for (path, _lock) in Folder::left_over(store) {
        control::sweep(&path);
        remove_with_volumes(store, &path, &volumes::named_in(&path));
    }
}

/// Removes a container's folder and those of its volumes that were made for it. What stays is swept by the next container, or found
/// by `lrun volume prune`.
pub(super) fn remove_with_volumes(store: &Path, folder: &Path, names: &[String]) {
    let _ = lstore::remove_tree(folder);
    let _ = volumes::discard(store, names);
}
