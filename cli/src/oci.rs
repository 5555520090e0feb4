//! The runtime of the OCI, as engines call it: `lrun oci …`, or by a link of the name `lrun-oci`, since podman and containerd
//! know a runtime by one path.
//!
//! The command line is that of runc and crun, which engines agree upon more than upon any text.

pub mod args;

mod exec;
mod limits;
mod list;
mod log;
mod run;
mod spec;

use std::io::Write;
use std::path::PathBuf;

use lrun::oci::create::Manager;
use lrun::oci::state::Containers;
use lrun::oci::{delete, features, signal, start};

use crate::exit::Exit;
use crate::lrun::signal::number;
use crate::report::Failure;
use args::{Global, ManagerArgument, Oci, OciCommand};

/// The name under which warnings are told.
const PROGRAM: &str = "lrun oci";

/// Before failures: harnesses for runtimes look for the word.
pub const FAILED: &str = "lrun oci: error";

/// Runs a parsed command line. The process must have a single thread.
///
/// # Errors
/// What went wrong, which is in the log too where one was asked for.
pub fn run(oci: &Oci) -> Result<Exit, Failure> {
    let format = oci.global.log_format;
    let log = log::open(&oci.global)?;
    let warn = &mut |text: &str| {
        // Told in any case, and the command goes on.
        let _ = log::write(log.as_ref(), format, "warning", text);
        crate::report::warn(PROGRAM, text, &mut std::io::stderr());
    };
    let outcome = dispatch(oci, warn).map_err(told);
    if let Err(failure) = &outcome {
        log::write(log.as_ref(), format, "error", &crate::report::line(FAILED, failure.error.as_ref()))?;
    }
    outcome
}

fn dispatch(oci: &Oci, warn: &mut dyn FnMut(&str)) -> Result<Exit, Failure> {
    let global = &oci.global;
    let containers = Containers::within(root(global));
    match &oci.command {
        OciCommand::Create(arguments) => return run::create(global, &containers, arguments, warn),
        OciCommand::Run(arguments) => return run::run(global, &containers, arguments, warn),
        OciCommand::Start(arguments) => start::start(&containers, &arguments.id, warn)?,
        OciCommand::State(arguments) => json(&containers.find(&arguments.id)?.state())?,
        OciCommand::Kill(arguments) => {
            let name = arguments.signal.as_deref().unwrap_or("TERM");
            let signal = number(name).ok_or_else(|| Failure::from(format!("unknown signal {name:?}")))?;
            signal::kill(&containers.find(&arguments.id)?, signal, arguments.all)?;
        }
        OciCommand::Delete(arguments) => {
            delete::delete(&containers, &arguments.id, arguments.force, warn)?;
        }
        OciCommand::Exec(arguments) => return exec::run(&containers, arguments, warn),
        OciCommand::List(arguments) => list::containers(&containers, arguments)?,
        OciCommand::Ps(arguments) => list::processes(&containers, arguments)?,
        OciCommand::Pause(arguments) => signal::freeze(&containers.find(&arguments.id)?, true)?,
        OciCommand::Resume(arguments) => signal::freeze(&containers.find(&arguments.id)?, false)?,
        OciCommand::Update(arguments) => limits::update(&containers, arguments)?,
        OciCommand::Events(arguments) => limits::events(&containers, arguments)?,
        OciCommand::Features => json(&features::features())?,
        OciCommand::Spec(arguments) => spec::run(arguments)?,
    }
    Ok(Exit::SUCCESS)
}

/// Failures in the words by which engines tell a command that is not there from others: they look for them in the log.
fn told(failure: Failure) -> Failure {
    use lrun::Error::{NotExecutable, NotFound};
    match failure.error.downcast_ref::<lrun::Error>() {
        // As Go's library has it, in small letters.
        Some(NotExecutable { command, source }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Failure { error: format!("{command}: permission denied: it cannot be executed").into(), ..failure }
        }
        Some(NotFound(command)) => Failure {
            error: format!("{command}: executable file not found in the container's $PATH").into(),
            ..failure
        },
        _ => failure,
    }
}

fn json(value: &serde_json::Value) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(std::io::stdout().write_all(&text)?)
}

/// Where containers are remembered: in a folder that goes with the login or the machine.
fn root(global: &Global) -> PathBuf {
    if let Some(root) = &global.root {
        return root.clone();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !lrun::userns::is_real_root() && !folder.is_empty() => PathBuf::from(folder).join("lrun-oci"),
        _ => PathBuf::from("/run/lrun-oci"),
    }
}

fn manager(global: &Global) -> Manager {
    match global.cgroup_manager {
        Some(ManagerArgument::Systemd) => Manager::Systemd,
        Some(ManagerArgument::Disabled) => Manager::Disabled,
        None if global.systemd_cgroup => Manager::Systemd,
        Some(ManagerArgument::Cgroupfs) | None => Manager::Cgroupfs,
    }
}
