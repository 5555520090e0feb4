//! `lrun exec`.

use std::path::Path;

use lrun::{Host, Plan, Spec};

use super::args::ExecArguments;
use super::run::{exit, exit_of};
use super::select::containers;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &ExecArguments) -> Result<Exit, Failure> {
    enter(global, arguments).map_err(|failure| Failure { exit: exit_of(&failure), ..failure })
}

fn enter(global: &Global, arguments: &ExecArguments) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let record = containers(&store).find(&arguments.container)?.record;
    if record.group().is_some_and(|group| group.is_frozen()) {
        let name = &arguments.container;
        return Err(format!("{name}: the container is paused; `lrun unpause {name}` first").into());
    }
    let first = record.running().ok_or_else(|| format!("{}: the container is not running", arguments.container))?;
    let group = record.group;
    let spec = spec(arguments, record.spec, &environment)?;
    let plan = Plan { cgroup: group, ..Plan::new(spec, Host::probe())? };
    Ok(exit(lrun::exec(&plan, &first, environment.runtime_folder().as_deref())?.wait()?))
}

/// The container's own spec with the command's differences.
fn spec(arguments: &ExecArguments, own: Spec, environment: &Environment) -> Result<Spec, Failure> {
    let mut env = own.env;
    bridge::add_variables(&mut env, &arguments.env_file, &arguments.env, environment)?;
    Ok(Spec {
        args: arguments.words.clone(),
        env,
        cwd: arguments.workdir.as_ref().map_or(own.cwd, |workdir| Path::new("/").join(workdir)),
        user: arguments.user.clone().unwrap_or(own.user),
        terminal: arguments.tty,
        interactive: arguments.interactive,
        init: false,
        ..own
    })
}
