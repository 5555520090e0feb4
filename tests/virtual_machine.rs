//! Control groups, systemd and AppArmor for real: in a virtual machine with Debian 13, whose kernel and systemd a build machine
//! need not have. The cases are shell scripts in `tests/vm`; each is a line here.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::need;
use crate::support::{has, mirror, programs, run, user};

/// What the disk is made by: with other contents it is another.
const RECIPE: [&str; 3] = ["disk", "cases.service", "session.service"];
/// The cases of a machine with systemd and AppArmor: what root runs, and what that runs.
const SYSTEM: [&str; 8] = [
    "cases-root",
    "cases-user",
    "cases-life",
    "cases-demand",
    "cases-oci",
    "cases-systemd",
    "cases-apparmor",
    "cases-tail",
];
/// Those of one with SELinux.
const SELINUX: [&str; 3] = ["cases-selinux", "cases-label", "cases-enforced"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vm")
}

/// The disk, made where it is missing or outdated.
fn disk() -> Result<(PathBuf, File), String> {
    user()?;
    for program in ["qemu-system-x86_64", "mmdebstrap", "mke2fs"] {
        has(program)?;
    }
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm");
    let told = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(&place).map_err(told)?;
    let lock = File::create(place.join("lock")).map_err(told)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err("another run of the tests has the machine".to_owned()),
        Err(TryLockError::Error(error)) => return Err(told(error)),
    }
    let mut recipe = Vec::new();
    for file in RECIPE {
        recipe.extend(std::fs::read(folder().join(file)).map_err(told)?);
    }
    let made_by = place.join("recipe");
    if std::fs::read(&made_by).is_ok_and(|made| made == recipe) {
        return Ok((place, lock));
    }
    let _ = std::fs::remove_file(&made_by);
    run(Command::new(folder().join("disk")).arg(&place).arg(mirror()?))?;
    std::fs::write(made_by, recipe).map_err(told)?;
    Ok((place, lock))
}

/// The names of all cases, so that none goes missing in silence.
fn names(cases: &[&str]) -> Vec<String> {
    let name = |line: &str| {
        let mut words = line.trim_start().split(' ');
        matches!(words.next(), Some("tell" | "has")).then(|| words.next().unwrap().to_owned())
    };
    let text = |file: &str| std::fs::read_to_string(folder().join(file)).unwrap();
    cases.iter().flat_map(|file| text(file).lines().filter_map(name).collect::<Vec<_>>()).collect()
}

#[test]
fn limits_and_confinement_hold_in_a_machine_with_systemd() {
    let (place, _lock) = need!("virtual machine", disk());
    // One after the other: either takes all processors.
    all_are_well(&place, &SYSTEM, "apparmor");
    all_are_well(&place, &SELINUX, "selinux");
}

fn all_are_well(place: &Path, cases: &[&str], module: &str) {
    let mut run = Command::new(folder().join("run"));
    let output = run.arg(place).arg(programs()).args([cases[0], module]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = told.lines().filter_map(|line| line.strip_prefix("case ")?.split_once(": "));
    let seen: BTreeMap<&str, &str> = lines.collect();
    let names = names(cases);
    assert!(names.len() > 10, "{names:?}");
    let failed: Vec<String> = names
        .iter()
        .filter_map(|name| match seen.get(name.as_str()) {
            Some(&"ok") => None,
            Some(what) => Some(format!("{name}: {what}")),
            None => Some(format!("{name}: was not reached")),
        })
        .collect();
    assert!(failed.is_empty(), "{}\n{told}", failed.join("\n"));
}
