//! The command `lrun`.

pub mod account;
pub mod args;
pub mod device;
pub mod etc;
pub mod inherit;
pub mod publish;
pub mod security;
pub mod uplink;
pub mod variables;

mod apparmor;
mod attach;
mod attendance;
mod commit;
mod control;
mod copy;
mod create;
mod describe;
mod diff;
mod exec;
mod export;
mod folder;
mod health;
mod images;
mod info;
mod inspect;
mod join;
mod logs;
mod make;
pub(crate) mod moment;
mod monitor;
mod pause;
mod port;
mod provide;
mod prune;
mod ps;
mod remake;
mod rename;
mod run;
mod secret;
mod select;
pub(crate) mod signal;
mod start;
mod stats;
mod stop;
mod systemd;
mod top;
mod update;
mod visit;
mod volume;
mod volumes;
mod wait;

use clap::CommandFactory;

pub use self::provide::become_store;
use crate::exit::Exit;
use crate::manual;
use crate::report::Failure;
use args::{Lrun, LrunCommand};

pub(crate) use stop::displace_all;

/// The name under which failures and warnings are told.
pub const PROGRAM: &str = "lrun";

/// Runs a parsed command line. The process must have a single thread.
///
/// # Errors
/// What went wrong before the container's command ran, with the exit code that says so.
pub fn run(lrun: Lrun) -> Result<Exit, Failure> {
    let global = &lrun.global;
    let is_rm = matches!(lrun.command, LrunCommand::Rm(_));
    let outcome = match lrun.command {
        LrunCommand::Run(arguments) => run::run(global, &arguments),
        LrunCommand::Create(arguments) => create::run(global, &arguments),
        LrunCommand::Start(arguments) => start::start(global, &arguments),
        LrunCommand::Restart(arguments) => start::restart(global, &arguments),
        LrunCommand::Exec(arguments) => exec::run(global, &arguments),
        LrunCommand::Attach(arguments) => attach::run(global, &arguments),
        LrunCommand::Logs(arguments) => logs::run(global, &arguments),
        LrunCommand::Ps(arguments) => ps::run(global, &arguments),
        LrunCommand::Inspect(arguments) => inspect::run(global, &arguments),
        LrunCommand::Top(arguments) => top::run(global, &arguments),
        LrunCommand::Healthcheck { command } => health::run(global, &command),
        LrunCommand::Port(arguments) => port::run(global, &arguments),
        LrunCommand::Exists(arguments) => return wait::exists(global, &arguments),
        LrunCommand::Stop(arguments) => stop::stop(global, &arguments),
        LrunCommand::Kill(arguments) => stop::kill(global, &arguments),
        LrunCommand::Pause(arguments) => pause::pause(global, &arguments),
        LrunCommand::Unpause(arguments) => pause::unpause(global, &arguments),
        LrunCommand::Update(arguments) => update::run(global, &arguments),
        LrunCommand::Stats(arguments) => stats::run(global, &arguments),
        LrunCommand::Wait(arguments) => wait::run(global, &arguments),
        LrunCommand::Rename(arguments) => rename::run(global, &arguments),
        LrunCommand::Prune(arguments) => prune::run(global, &arguments),
        LrunCommand::Rm(arguments) => stop::remove(global, &arguments),
        LrunCommand::Diff(arguments) => diff::run(global, &arguments),
        LrunCommand::Export(arguments) => export::run(global, &arguments),
        LrunCommand::Commit(arguments) => commit::run(global, &arguments),
        LrunCommand::Cp(arguments) => copy::run(global, &arguments),
        LrunCommand::Volume { command } => volume::run(global, &command),
        LrunCommand::Secret { command } => secret::run(global, &command),
        LrunCommand::Info(arguments) => info::run(global, &arguments),
        LrunCommand::Apparmor => {
            std::io::Write::write_all(&mut std::io::stdout(), apparmor::profile()?.as_bytes())?;
            Ok(Exit::SUCCESS)
        }
        LrunCommand::Completions(arguments) => {
            manual::completions(Lrun::command(), arguments.shell, &mut std::io::stdout())?;
            Ok(Exit::SUCCESS)
        }
        LrunCommand::Man(arguments) => {
            match arguments.directory {
                Some(directory) => manual::pages(Lrun::command(), &directory)?,
                None => manual::page(Lrun::command(), &mut std::io::stdout())?,
            }
            Ok(Exit::SUCCESS)
        }
    };
    // podman's code for all that went wrong in itself.
    outcome.map_err(|failure| match failure.exit {
        Exit::FAILURE if !is_rm => Failure { exit: Exit::RUNNER, ..failure },
        _ => failure,
    })
}
