//! `lrun ps`.

use std::collections::HashMap;
use std::time::SystemTime;

use lrun::state::{Found, Status};
use serde_json::{Value, json};

use super::args::PsArguments;
use super::describe::{command, id, listed, ports, shown, status, time};
use super::select::{containers, is_wanted};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Format, Output, Table, ago, size};
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
    // One of --rm that has ended is as good as gone: its files are removed after its status is told.
    found.retain(|found| !(found.record.spec.ephemeral && found.record.status() == Status::Exited));
    if let Some(last) = arguments.last.or(arguments.latest.then_some(1)) {
        found.truncate(last);
    }
    // Whoever asks for a status wants those that have it.
    let all = arguments.all
        || arguments.latest
        || arguments.last.is_some()
        || arguments.filters.iter().any(|(name, _)| name == "status" || name == "exited");
    found.retain(|found| {
        (all || matches!(found.record.status(), Status::Running | Status::Paused))
            && is_wanted(found, &arguments.filters)
    });

    let sizes = sizes(&found, arguments)?;
    sort(&mut found, arguments.sort.as_deref(), &sizes);
    let size_of = |found: &Found| sizes.get(&found.record.id).copied().filter(|_| arguments.size);
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    let whole = arguments.no_trunc;
    match format {
        Some(Format::Json) => {
            let one = |found| {
                let mut value = listed(found);
                if let Some(bytes) = size_of(found) {
                    value["Size"] = json!({ "rwSize": bytes });
                }
                value
            };
            output.json(&Value::Array(found.iter().map(one).collect()))?;
        }
        Some(format) => {
            let one = |found| {
                let mut value = shown(found, whole);
                value["Size"] = size_of(found).map(size).unwrap_or_default().into();
                value
            };
            let rows: Vec<Value> = found.iter().map(one).collect();
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
        None if arguments.namespaces => output.table(&namespaces(&found, arguments))?,
        None => output.table(&table(&found, arguments, size_of))?,
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn table(found: &[Found], arguments: &PsArguments, size_of: impl Fn(&Found) -> Option<u64>) -> Table {
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"];
    let header = &header[..7 + usize::from(arguments.size)];
    let mut table = if arguments.noheading { Table::default() } else { Table::with_header(header) };
    let now = SystemTime::now();
    for one in found {
        let Found { name, record, .. } = one;
        let mut row = vec![
            id(record, arguments.no_trunc).to_owned(),
            record.image.clone(),
            command(record, arguments.no_trunc),
            ago(time(record.created), now),
            status(one, now),
            ports(record),
            name.clone(),
        ];
        row.extend(size_of(one).map(size));
        table.row(row);
    }
    table
}

/// The namespaces of each, as numbers; empty for those that do not run.
fn namespaces(found: &[Found], arguments: &PsArguments) -> Table {
    const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"];
    let header = ["CONTAINER ID", "NAMES", "PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "UTS", "USERNS"];
    let mut table = if arguments.noheading { Table::default() } else { Table::with_header(header) };
    for Found { name, record, .. } in found {
        let pid = record.running().map_or(0, |first| first.id);
        let number = |kind: &&str| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default();
            link.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>()
        };
        let head = [id(record, arguments.no_trunc).to_owned(), name.clone(), pid.to_string()];
        table.row(head.into_iter().chain(KINDS.iter().map(number)));
    }
    table
}

/// Bytes on disk of what each container has changed, by id; none where they are not asked for.
fn sizes(found: &[Found], arguments: &PsArguments) -> Result<HashMap<String, u64>, Failure> {
    if found.is_empty() || !arguments.size && arguments.sort.as_deref() != Some("size") {
        return Ok(HashMap::new());
    }
    let folders: Vec<_> = found.iter().map(|found| (found.path.clone(), &found.record.spec)).collect();
    let sizes = lrun::size::sizes(&folders)?;
    Ok(found.iter().map(|found| found.record.id.clone()).zip(sizes).collect())
}

fn sort(found: &mut [Found], field: Option<&str>, sizes: &HashMap<String, u64>) {
    let now = SystemTime::now();
    match field {
        Some("command") => found.sort_by_key(|found| command(&found.record, true)),
        Some("created" | "runningfor") => found.sort_by_key(|found| found.record.created),
        Some("id") => found.sort_by(|one, other| one.record.id.cmp(&other.record.id)),
        Some("image") => found.sort_by(|one, other| one.record.image.cmp(&other.record.image)),
        Some("names") => found.sort_by(|one, other| one.name.cmp(&other.name)),
        Some("size") => found.sort_by_key(|found| sizes.get(&found.record.id).copied()),
        Some("status") => found.sort_by_cached_key(|found| status(found, now)),
        _ => {}
    }
}
