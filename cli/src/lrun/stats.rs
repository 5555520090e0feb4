//! `lrun stats`: what containers use.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use lrun::cgroup::Usage;
use lrun::state::{Containers, Found, Status};
use serde_json::{Value, json};

use super::args::StatsArguments;
use super::describe::{id, time};
use super::select::{containers, latest};
use super::top;
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Format, Output, Table, size};
use crate::report::Failure;

/// What nothing tells.
const UNKNOWN: &str = "--";
/// Goes to the upper left of a terminal and clears it (ECMA-48).
const RESET: &[u8] = b"\x1b[H\x1b[2J";
/// Titles of columns that are not just the name of the field.
const TITLES: [(&str, &str); 8] = [
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("UpTime", "CPU TIME"),
    ("AvgCPU", "AVG CPU %"),
    ("ContainerID", "ID"),
];

/// Processor time of a container, and when that was.
type Earlier = HashMap<String, (Duration, Instant)>;

pub(super) fn run(global: &Global, arguments: &StatsArguments) -> Result<Exit, Failure> {
    let format = arguments.format.as_deref().map(Format::parse).transpose()?;
    let store = Environment::of_process().store(global)?;
    let containers = containers(&store);
    let stdout = std::io::stdout();
    let is_terminal = std::io::IsTerminal::is_terminal(&stdout);
    let mut output = Output::new(&stdout, is_terminal);
    let mut earlier = Earlier::new();
    loop {
        let selected = select(&containers, arguments)?;
        let rows: Vec<Row<'_>> = selected.iter().map(|found| Row::look(found, &mut earlier)).collect();
        if is_terminal && !arguments.no_stream && !arguments.no_reset {
            std::io::Write::write_all(&mut &stdout, RESET)?;
        }
        match &format {
            None => output.table(&table(&rows, arguments.no_trunc))?,
            Some(Format::Json) => output.json(&Value::Array(rows.iter().map(Row::listed).collect()))?,
            Some(format) => {
                let shown: Vec<Value> = rows.iter().map(|row| row.shown(arguments.no_trunc)).collect();
                output.list(&shown, format, &TITLES)?;
            }
        }
        output.flush()?;
        if arguments.no_stream {
            return Ok(Exit::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(arguments.interval));
    }
}

fn select(containers: &Containers, arguments: &StatsArguments) -> Result<Vec<Found>, Failure> {
    if arguments.latest {
        return Ok(vec![latest(containers)?]);
    }
    if !arguments.containers.is_empty() {
        return Ok(arguments.containers.iter().map(|name| containers.find(name)).collect::<Result<_, _>>()?);
    }
    let mut all = containers.all();
    all.retain(|found| arguments.all || matches!(found.record.status(), Status::Running | Status::Paused));
    Ok(all)
}

/// A container and what it uses.
struct Row<'a> {
    found: &'a Found,
    usage: Usage,
    /// Of one processor, since the last look or, at the first, since the start.
    share: Option<f64>,
    /// The same since the start.
    average: Option<f64>,
}

impl<'a> Row<'a> {
    fn look(found: &'a Found, earlier: &mut Earlier) -> Self {
        let record = &found.record;
        let Some(first) = record.running() else {
            return Self { found, usage: Usage::default(), share: None, average: None };
        };
        let of_group = record.group().map(|group| group.usage()).unwrap_or_default();
        let of_processes = top::usage(first.id);
        // A group that was made while it ran knows nothing of before.
        let mut usage = if record.gathered().is_some() { of_processes.or(of_group) } else { of_group.or(of_processes) };
        usage.network = Usage::of_network(first.id);
        let now = Instant::now();
        let started = record.run.as_ref().map(|run| time(run.started));
        let age = started.and_then(|started| SystemTime::now().duration_since(started).ok());
        let average = usage.cpu.zip(age).map(|(cpu, age)| percent(cpu.as_secs_f64(), age.as_secs_f64()));
        let last = usage.cpu.and_then(|cpu| earlier.insert(record.id.clone(), (cpu, now)));
        let share = match (last, usage.cpu) {
            (Some((before, then)), Some(cpu)) => {
                Some(percent(cpu.saturating_sub(before).as_secs_f64(), (now - then).as_secs_f64()))
            }
            _ => average,
        };
        Self { found, usage, share, average }
    }

    fn memory(&self) -> (String, String) {
        let limit = self.usage.memory_limit.or_else(top::total_memory);
        let Some((used, limit)) = self.usage.memory.zip(limit) else {
            return (format!("{UNKNOWN} / {UNKNOWN}"), UNKNOWN.to_owned());
        };
        #[allow(clippy::cast_precision_loss, reason = "shown with two decimals")]
        let part = percent(used as f64, limit as f64);
        (format!("{} / {}", compact(used), compact(limit)), shown(Some(part)))
    }

    fn processor_time(&self) -> String {
        self.usage.cpu.map_or_else(|| UNKNOWN.to_owned(), |cpu| format!("{:.3}s", cpu.as_secs_f64()))
    }

    fn pids(&self) -> String {
        self.usage.pids.map_or_else(|| UNKNOWN.to_owned(), |pids| pids.to_string())
    }

    /// podman's object.
    fn listed(&self) -> Value {
        let (memory, part) = self.memory();
        json!({
            "id": id(&self.found.record, false), "name": self.found.name, "cpu_time": self.processor_time(),
            "cpu_percent": shown(self.share), "avg_cpu": shown(self.average), "mem_usage": memory,
            "mem_percent": part, "net_io": pair(self.usage.network), "block_io": pair(self.usage.io), "pids": self.pids(),
        })
    }

    /// The fields of a template.
    fn shown(&self, is_whole: bool) -> Value {
        let (memory, part) = self.memory();
        let id = id(&self.found.record, is_whole);
        json!({
            "ID": id, "ContainerID": id, "Name": self.found.name, "CPUPerc": shown(self.share), "MemUsage": memory,
            "MemPerc": part, "NetIO": pair(self.usage.network), "BlockIO": pair(self.usage.io), "PIDS": self.pids(),
            "UpTime": self.processor_time(), "AvgCPU": shown(self.average),
        })
    }
}

fn table(rows: &[Row<'_>], is_whole: bool) -> Table {
    let mut table = Table::with_header([
        "ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET IO",
        "BLOCK IO",
        "PIDS",
        "CPU TIME",
        "AVG CPU %",
    ]);
    for row in rows {
        let (memory, part) = row.memory();
        table.row([
            id(&row.found.record, is_whole),
            &row.found.name,
            &shown(row.share),
            &memory,
            &part,
            &pair(row.usage.network),
            &pair(row.usage.io),
            &row.pids(),
            &row.processor_time(),
            &shown(row.average),
        ]);
    }
    table
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

fn shown(percent: Option<f64>) -> String {
    percent.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent:.2}%"))
}

fn pair(bytes: Option<(u64, u64)>) -> String {
    match bytes {
        Some((one, other)) => format!("{} / {}", compact(one), compact(other)),
        None => format!("{UNKNOWN} / {UNKNOWN}"),
    }
}

/// A size without the space, as podman has it here.
fn compact(bytes: u64) -> String {
    size(bytes).replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_two_dashes() {
        assert_eq!((shown(None), pair(None)), ("--".to_owned(), "-- / --".to_owned()));
        assert_eq!((shown(Some(1.234)), pair(Some((1500, 0)))), ("1.23%".to_owned(), "1.5kB / 0B".to_owned()));
        assert!(percent(1.0, 0.0).abs() < f64::EPSILON && (percent(1.0, 4.0) - 25.0).abs() < f64::EPSILON);
    }
}
