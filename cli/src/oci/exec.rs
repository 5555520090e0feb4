//! `exec`.

use lrun::oci::config::{Capabilities, Process, User};
use lrun::oci::exec::{self, Wish};
use lrun::oci::state::Containers;

use super::args::ExecArguments;
use crate::exit::Exit;
use crate::report::Failure;

pub(super) fn run(
    containers: &Containers,
    arguments: &ExecArguments,
    warn: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let container = containers.find(&arguments.id)?;
    let process = match &arguments.process {
        Some(file) => {
            if !arguments.command.is_empty() {
                return Err("--process tells the command; leave out the words after the container".into());
            }
            let mut process = Process::read(file)?;
            process.terminal |= arguments.tty;
            process
        }
        None => of_words(container.process()?, arguments)?,
    };
    if arguments.detach && process.terminal && arguments.shared.console_socket.is_none() {
        return Err("a terminal without anybody at it; give --console-socket, or leave out --detach".into());
    }
    let running = exec::exec(
        &container,
        &Wish {
            process: &process,
            console: arguments.shared.console_socket.as_deref(),
            pid_file: arguments.shared.pid_file.as_deref(),
            preserved: arguments.shared.preserve_fds.into(),
            group: arguments.cgroup.as_deref(),
            ignores_pause: arguments.ignore_paused,
        },
        warn,
    )?;
    if arguments.detach {
        return Ok(Exit::SUCCESS);
    }
    Ok(super::run::exit(running.wait()?))
}

/// The container's own command, with what the words change of it.
fn of_words(own: Process, arguments: &ExecArguments) -> Result<Process, Failure> {
    let mut process = Process { args: arguments.command.clone(), terminal: arguments.tty, console_size: None, ..own };
    if process.args.is_empty() {
        return Err("no command; write it after the container, or give --process FILE".into());
    }
    if let Some(cwd) = &arguments.cwd {
        process.cwd.clone_from(cwd);
    }
    for variable in &arguments.env {
        let name = variable.split_once('=').ok_or_else(|| Failure::from(format!("--env {variable}: no NAME=VALUE")))?.0;
        process.env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        process.env.push(variable.clone());
    }
    if let Some(user) = &arguments.user {
        let number =
            |text: &str| text.parse().map_err(|_| Failure::from(format!("--user {user}: no UID[:GID] of numbers")));
        let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let gid = gid.map(number).transpose()?.unwrap_or(0);
        process.user = User { uid: number(uid)?, gid, ..User::default() };
    }
    process.no_new_privileges |= arguments.no_new_privs;
    if !arguments.cap.is_empty() {
        crate::capability::named(&arguments.cap)?;
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(arguments.cap.iter().map(|name| name.to_ascii_uppercase()));
        }
    }
    Ok(process)
}
