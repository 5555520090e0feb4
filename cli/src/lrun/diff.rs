//! `lrun diff`.

use std::io::IsTerminal;

use lrun::changes::{Kind, changes};
use serde_json::{Value, json};

use super::args::DiffArguments;
use super::select::containers;
use super::visit::layers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::Output;
use crate::report::Failure;

pub(super) fn run(global: &Global, arguments: &DiffArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let found = arguments.one.select(&containers(&store))?;
    let (rootfs, _lease) = layers(global, &store, &found)?;
    let changes = changes(&rootfs, &found.record.spec)?;
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, stdout.is_terminal());
    if arguments.format.is_some() {
        let of = |kind: Kind| -> Vec<Value> {
            let those = changes.iter().filter(|change| change.kind == kind);
            those.map(|change| change.path.to_string_lossy().into()).collect()
        };
        let mut value = json!({});
        for (key, kind) in [("changed", Kind::Changed), ("added", Kind::Added), ("deleted", Kind::Deleted)] {
            // podman leaves out what is empty.
            if changes.iter().any(|change| change.kind == kind) {
                value[key] = of(kind).into();
            }
        }
        output.json(&value)?;
    } else {
        for change in &changes {
            let letter = match change.kind {
                Kind::Added => 'A',
                Kind::Changed => 'C',
                Kind::Deleted => 'D',
            };
            output.line(&format!("{letter} {}", change.path.to_string_lossy()))?;
        }
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}
