//! `lrun commit`: what a container has changed becomes a layer of a new image, made by `lstore`.

use std::io::{self, Write};
use std::process::{Child, Stdio};

use lrun::archive::layer;
use lrun::state::Record;
use serde_json::{Value, json};

use super::args::CommitArguments;
use super::provide::lstore_program;
use super::select::containers;
use super::variables;
use super::visit::layers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::commit::END;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &CommitArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let found = containers(&store).find(&arguments.container)?;
    let (rootfs, _lease) = layers(global, &store, &found)?;
    let (program, mut command) = lstore_program(global, &store);
    command.arg("commit").arg(format!("--base=sha256:{}", found.record.image_id));
    command.arg(format!("--config={}", config(&found.record)));
    for (flag, value) in [("--author", &arguments.author), ("--message", &arguments.message)] {
        command.args(value.iter().map(|value| format!("{flag}={value}")));
    }
    command.args(arguments.changes.iter().map(|change| format!("--change={change}")));
    if let Some(file) = &arguments.iidfile {
        command.arg(format!("--iidfile={}", std::path::absolute(file)?.display()));
    }
    command.arg("--").arg(&arguments.image);
    // Before this process enters another namespace, where it could not map that one's own.
    let mut lstore = command.stdin(Stdio::piped()).spawn().map_err(|error| {
        Failure::from(format!("cannot run {}: {error}; it enters the image into the store", program.display()))
    })?;
    let written = layer_to(&mut lstore, |pipe| Ok(layer(&rootfs, &found.record.spec, pipe)?));
    if written.is_err() {
        // What it was given is not whole; if it has ended already, it has told why.
        let _ = lstore.kill();
    }
    let status = lstore.wait()?;
    match written {
        Err(failure) if status.code().is_none_or(|code| code == 0) => Err(failure),
        Ok(()) if status.success() => Ok(Exit::SUCCESS),
        _ => Err("`lstore commit` failed".into()),
    }
}

fn layer_to(lstore: &mut Child, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut pipe = lstore.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    write(&mut pipe)?;
    Ok(pipe.write_all(END)?)
}

/// The container's own configuration, in the fields of an image's.
fn config(record: &Record) -> Value {
    let spec = &record.spec;
    let text = |words: &[std::ffi::OsString]| -> Vec<String> {
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    };
    let env: Vec<String> = text(&spec.env).into_iter().filter(|variable| !variables::is_own(variable)).collect();
    let mut config = json!({
        "Cmd": text(spec.args.get(record.entrypoint.len()..).unwrap_or_default()),
        "Entrypoint": text(&record.entrypoint),
        "Env": env,
        "Labels": record.labels,
        "WorkingDir": spec.cwd,
    });
    if !spec.user.is_empty() {
        config["User"] = json!(spec.user);
    }
    if let Some(signal) = &record.stop_signal {
        config["StopSignal"] = json!(signal);
    }
    config
}
