//! `lrun ps`.

use std::time::SystemTime;

use lrun::health::Health;
use lrun::state::{Found, Status};
use serde_json::Value;

use super::args::PsArguments;
use super::describe::{command, id, listed, ports, shown, status, time};
use super::select::containers;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Format, Output, Table, ago};
use crate::report::Failure;

/// Titles of columns that are not just the name of the field.
const TITLES: [(&str, &str); 5] = [
    ("ID", "CONTAINER ID"),
    ("RunningFor", "CREATED"),
    ("CreatedHuman", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("ImageID", "IMAGE ID"),
];

pub(super) fn run(global: &Global, arguments: &PsArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let store = Environment::of_process().store(global)?;
    let mut found = containers(&store).all();
    if arguments.latest {
        found.truncate(1);
    }
    // Whoever asks for a status wants those that have it.
    let all = arguments.all
        || arguments.latest
        || arguments.filters.iter().any(|(name, _)| name == "status" || name == "exited");
    found.retain(|found| {
        (all || matches!(found.record.status(), Status::Running | Status::Paused))
            && is_wanted(found, &arguments.filters)
    });

    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    let whole = arguments.no_trunc;
    match format {
        Some(Format::Json) => output.json(&Value::Array(found.iter().map(listed).collect()))?,
        Some(format) => {
            let rows: Vec<Value> = found.iter().map(|found| shown(found, whole)).collect();
            match format {
                Format::Table(template) if arguments.noheading => {
                    output.list(&rows, &Format::Template(template), &TITLES)?;
                }
                format => output.list(&rows, &format, &TITLES)?,
            }
        }
        None if global.quiet => {
            for found in &found {
                output.line(id(&found.record, whole))?;
            }
        }
        None => output.table(&table(&found, arguments))?,
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn table(found: &[Found], arguments: &PsArguments) -> Table {
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    let mut table = if arguments.noheading { Table::default() } else { Table::with_header(header) };
    let now = SystemTime::now();
    for one in found {
        let Found { name, record, .. } = one;
        table.row([
            id(record, arguments.no_trunc),
            record.image.as_str(),
            &command(record, arguments.no_trunc),
            &ago(time(record.created), now),
            &status(one, now),
            &ports(record),
            name.as_str(),
        ]);
    }
    table
}

/// Of several values for one name, one must hold, but all labels; all names must hold.
fn is_wanted(found: &Found, filters: &[(String, String)]) -> bool {
    let record = &found.record;
    let holds = |name: &str, value: &str| match name {
        "id" => record.id.starts_with(value),
        "name" => found.name.contains(value),
        "status" => record.status().name() == value || value == "stopped" && record.status() == Status::Exited,
        "exited" => record.status() == Status::Exited && record.exit().is_some_and(|code| code.to_string() == value),
        "health" => match &record.health {
            Some(_) => Health::read(&found.path).status.name() == value,
            None => value == "none",
        },
        "ancestor" => {
            let id = value.strip_prefix("sha256:").unwrap_or(value);
            let is_id = id.len() >= 3 && record.image_id.starts_with(id);
            is_id
                || record.image == value
                || record.image.rsplit_once(':').is_some_and(|(repository, _)| repository == value)
        }
        _ => match value.split_once('=') {
            Some((key, wanted)) => record.labels.get(key).is_some_and(|label| label == wanted),
            None => record.labels.contains_key(value),
        },
    };
    filters.iter().all(|(name, value)| {
        if name == "label" {
            return holds(name, value);
        }
        filters.iter().filter(|(other, _)| other == name).any(|(name, value)| holds(name, value))
    })
}
