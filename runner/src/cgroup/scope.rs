//! A scope of systemd's, with this process or another in it: the way to groups of one's own where systemd owns the tree.
//!
//! From a login's session no process can be moved to where the user's manager has delegated groups: only systemd may, and
//! does on request (`org.freedesktop.systemd1(5)`, "CONTROL_GROUP_DELEGATION").

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::GroupError;
use super::bus::{Bus, Value};
use super::hierarchy::Hierarchy;
use crate::sys::process;

/// How long systemd may take to put this process into its scope.
const PATIENCE: Duration = Duration::from_secs(20);
/// Suffix of a scope's name.
const SUFFIX: &str = ".scope";

/// Where systemd listens: the user's, or root's own.
pub(super) fn sockets(runtime: Option<&Path>) -> Vec<(PathBuf, bool)> {
    let all = if rustix::process::geteuid().is_root() {
        vec![(PathBuf::from("/run/systemd/private"), false), (PathBuf::from("/run/dbus/system_bus_socket"), true)]
    } else {
        let runtime = runtime.into_iter();
        runtime.flat_map(|folder| [(folder.join("systemd/private"), false), (folder.join("bus"), true)]).collect()
    };
    all.into_iter().filter(|(socket, _)| socket.exists()).collect()
}

/// Puts this process into a new scope; returns the scope's group.
pub(super) fn enter(name: &str, slice: Option<&str>, runtime: Option<&Path>) -> Result<PathBuf, GroupError> {
    start(name, slice, runtime, process::own_id())
}

/// Puts a process of the caller's into a new scope; returns the scope's group.
pub(super) fn start(
    name: &str,
    slice: Option<&str>,
    runtime: Option<&Path>,
    process: i32,
) -> Result<PathBuf, GroupError> {
    let sockets = sockets(runtime);
    if sockets.is_empty() {
        return Err(GroupError::NoManager);
    }
    let unit = format!("{name}{SUFFIX}");
    let mut properties = vec![
        ("Description", Value::Text(format!("lrun container {name}"))),
        ("Delegate", Value::Flag(true)),
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("PIDs", Value::Numbers(vec![process.cast_unsigned()])),
    ];
    if let Some(slice) = slice {
        properties.push(("Slice", Value::Text(slice.to_owned())));
    }
    let mut refused = None;
    let begun = Instant::now();
    let ask = |socket: &Path, is_shared: bool| {
        let mut bus = Bus::connect(socket, is_shared)?;
        loop {
            match bus.start_unit(&unit, &properties) {
                // Of the container's last start: systemd takes it away when it hears that nobody is in it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    };
    let is_asked = sockets.iter().any(|(socket, is_shared)| match ask(socket, *is_shared) {
        Ok(()) => true,
        Err(error) => {
            refused = Some(error);
            false
        }
    });
    if !is_asked {
        let reason = refused.map_or_else(|| "it does not answer".to_owned(), |error| error.to_string());
        return Err(GroupError::Manager { unit, reason });
    }
    // The answer only says that the work is queued.
    let begun = Instant::now();
    let (hierarchy, folder) = (Hierarchy::find()?, PathBuf::from(format!("/proc/{process}")));
    while begun.elapsed() < PATIENCE {
        let Some(own) = hierarchy.group_of(&folder) else { break };
        if own.file_name().is_some_and(|last| last.to_str() == Some(unit.as_str())) {
            return Ok(own);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(GroupError::Manager {
        unit,
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
    let sockets = sockets(runtime);
    let mut bus = None;
    for (socket, is_shared) in &sockets {
        match Bus::connect(socket, *is_shared) {
            Ok(connected) => {
                bus = Some(connected);
                break;
            }
            Err(_) if sockets.len() > 1 => {}
            Err(error) => return Err(GroupError::Manager { unit: unit.to_owned(), reason: error.to_string() }),
        }
    }
    let mut bus = bus.ok_or(GroupError::NoManager)?;
    let numbers: Vec<u32> = processes.iter().map(|process| process.cast_unsigned()).collect();
    if bus.attach(unit, group, &numbers).is_ok() {
        return Ok(Vec::new());
    }
    let each = |&process: &i32| Some((process, bus.attach(unit, group, &[process.cast_unsigned()]).err()?));
    Ok(processes.iter().filter_map(each).collect())
}
