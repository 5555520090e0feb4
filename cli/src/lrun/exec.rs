//! `lrun exec`.

use std::ffi::OsString;
use std::path::Path;

use lrun::state::Found;
use lrun::sys::process::{self, Fork};
use lrun::sys::title;
use lrun::{Container, Host, Plan, Spec};

use super::args::ExecArguments;
use super::control;
use super::monitor::{failed, hear, runs};
use super::run::{exit, exit_of};
use super::secret;
use super::select::{containers, latest};
use super::variables;
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
    let containers = containers(&store);
    let (found, words) = match arguments.words.split_first() {
        Some((name, words)) if !arguments.latest => (containers.find(&name.to_string_lossy())?, words),
        _ => (latest(&containers)?, arguments.words.as_slice()),
    };
    if words.is_empty() {
        return Err("no command: give one after the container".into());
    }
    let Found { name, path, record } = found;
    if record.group().is_some_and(|group| group.is_frozen()) {
        return Err(format!("{name}: the container is paused; `lrun unpause {name}` first").into());
    }
    let first = record.running().ok_or_else(|| format!("{name}: the container is not running"))?;
    let mut own = record.spec.clone();
    // Those in files are there already.
    secret::reveal(&record.secrets, &store, &mut own)?;
    let spec = spec(arguments, words, Spec { secrets: Vec::new(), ..own }, &environment)?;
    let plan = Plan { cgroup: record.group.clone(), ..Plan::new(spec, Host::probe())? };
    let runtime = environment.runtime_folder();
    let join = || {
        let command = lrun::exec(&plan, &first, runtime.as_deref())?;
        control::follow(&record, &path, &first, runtime.as_deref())?;
        Ok(command)
    };
    if arguments.detach { in_the_background(join) } else { Ok(exit(join()?.wait()?)) }
}

/// Returns when the command runs. A process that stays behind answers for it: the command ends with that one.
fn in_the_background(join: impl FnOnce() -> Result<Container, Failure>) -> Result<Exit, Failure> {
    let (listener, teller) = std::io::pipe()?;
    if let Fork::Parent(_) = process::fork()? {
        drop(teller);
        return hear(listener).map(|()| Exit::SUCCESS);
    }
    drop(listener);
    let begun = settle_down(&teller).and_then(|()| join());
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
    title::set("exec");
    nix::unistd::setsid()?;
    process::detach_stdio()?;
    std::env::set_current_dir("/")?;
    process::close_all_but([std::os::fd::AsFd::as_fd(teller)].into_iter());
    Ok(())
}

/// The container's own spec with the command's differences.
fn spec(arguments: &ExecArguments, words: &[OsString], own: Spec, environment: &Environment) -> Result<Spec, Failure> {
    let mut env = own.env;
    variables::add(&mut env, &arguments.env_file, &arguments.env, environment)?;
    Ok(Spec {
        args: words.to_vec(),
        env,
        cwd: arguments.workdir.as_ref().map_or(own.cwd, |workdir| Path::new("/").join(workdir)),
        user: arguments.user.clone().unwrap_or(own.user),
        terminal: arguments.tty,
        interactive: arguments.interactive && !arguments.detach,
        init: false,
        preserved: arguments.descriptors.numbers(),
        capabilities: if arguments.privileged { u64::MAX } else { own.capabilities },
        granted: if arguments.privileged { u64::MAX } else { own.granted },
        ..own
    })
}
