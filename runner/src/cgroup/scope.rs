//! A scope of systemd's, with this process or another in it: the way to groups of one's own where systemd owns the tree.
//!
//! From a login's session no process can be moved to where the user's manager has delegated groups: only systemd may, and
//! does on request (`org.freedesktop.systemd1(5)`, "CONTROL_GROUP_DELEGATION").

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::GroupError;
use super::bus::Bus;
use super::hierarchy::Hierarchy;
use super::message::Value;
use crate::sys::process;
use crate::userns;

/// How long systemd may take to put this process into its scope.
const PATIENCE: Duration = Duration::from_secs(20);
/// Suffix of a scope's name.
const SUFFIX: &str = ".scope";

/// Where systemd listens: the user's, or root's own. Root of a user namespace is the user who made it.
pub(super) fn sockets(runtime: Option<&Path>) -> Vec<(PathBuf, bool)> {
    let all = if userns::is_real_root() {
        vec![(PathBuf::from("/run/systemd/private"), false), (PathBuf::from("/run/dbus/system_bus_socket"), true)]
    } else {
        let runtime = runtime.into_iter();
        runtime.flat_map(|folder| [(folder.join("systemd/private"), false), (folder.join("bus"), true)]).collect()
    };
    all.into_iter().filter(|(socket, _)| socket.exists()).collect()
}

/// Puts this process into a new scope; returns the scope's group.
pub(super) fn enter(name: &str, slice: Option<&str>, runtime: Option<&Path>) -> Result<PathBuf, GroupError> {
    start(&format!("{name}{SUFFIX}"), slice, process::own_id(), Vec::new(), runtime)
}

/// Puts a process into a new scope with further properties; returns the scope's group.
///
/// # Errors
/// [`GroupError`]: nothing is left behind but what systemd takes away by itself.
pub(super) fn start(
    unit: &str,
    slice: Option<&str>,
    process: i32,
    further: Vec<(&str, Value)>,
    runtime: Option<&Path>,
) -> Result<PathBuf, GroupError> {
    let name = unit.strip_suffix(SUFFIX).unwrap_or(unit);
    let mut properties = vec![
        ("Description", Value::Text(format!("lrun container {name}"))),
        ("Delegate", Value::Flag(true)),
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("PIDs", Value::Numbers(vec![process.cast_unsigned()])),
    ];
    if let Some(slice) = slice {
        properties.push(("Slice", Value::Text(slice.to_owned())));
    }
    properties.extend(further);
    let begun = Instant::now();
    ask(unit, runtime, |bus| {
        loop {
            match bus.start_unit(unit, &properties) {
                // Of the container's last start: systemd takes it away when it hears that nobody is in it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    })?;
    // The answer only says that the work is queued.
    let begun = Instant::now();
    let (hierarchy, folder) = (Hierarchy::find()?, PathBuf::from(format!("/proc/{process}")));
    while begun.elapsed() < PATIENCE {
        let Some(own) = hierarchy.group_of(&folder) else { break };
        if own.file_name().is_some_and(|last| last.to_str() == Some(unit)) {
            return Ok(own);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(GroupError::Manager {
        unit: unit.to_owned(),
        reason: format!("process {process} is not in it after 20 s; `systemctl status` may tell why"),
    })
}

/// Has systemd move processes to a group within a scope; each by itself where it refuses all together, since one that has
/// ended meanwhile is reason enough. Returns those that were refused, with the words for it.
pub(super) fn admit(
    unit: &str,
    group: &str,
    processes: &[i32],
    runtime: Option<&Path>,
) -> Result<Vec<(i32, io::Error)>, GroupError> {
    let numbers: Vec<u32> = processes.iter().map(|process| process.cast_unsigned()).collect();
    ask(unit, runtime, |bus| {
        if bus.attach(unit, group, &numbers).is_ok() {
            return Ok(Vec::new());
        }
        let each = |&process: &i32| Some((process, bus.attach(unit, group, &[process.cast_unsigned()]).err()?));
        Ok(processes.iter().filter_map(each).collect())
    })
}

/// Changes properties of a scope.
///
/// # Errors
/// [`GroupError`].
pub(super) fn change(unit: &str, properties: &[(&str, Value)], runtime: Option<&Path>) -> Result<(), GroupError> {
    ask(unit, runtime, |bus| bus.change_unit(unit, properties))
}

/// Ends a scope, which may have ended already.
///
/// # Errors
/// [`GroupError`].
pub(super) fn stop(unit: &str, runtime: Option<&Path>) -> Result<(), GroupError> {
    ask(unit, runtime, |bus| match bus.stop_unit(unit) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })
}

/// Asks the first systemd that answers.
fn ask<T>(unit: &str, runtime: Option<&Path>, question: impl Fn(&mut Bus) -> io::Result<T>) -> Result<T, GroupError> {
    let sockets = sockets(runtime);
    if sockets.is_empty() {
        return Err(GroupError::NoManager);
    }
    let mut refused = None;
    for (socket, is_shared) in sockets {
        match Bus::connect(&socket, is_shared).and_then(|mut bus| question(&mut bus)) {
            Ok(answer) => return Ok(answer),
            Err(error) => refused = Some(error),
        }
    }
    let reason = refused.map_or_else(|| "it does not answer".to_owned(), |error| error.to_string());
    Err(GroupError::Manager { unit: unit.to_owned(), reason })
}
