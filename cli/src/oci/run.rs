//! `create` and `run`.

use lrun::ExitStatus;
use lrun::oci::create::{self, Created, Wish};
use lrun::oci::state::Containers;
use lrun::oci::{delete, start};

use super::args::{CreateArguments, Global, RunArguments};
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn create(
    global: &Global,
    containers: &Containers,
    arguments: &CreateArguments,
    warn: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    make(global, containers, arguments, true, warn)?;
    Ok(Exit::SUCCESS)
}

pub(super) fn run(
    global: &Global,
    containers: &Containers,
    arguments: &RunArguments,
    warn: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let id = &arguments.create.id;
    let created = make(global, containers, &arguments.create, arguments.detach, warn)?;
    if let Err(error) = start::start(containers, id, warn) {
        delete::delete(containers, id, true, warn)?;
        return Err(error.into());
    }
    if arguments.detach {
        return Ok(Exit::SUCCESS);
    }
    let status = created.wait();
    if !arguments.keep {
        delete::delete(containers, id, true, warn)?;
    }
    Ok(exit(status?))
}

pub(super) fn exit(status: ExitStatus) -> Exit {
    match status {
        ExitStatus::Code(code) => Exit::code(code),
        ExitStatus::Signal(signal) => Exit::signal(signal),
    }
}

fn make(
    global: &Global,
    containers: &Containers,
    arguments: &CreateArguments,
    leaves: bool,
    warn: &mut dyn FnMut(&str),
) -> Result<Created, Failure> {
    let created = create::create(
        containers,
        &Wish {
            id: &arguments.id,
            bundle: &arguments.bundle,
            config: &arguments.config,
            console: arguments.shared.console_socket.as_deref(),
            pid_file: arguments.shared.pid_file.as_deref(),
            preserved: arguments.shared.preserve_fds.into(),
            manager: super::manager(global),
            keeps_keyring: arguments.no_new_keyring,
            leaves,
        },
    )?;
    created.warnings.iter().for_each(|warning| warn(warning));
    Ok(created)
}
