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
use lstore::{IdShift, Start, Store};

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
    let fetch = |lack: Lack| match (arguments.pull, lack) {
        (PullPolicy::Never, Lack::Image) => {
            Err(format!("{name}: image not known, and --pull=never; `lstore pull {name}` fetches it").into())
        }
        (PullPolicy::Never, Lack::Layers) => {
            Err(format!("{name}: layers are missing, and --pull=never; `lstore pull {name}` fetches them").into())
        }
        _ => pull(global, arguments, path, name),
    };
    // Nothing is made for a container that could not be mapped.
    let may_be_made = || {
        if !shift.is_none() {
            maps_of_caller(bridge::shape(arguments)).map_err(Error::from)?;
        }
        Ok(())
    };
    obtain(global, path, name, shift, fetch, may_be_made)
}

/// What an image may lack.
#[derive(Debug, Clone, Copy)]
enum Lack {
    /// All of it: the store does not know it.
    Image,
    /// Layers.
    Layers,
}

/// The checkout of an image. `fetch` brings what is lacking, `may_be_made` is asked before one is made.
fn obtain(
    global: &Global,
    path: &Path,
    name: &str,
    shift: IdShift,
    fetch: impl Fn(Lack) -> Result<(), Failure>,
    may_be_made: impl Fn() -> Result<(), Failure>,
) -> Result<Start, Failure> {
    let wanted = global.placement.map(placement);
    // Twice: after a power cut it may come out only when the checkout is to be made that layers are torn.
    for _ in 0..2 {
        let store = match look(path, name)? {
            Ok(store) => store,
            Err(lack) => {
                fetch(lack)?;
                look(path, name)?.map_err(|_| format!("{name}: not there after the pull"))?
            }
        };
        if let Some(start) = store.start(name, wanted, shift)? {
            return Ok(start);
        }
        may_be_made()?;
        lstore_command(global, path, &["prepare", "--if-complete", &format!("--caller={shift}"), name])?;
        if let Some(start) = store.start(name, wanted, shift)? {
            return Ok(start);
        }
    }
    Err(format!("{name}: no checkout could be made").into())
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
    let fetch = |lack: Lack| match lack {
        Lack::Image => Err(format!("the image {name} of the container has been removed; pull it again").into()),
        Lack::Layers => lstore_command(global, path, &["pull", "--", name]),
    };
    obtain(global, path, id, shift, fetch, || Ok(()))
}

/// The store with the image, or what is lacking.
fn look(path: &Path, name: &str) -> Result<Result<Store, Lack>, Failure> {
    let store = match Store::open_existing(path) {
        Err(lstore::Error::NoStore(_)) => return Ok(Err(Lack::Image)),
        other => other?,
    };
    match store.image(name) {
        Err(lstore::Error::ImageNotFound(_)) => Ok(Err(Lack::Image)),
        Err(error) => Err(error.into()),
        Ok(image) => Ok(if image.is_complete() { Ok(store) } else { Err(Lack::Layers) }),
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
