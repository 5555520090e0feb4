//! `lrun create`: a container to be started later.

use std::io::Write;

use super::args::RunArguments;
use super::make::make;
use super::run::{exit_of, remove_with_volumes};
use super::volumes::named_by;
use crate::bridge;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<Exit, Failure> {
    create(global, arguments).map_err(|failure| Failure { exit: exit_of(&failure), ..failure })
}

fn create(global: &Global, arguments: &RunArguments) -> Result<Exit, Failure> {
    if arguments.detach || arguments.rootfs {
        return Err(
            "--detach and --rootfs are flags of 'lrun run'; a container that was made is started from its image".into(),
        );
    }
    let environment = Environment::of_process();
    let store = environment.store(global)?;
    let made = make(global, arguments, &store, &environment)?;
    if made.record.spec.args.is_empty() {
        remove_with_volumes(&store, &made.path, &named_by(&made.record), Some(&made.record.id));
        return Err("no command: the image has none, so give one after its name".into());
    }
    if made.folder.is_ephemeral() {
        let name = made.path.file_name().unwrap_or_default().to_string_lossy();
        bridge::roots::keep(&store, &made.record, &name).inspect_err(|_| {
            remove_with_volumes(&store, &made.path, &named_by(&made.record), None);
        })?;
    }
    // Until it is started it stays, with --rm or without.
    made.folder.keep(true)?;
    made.record.write(made.folder.lock())?;
    writeln!(std::io::stdout(), "{}", made.record.id)?;
    Ok(Exit::SUCCESS)
}
