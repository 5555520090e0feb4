//! `lrun top`: the processes of a container, as the container counts them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lrun::cgroup::Usage;

use super::args::TopArguments;
use super::select::{containers, latest};
use crate::env::Environment;
use crate::exit::Exit;
use crate::global::Global;
use crate::output::{Output, Table};
use crate::report::Failure;

/// Ticks of a second in `/proc`, the same on every architecture.
const TICKS: u64 = 100;

/// What can be shown of a process, and what is if nothing is said.
const FIELDS: [&str; 8] = ["user", "pid", "ppid", "hpid", "elapsed", "time", "comm", "args"];
const DEFAULT: [&str; 6] = ["user", "pid", "ppid", "elapsed", "time", "args"];

pub(super) fn run(global: &Global, arguments: &TopArguments) -> Result<Exit, Failure> {
    let store = Environment::of_process().store(global)?;
    let containers = containers(&store);
    let (found, fields) = match arguments.words.split_first() {
        Some((name, fields)) if !arguments.latest => (containers.find(name)?, fields),
        None if !arguments.latest => return Err("name a container, or give --latest".into()),
        _ => (latest(&containers)?, arguments.words.as_slice()),
    };
    // podman takes them in one word too.
    let fields: Vec<&str> = fields.iter().flat_map(|field| field.split([',', ' '])).collect();
    let fields = if fields.is_empty() { DEFAULT.to_vec() } else { fields };
    if let Some(unknown) = fields.iter().find(|field| !FIELDS.contains(field)) {
        return Err(format!("unknown field {unknown:?}; known are {}", FIELDS.join(", ")).into());
    }
    let first = found.record.running().ok_or_else(|| format!("{}: the container is not running", found.name))?;
    let namespace = |id: i32| fs::read_link(format!("/proc/{id}/ns/pid"));
    let own: PathBuf = namespace(first.id)?;
    let map = fs::read_to_string(format!("/proc/{}/uid_map", first.id))?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or_default();
    let mut processes: Vec<Process> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&id| namespace(id).is_ok_and(|namespace| namespace == own))
        .filter_map(|id| Process::read(Path::new(&format!("/proc/{id}"))))
        .collect();
    processes.sort_by_key(|process| process.inner);
    let mut table = Table::with_header(fields.iter().map(|field| match *field {
        "args" | "comm" => "COMMAND".to_owned(),
        field => field.to_uppercase(),
    }));
    for process in &processes {
        let parent = processes.iter().find(|other| other.outer == process.parent).map_or(0, |parent| parent.inner);
        table.row(fields.iter().map(|field| match *field {
            "user" => inside(&map, process.user).map_or_else(|| "?".to_owned(), |user| user.to_string()),
            "pid" => process.inner.to_string(),
            "ppid" => parent.to_string(),
            "hpid" => process.outer.to_string(),
            "elapsed" => span(uptime.saturating_sub(process.started / TICKS)),
            "time" => span(process.ticks / TICKS),
            "comm" => process.name.clone(),
            _ => process.command.clone(),
        }));
    }
    let stdout = std::io::stdout();
    let mut output = Output::new(&stdout, std::io::IsTerminal::is_terminal(&stdout));
    output.table(&table)?;
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// What the processes of a container use, as far as each tells: for one that has no control group of its own.
pub(super) fn usage(first: i32) -> Usage {
    // Each container has mounts of its own, whichever process ids it has.
    let namespace = |id: i32| fs::read_link(format!("/proc/{id}/ns/mnt"));
    let (Ok(own), Ok(entries)) = (namespace(first), fs::read_dir("/proc")) else { return Usage::default() };
    let (mut ticks, mut memory, mut threads) = (0, 0, 0);
    for id in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
        if !namespace(id).is_ok_and(|namespace| namespace == own) {
            continue;
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        let number = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        // With the time of children that have ended.
        ticks += (11..=14).map(number).sum::<u64>();
        threads += number(17);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        memory += kibibytes(&status, "VmRSS:").unwrap_or_default() << 10;
    }
    Usage {
        cpu: Some(Duration::from_millis(ticks * 1000 / TICKS)),
        memory: Some(memory),
        pids: Some(threads),
        ..Usage::default()
    }
}

/// Bytes of the machine's memory.
pub(super) fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kibibytes(&text, "MemTotal:").map(|kibibytes| kibibytes << 10)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}

struct Process {
    outer: i32,
    inner: i32,
    parent: i32,
    user: u32,
    ticks: u64,
    started: u64,
    command: String,
    name: String,
}

impl Process {
    /// `None` for one that has just ended.
    fn read(folder: &Path) -> Option<Self> {
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_ascii_whitespace);
        let outer = field("Pid:")?.next()?.parse().ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |place: usize| numbers.get(place).and_then(|text| text.parse::<u64>().ok());
        let words = fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        let name = field("Name:")?.next().unwrap_or_default().to_owned();
        Some(Self {
            outer,
            inner: field("NSpid:")?.next_back()?.parse().ok()?,
            parent: field("PPid:")?.next()?.parse().ok()?,
            user: field("Uid:")?.nth(1)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
            started: number(19)?,
            command: if words.is_empty() { format!("[{name}]") } else { words },
            name,
        })
    }
}

/// The id within a namespace of an id outside of it, by the namespace's map.
fn inside(map: &str, outside: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inner, outer, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let distance = outside.checked_sub(outer)?;
        (distance < count).then_some(inner + distance)
    })
}

/// Seconds as podman's `top` has them: `1h2m3s`.
fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_container() {
        let map = "         0       1000          1\n         1    2000000      65536\n";
        assert_eq!(inside(map, 1000), Some(0));
        assert_eq!(inside(map, 2_000_032), Some(33));
        assert_eq!(inside(map, 0), None);
        assert_eq!(inside(map, 2_065_536), None);
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([span(0), span(61), span(7384)], ["0s", "1m1s", "2h3m4s"]);
    }
}
