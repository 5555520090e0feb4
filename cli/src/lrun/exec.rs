//! `lrun exec`.

use std::path::Path;

use lrun::sys::process::{self, Fork};
use lrun::{FirstProcess, Host, Plan, Spec};

use super::args::ExecArguments;
use super::monitor::{failed, hear, runs};
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
    let first = record.running().ok_or_else(|| format!("{}: the container is not running", arguments.container))?;
    let spec = spec(arguments, record.spec, &environment)?;
    let plan = Plan::new(spec, Host::probe())?;
    if arguments.detach {
        return in_the_background(&plan, &first);
    }
    Ok(exit(lrun::exec(&plan, &first)?.wait()?))
}

/// Returns when the command runs. A process that stays behind answers for it: the command ends with that one.
fn in_the_background(plan: &Plan, first: &FirstProcess) -> Result<Exit, Failure> {
    let (listener, teller) = std::io::pipe()?;
    if let Fork::Parent(_) = process::fork()? {
        drop(teller);
        return hear(listener).map(|()| Exit::SUCCESS);
    }
    drop(listener);
    let begun = settle_down(&teller).and_then(|()| Ok(lrun::exec(plan, first)?));
    match begun {
        Ok(mut command) => {
            runs(teller, &[]);
            // Nobody is there who could be told how it ended.
            let _ = command.wait();
        }
        Err(failure) => failed(teller, &Failure { exit: exit_of(&failure), ..failure }),
    }
    process::exit_now(0)
}

/// A session of its own, and nothing of the caller's but the pipe.
fn settle_down(teller: &std::io::PipeWriter) -> Result<(), Failure> {
    nix::unistd::setsid()?;
    process::detach_stdio()?;
    std::env::set_current_dir("/")?;
    process::close_all_but([std::os::fd::AsFd::as_fd(teller)].into_iter());
    Ok(())
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
        interactive: arguments.interactive && !arguments.detach,
        init: false,
        ..own
    })
}
