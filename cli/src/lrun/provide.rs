//! The image of a container: looked up in the store, and what is missing made by `lstore`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lrun::idmap::Shape;
use lrun::spec::UserNamespace;
use lrun::state::Record;
use lrun::userns::maps_of_caller;
use lrun::{Error, Spec};
use lstore::{Start, Store};

use super::args::{PullPolicy, RunArguments};
use crate::bridge;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::context::placement;
use crate::report::Failure;

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
    if let Some(rate) = arguments.registry.min_rate {
        words.push(format!("--min-rate={rate}"));
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
    if let Some(wanted) = global.placement {
        command.arg(format!("--placement={}", placement(wanted)));
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
