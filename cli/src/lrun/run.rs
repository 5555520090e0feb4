//! `lrun run`.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lrun::userns::maps_of_caller;
use lrun::{Aftermath, Container, Error, ExitStatus, Host, Plan, Rootfs, Spec, launch};
use lstore::{Start, Store};

use super::PROGRAM;
use super::args::{PullPolicy, RunArguments};
use super::detach::{self, Side};
use super::folder::Folder;
use super::state::State;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::context::placement;
use crate::report::{self, Failure};

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
    let name = arguments.name.clone().map_or_else(random_name, Ok)?;
    if arguments.rootfs {
        let directory = std::path::absolute(arguments.image())?;
        if !directory.is_dir() {
            return Err(format!("{}: not a directory", directory.display()).into());
        }
        let spec = bridge::spec(arguments, &lstore::manifest::RunConfig::default(), &name, &environment)?;
        let mut container = start(spec, &Rootfs::Directory(directory), None, arguments, &environment)?;
        return Ok(exit(container.wait()?));
    }

    let path = environment.store(global)?;
    let Start { config, checkout } = provide(global, arguments, &path)?;
    let spec = bridge::spec(arguments, &config, &name, &environment)?;
    let folder = match Folder::make(&path, &name, arguments.rm) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(format!("the name {name} is in use by another container; choose another one").into());
        }
        other => other?,
    };
    let rootfs = bridge::overlay(&path, &checkout, folder.path());
    let stop_signal = arguments.stop_signal.clone().or(config.stop_signal);
    let lease = checkout.into_lease();
    if !arguments.detach {
        let run = Run { path: &path, folder: &folder, lease: lease.as_fd(), arguments, environment: &environment };
        return run.to_the_end(spec, &rootfs, stop_signal, || {});
    }
    match detach::split(&folder.path().join("log"), &[folder.lock(), lease.as_fd()])? {
        Side::Caller(listener) => {
            listener.wait()?;
            writeln!(std::io::stdout(), "{name}")?;
            Ok(Exit::SUCCESS)
        }
        Side::Monitor(teller) => {
            let mut teller = Some(teller);
            let run = Run { path: &path, folder: &folder, lease: lease.as_fd(), arguments, environment: &environment };
            let ended = run.to_the_end(spec, &rootfs, stop_signal, || {
                if let Some(teller) = teller.take() {
                    teller.runs();
                }
            });
            if let (Err(failure), Some(teller)) = (ended, teller) {
                teller.failed(&Failure { exit: exit_of(&failure), ..failure });
            }
            lrun::sys::process::exit_now(0)
        }
    }
}

/// What a container of an image is run with.
struct Run<'a> {
    path: &'a Path,
    folder: &'a Folder,
    lease: BorrowedFd<'a>,
    arguments: &'a RunArguments,
    environment: &'a Environment,
}

impl Run<'_> {
    /// Starts the container, tells so, and waits for its end.
    fn to_the_end(
        &self,
        spec: Spec,
        rootfs: &Rootfs,
        stop_signal: Option<String>,
        started: impl FnOnce(),
    ) -> Result<Exit, Failure> {
        let folder = self.folder;
        let aftermath =
            Aftermath { work: Box::new(|| clear_up(self.path, folder)), keep: vec![folder.lock(), self.lease] };
        let begun = start(spec.clone(), rootfs, Some(aftermath), self.arguments, self.environment);
        let mut container = begun.inspect_err(|_| {
            // A container that never ran leaves nothing, with --rm or without.
            let _ = lstore::remove_tree(folder.path());
        })?;
        // Beside the command's first steps: it waits for none of this.
        let image = self.arguments.image().to_string_lossy().into_owned();
        let mut state = State::new(container.id(), image, stop_signal, spec).ok();
        if let Some(state) = &state {
            state.write(folder.path())?;
        }
        started();
        let status = exit(container.wait()?);
        if let Some(state) = state.as_mut().filter(|_| !folder.is_ephemeral()) {
            state.status = Some(status.get());
            state.write(folder.path())?;
        }
        Ok(status)
    }
}

fn start(
    spec: Spec,
    rootfs: &Rootfs,
    aftermath: Option<Aftermath<'_>>,
    arguments: &RunArguments,
    environment: &Environment,
) -> Result<Container, Failure> {
    let holder = (!arguments.no_holder).then(|| lrun::holder::folder(environment.runtime_folder().as_deref()));
    let plan = Plan::new(spec, Host { holder, ..Host::probe() })?;
    Ok(launch(&plan, rootfs, aftermath, &mut |weaker| report::warn(PROGRAM, weaker, &mut std::io::stderr()))?)
}

pub(super) fn exit(status: ExitStatus) -> Exit {
    match status {
        ExitStatus::Code(code) => Exit::code(code),
        ExitStatus::Signal(signal) => Exit::signal(signal),
    }
}

/// The image's wishes and its checkout, leased. What is missing is made by running `lstore`, which has the network and
/// the ids.
fn provide(global: &Global, arguments: &RunArguments, path: &Path) -> Result<Start, Failure> {
    let name = arguments.image().to_str().ok_or("the image's name is not UTF-8")?;
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
    if let Some(platform) = &arguments.registry.platform {
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

/// Runs `lstore`: the one beside this program, else that of PATH. Its ids are not for our output.
fn lstore_command(global: &Global, path: &Path, words: &[&str]) -> Result<(), Failure> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("lstore")).filter(|path| path.exists());
    let program = beside.unwrap_or_else(|| PathBuf::from("lstore"));
    let mut command = Command::new(&program);
    command.arg("--root").arg(path).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(placement) = global.placement {
        command.arg(format!("--placement={}", super::super::lstore::context::placement(placement)));
    }
    if global.quiet {
        command.arg("--quiet");
    }
    let status = command.args(words).status();
    let status =
        status.map_err(|error| format!("cannot run {}: {error}; lstore pulls what is missing", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("`lstore {}` failed", words.join(" ")).into()) }
}

/// Removes the files of a container that has ended, unless they are to stay, and those of others whose runner and keeper
/// were killed.
fn clear_up(store: &Path, folder: &Folder) {
    if folder.is_ephemeral() {
        // What stays is swept by the next container.
        let _ = lstore::remove_tree(folder.path());
    }
    for (path, _lock) in Folder::left_over(store) {
        let _ = lstore::remove_tree(&path);
    }
}

/// Twelve hexadecimal digits that no other container has.
fn random_name() -> Result<String, Failure> {
    let mut bytes = [0; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}")))
}
