//! `events`: what a container uses, in the form of runc's.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::state::Found;
use crate::cgroup::Group;
use crate::error::Error;

/// What a container uses now.
///
/// # Errors
/// [`Error::Refused`] for one without a control group, by which alone it could be told.
pub fn stats(container: &Found) -> Result<Value, Error> {
    let id = &container.record.id;
    let group = container.group().ok_or_else(|| {
        Error::Refused(format!("container {id:?} has no control group of its own, which alone tells what it uses"))
    })?;
    Ok(json!({"type": "stats", "id": id, "data": used(group.path())}))
}

/// How often a process of it was killed for want of memory.
pub fn killed_for_memory(container: &Found) -> u64 {
    container.group().map_or(0, |group| number(&text(&group, "memory.events"), "oom_kill "))
}

fn text(group: &Group, file: &str) -> String {
    std::fs::read_to_string(group.path().join(file)).unwrap_or_default()
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

fn used(folder: &Path) -> Value {
    let group = Group::at(folder.to_path_buf());
    let read = |file: &str| text(&group, file);
    // No limit is the largest number there.
    let single = |file: &str| {
        let text = read(file);
        if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or_default() }
    };
    let (cpu, memory, io) = (read("cpu.stat"), read("memory.stat"), read("io.stat"));
    let nanoseconds = |name: &str| number(&cpu, name).saturating_mul(1000);
    let entry = |usage: &str, limit: &str, most: &str, failures: u64| json!({"usage": single(usage), "limit": single(limit), "max": single(most), "failcnt": failures});
    let raw: Map<String, Value> = memory
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.parse::<u64>().ok()?))))
        .collect();
    json!({
        "cpu": {
            "usage": {
                "total": nanoseconds("usage_usec "), "kernel": nanoseconds("system_usec "), "user": nanoseconds("user_usec "),
            },
            "throttling": {
                "periods": number(&cpu, "nr_periods "),
                "throttledPeriods": number(&cpu, "nr_throttled "),
                "throttledTime": nanoseconds("throttled_usec "),
            },
        },
        "memory": {
            "cache": number(&memory, "file "),
            "usage": entry("memory.current", "memory.max", "memory.peak", number(&read("memory.events"), "max ")),
            "swap": entry(
                "memory.swap.current", "memory.swap.max", "memory.swap.peak", number(&read("memory.swap.events"), "fail "),
            ),
            "raw": raw,
        },
        "pids": {"current": single("pids.current"), "limit": pids(&read("pids.max"))},
        "blkio": {
            "ioServiceBytesRecursive": transferred(&io, [("Read", "rbytes="), ("Write", "wbytes=")]),
            "ioServicedRecursive": transferred(&io, [("Read", "rios="), ("Write", "wios=")]),
        },
        "hugetlb": huge_pages(&group),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// Here no limit is 0.
fn pids(most: &str) -> u64 {
    most.trim().parse().unwrap_or_default()
}

fn transferred(text: &str, kinds: [(&str, &str); 2]) -> Vec<Value> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let numbers = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse::<u32>(), minor.parse::<u32>()))
        else {
            continue;
        };
        for (operation, key) in kinds {
            let value = line.split(' ').find_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
            all.extend(value.map(|value| json!({"major": major, "minor": minor, "op": operation, "value": value})));
        }
    }
    all
}

fn huge_pages(group: &Group) -> Map<String, Value> {
    let entries = std::fs::read_dir(group.path()).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("hugetlb.")?.strip_suffix(".current")?.to_owned()).filter(|size| !size.contains('.'))
    });
    sizes
        .map(|size| {
            let usage = pids(&text(group, &format!("hugetlb.{size}.current")));
            let failures = number(&text(group, &format!("hugetlb.{size}.events")), "max ");
            (size, json!({"usage": usage, "failcnt": failures}))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_in_the_form_of_runc() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 7\nuser_usec 5\nsystem_usec 2\nnr_periods 4\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\nfile 12\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=1 rios=3 wios=2\n"),
            ("hugetlb.2MB.current", "0\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
        ] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let told = used(folder.path());
        assert_eq!(told["cpu"]["usage"], json!({"total": 7000, "kernel": 2000, "user": 5000}));
        assert_eq!(told["cpu"]["throttling"]["periods"], 4);
        assert_eq!(told["memory"]["usage"]["limit"], json!(u64::MAX));
        assert_eq!((&told["memory"]["usage"]["usage"], &told["memory"]["cache"]), (&json!(4096), &json!(12)));
        assert_eq!(told["memory"]["raw"], json!({"anon": 1, "file": 12}));
        assert_eq!(told["pids"], json!({"current": 3, "limit": 0}));
        assert_eq!(told["blkio"]["ioServicedRecursive"][1], json!({"major": 8, "minor": 0, "op": "Write", "value": 2}));
        assert_eq!(told["hugetlb"], json!({"2MB": {"usage": 0, "failcnt": 0}}));
    }
}
