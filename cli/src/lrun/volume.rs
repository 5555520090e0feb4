//! `lrun volume`.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lrun::state::random_id;
use lrun::userns;
use lrun::volumes::{Volume, VolumeRecord};
use serde_json::{Value, json};

use super::PROGRAM;
use super::args::{
    VolumeCommand, VolumeCreateArguments, VolumeInspectArguments, VolumeListArguments, VolumePruneArguments,
    VolumeRemoveArguments,
};
use super::make::label;
use super::select::containers;
use super::stop::{lock, stop_one};
use super::volumes::{remove, users, volumes};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Format, Output, Table, rfc3339};
use crate::report::{self, Failure};

pub(super) fn run(global: &Global, command: &VolumeCommand) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    match command {
        VolumeCommand::Create(arguments) => create(&store, arguments),
        VolumeCommand::Ls(arguments) => list(global, &store, arguments),
        VolumeCommand::Inspect(arguments) => inspect(&store, arguments),
        VolumeCommand::Rm(arguments) => remove_named(&store, arguments),
        VolumeCommand::Prune(arguments) => prune(&store, arguments),
        VolumeCommand::Exists(arguments) => {
            Ok(if volumes(&store).find(&arguments.volume)?.is_some() { Exit::SUCCESS } else { Exit::FAILURE })
        }
    }
}

fn create(store: &Path, arguments: &VolumeCreateArguments) -> Result<Exit, Failure> {
    let name = arguments.name.clone().map_or_else(random_id, Ok)?;
    let labels = arguments.labels.iter().map(|text| label(text)).collect::<Result<_, _>>()?;
    // The containers' folder too: a store that is not there yet is made whole by the next pull.
    lstore::Store::open(store, lstore::Durability::Consistent)?;
    let (_, is_new) = volumes(store).ensure(&name, &VolumeRecord::new(labels, false))?;
    if !is_new && !arguments.ignore {
        return Err(format!("a volume with the name {name} exists already; --ignore is content with that").into());
    }
    writeln!(std::io::stdout(), "{name}")?;
    Ok(Exit::SUCCESS)
}

/// All volumes that hold to the filters, in order of their names.
fn selected(store: &Path, filters: &[(String, String)]) -> Result<Vec<Volume>, Failure> {
    let mut all = Vec::new();
    for name in volumes(store).names() {
        // Gone meanwhile, or still being made.
        let Some(volume) = volumes(store).find(&name)? else { continue };
        all.push(volume);
    }
    let holds = |volume: &Volume, name: &str, value: &str| match name {
        "name" => volume.name.contains(value),
        "dangling" => users(store, &volume.name).is_empty() == (value == "true"),
        "anonymous" => volume.record.anonymous == (value == "true"),
        _ => match value.split_once('=') {
            Some((key, wanted)) => volume.record.labels.get(key).is_some_and(|label| label == wanted),
            None => volume.record.labels.contains_key(value),
        },
    };
    all.retain(|volume| {
        filters.iter().all(|(name, value)| match name.as_str() {
            "label" => holds(volume, name, value),
            // Of several values for one name, one must hold.
            _ => filters.iter().filter(|(other, _)| other == name).any(|(name, value)| holds(volume, name, value)),
        })
    });
    Ok(all)
}

fn described(store: &Path, volume: &Volume) -> Value {
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.data(),
        "CreatedAt": rfc3339(UNIX_EPOCH + Duration::from_nanos(volume.record.created)),
        "Labels": volume.record.labels,
        "Scope": "local",
        "Options": {},
        "Anonymous": volume.record.anonymous,
        "NeedsCopyUp": volume.is_fresh(),
        "MountCount": users(store, &volume.name).len(),
    })
}

fn list(global: &Global, store: &Path, arguments: &VolumeListArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let selected = selected(store, &arguments.filters)?;
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, stdout.is_terminal());
    match format {
        Some(format) => {
            let values: Vec<Value> = selected.iter().map(|volume| described(store, volume)).collect();
            output.list(&values, &format, &[("Name", "VOLUME NAME")])?;
        }
        None if global.quiet => {
            for volume in &selected {
                output.line(&volume.name)?;
            }
        }
        None => {
            let header = ["DRIVER", "VOLUME NAME"];
            let mut table = if arguments.noheading { Table::default() } else { Table::with_header(header) };
            for volume in &selected {
                table.row(["local", &volume.name]);
            }
            output.table(&table)?;
        }
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn inspect(store: &Path, arguments: &VolumeInspectArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let names = if arguments.all { volumes(store).names() } else { arguments.volumes.clone() };
    let mut values = Vec::new();
    let mut missing = None;
    for name in names {
        match volumes(store).find(&name)? {
            Some(volume) => values.push(described(store, &volume)),
            None => missing = Some(name),
        }
    }
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, stdout.is_terminal());
    output.list(&values, &format.unwrap_or(Format::Json), &[])?;
    output.flush()?;
    missing.map_or(Ok(Exit::SUCCESS), |name| Err(not_found(&name)))
}

fn not_found(name: &str) -> Failure {
    format!("no volume with name {name:?} found: no such volume").into()
}

fn remove_named(store: &Path, arguments: &VolumeRemoveArguments) -> Result<Exit, Failure> {
    let names = if arguments.all { volumes(store).names() } else { arguments.volumes.clone() };
    if arguments.force {
        let users: BTreeSet<String> = names.iter().flat_map(|name| users(store, name)).collect();
        for user in users {
            // Another may have been faster.
            if let Ok(found) = containers(store).find(&user) {
                stop_one(&found, arguments.time)?;
            }
        }
    }
    // Files of a volume belong to ids that exist in a namespace of the user's alone.
    userns::enter()?;
    let mut exit = Exit::SUCCESS;
    for name in names {
        if arguments.force {
            for user in users(store, &name) {
                let path = containers(store).folder(&user);
                let _lock = lock(&path)?;
                lstore::remove_tree(&path)?;
            }
        }
        let failed = match volumes(store).take(&name) {
            Ok(Some(volume)) => match users(store, &name).as_slice() {
                [] => remove(store, &volume.folder).err().map(|failure| (failure, 125)),
                users => {
                    let users = users.join(", ");
                    Some((format!("volume {name} is being used by: {users}; remove these first").into(), 2))
                }
            },
            Ok(None) if arguments.force => continue,
            Ok(None) => Some((not_found(&name), 1)),
            Err(error) => Some((error.into(), 125)),
        };
        match failed {
            None => writeln!(std::io::stdout(), "{name}")?,
            Some((failure, code)) => {
                let _ = writeln!(std::io::stderr(), "{}", report::line(PROGRAM, failure.error.as_ref()));
                // podman's codes: 1 if all that is wrong is that some were not there, 2 if some are in use.
                exit = Exit::code(exit.get().max(code));
            }
        }
    }
    Ok(exit)
}

fn prune(store: &Path, arguments: &VolumePruneArguments) -> Result<Exit, Failure> {
    let unused: Vec<String> = selected(store, &arguments.filters)?
        .into_iter()
        .filter(|volume| users(store, &volume.name).is_empty())
        .map(|volume| volume.name)
        .collect();
    if !arguments.force && !is_agreed(&unused)? {
        return Ok(Exit::SUCCESS);
    }
    userns::enter()?;
    for name in unused {
        let Some(volume) = volumes(store).take(&name)? else { continue };
        // Used meanwhile.
        if users(store, &name).is_empty() {
            remove(store, &volume.folder)?;
            writeln!(std::io::stdout(), "{name}")?;
        }
    }
    // Nobody was ever told of these.
    for (folder, _lock) in volumes(store).unfinished()? {
        remove(store, &folder)?;
    }
    Ok(Exit::SUCCESS)
}

fn is_agreed(names: &[String]) -> Result<bool, Failure> {
    if names.is_empty() {
        return Ok(true);
    }
    let mut out = std::io::stdout();
    writeln!(out, "These volumes, which no container uses, will be removed:")?;
    for name in names {
        writeln!(out, "{name}")?;
    }
    write!(out, "Are you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
