//! `lrun inspect`.

use lrun::state::{Containers, Found, StateError};
use lstore::Store;
use serde_json::Value;

use super::PROGRAM;
use super::args::{InspectArguments, Kind};
use super::describe::inspected;
use super::select::{containers, latest};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::lstore::inspect::describe;
use crate::output::{Format, Output};
use crate::report::{self, Failure};

pub(super) fn run(global: &Global, arguments: &InspectArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let store = Environment::of_process().store(global)?;
    let containers = containers(&store);
    let mut values = Vec::new();
    let mut exit = Exit::SUCCESS;
    if arguments.latest {
        values.push(inspected(&latest(&containers)?));
    }
    for name in &arguments.names {
        match look(&containers, &store, name, arguments.kind) {
            Ok(value) => values.push(value),
            Err(failure) => {
                use std::io::Write;
                // The others are told all the same, as podman does.
                let _ = writeln!(std::io::stderr(), "{}", report::line(PROGRAM, failure.error.as_ref()));
                exit = Exit::RUNNER;
            }
        }
    }
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    match format {
        None | Some(Format::Json) => output.json(&Value::Array(values))?,
        Some(format) => {
            // podman's templates know an id by both names.
            let with_both = |mut value: Value| {
                value["ID"] = value["Id"].clone();
                value
            };
            output.list(&values.into_iter().map(with_both).collect::<Vec<_>>(), &format, &[])?;
        }
    }
    output.flush()?;
    Ok(exit)
}

fn look(containers: &Containers, store: &std::path::Path, name: &str, kind: Kind) -> Result<Value, Failure> {
    let found: Result<Found, StateError> = match kind {
        Kind::Image => Err(StateError::NotFound(name.to_owned())),
        Kind::All | Kind::Container => containers.find(name),
    };
    match (found, kind) {
        (Ok(found), _) => Ok(inspected(&found)),
        (Err(StateError::NotFound(_)), Kind::All | Kind::Image) => {
            let store = Store::open_existing(store)?;
            match store.image(name) {
                Err(lstore::Error::ImageNotFound(_)) if kind == Kind::All => {
                    Err(format!("no such object: {name:?} is neither a container nor an image").into())
                }
                image => describe(&store, &image?),
            }
        }
        (Err(error), _) => Err(error.into()),
    }
}
