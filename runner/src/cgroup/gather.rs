//! A group for a container that runs without one: made by the same means as before a start, and filled with the processes that
//! the container has by now.
//!
//! ```text
//! lrun-ID.scope/monitor/           the runner, which systemd puts into the scope
//!               container-START/   the container's processes; START is when its first one began
//! WRITABLE/lrun-ID-START/          without systemd: the nearest group above the container's in which one can be made
//! ```
//!
//! A process is moved with all its threads, and is born where its parent is. So whoever is outside makes others outside: passes
//! over all processes go on until one finds nobody. Names are those of one start, so that what a killed command left half done
//! is found and gone on with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hierarchy::{Hierarchy, may_write};
use super::{CONTAINER, Group, GroupError, PREFIX, Wish, enable_all, resources, scope, set_apart};
use crate::exec::{FirstProcess, stat};
use crate::sys::namespace;

/// How long passes go on.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a process is refused in passes that follow each other before that is told.
const REFUSALS: u32 = 5;

impl Group {
    /// Makes one for a container that runs without, and moves all of its pid namespace's processes there. `note` is told the
    /// group before anything is in it. Limits are not set.
    ///
    /// # Errors
    /// [`GroupError`]; what was made by then is removed, or found again by the next call.
    pub fn gather(
        wish: &Wish,
        first: &FirstProcess,
        runtime: Option<&Path>,
        note: impl FnOnce(&Self) -> io::Result<()>,
    ) -> Result<Self, GroupError> {
        let members = Members::of(*first)?;
        members.check(runtime)?;
        let settings = wish.resources.settings().map_err(GroupError::Device)?;
        let controllers = resources::controllers(&settings);
        let own = members.hierarchy.group_of(&folder(first.id)).ok_or(GroupError::Ended)?;
        let path = if scope::sockets(runtime).is_empty() {
            let name = format!("{PREFIX}{}-{}", wish.name, first.started);
            // An earlier command's, or the container would go one deeper with each.
            match own.ancestors().find(|group| group.file_name() == Some(name.as_ref())) {
                Some(made) => made.to_path_buf(),
                None => members.hierarchy.place(&own, &controllers)?.join(name),
            }
        } else {
            let runner = stat(first.id, 4).ok().and_then(|id| id.parse().ok()).ok_or(GroupError::Ended)?;
            let scope = members.scope_around(runner, &wish.name, runtime)?;
            enable_all(&members.hierarchy, &scope, &controllers)?;
            scope.join(format!("{CONTAINER}-{}", first.started))
        };
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(GroupError::at(&path))?,
        }
        let group = Self::at(path);
        if let Err(error) = note(&group) {
            let _ = std::fs::remove_dir(group.path());
            return Err(GroupError::File { path: group.path().to_path_buf(), source: error });
        }
        members.bring_to(&group, runtime)?;
        if first.open().is_none() {
            // Who answers for it may have looked for a group before this one was noted.
            group.remove();
            return Err(GroupError::Ended);
        }
        Ok(group)
    }

    /// Moves in who of a container is outside of its gathered group; how many that were.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn admit(&self, first: &FirstProcess, runtime: Option<&Path>) -> Result<usize, GroupError> {
        Members::of(*first)?.bring_to(self, runtime)
    }
}

/// The processes of a container that has a pid namespace of its own.
struct Members {
    first: FirstProcess,
    namespace: File,
    hierarchy: Hierarchy,
}

impl Members {
    fn of(first: FirstProcess) -> Result<Self, GroupError> {
        let file = |id: i32| File::open(folder(id).join("ns/pid"));
        // The init of `--init` lets nobody look; its command is in the same namespace.
        let command = || {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", first.id))?;
            let id = children.split_ascii_whitespace().next().and_then(|id| id.parse().ok());
            file(id.ok_or(io::ErrorKind::PermissionDenied)?)
        };
        let namespace = file(first.id).or_else(|_| command());
        let namespace = namespace.map_err(GroupError::at(folder(first.id).join("ns/pid")))?;
        // Looked at with the file in hand: it is this process's, and not a later one's of the same number.
        first.open().ok_or(GroupError::Ended)?;
        Ok(Self { first, namespace, hierarchy: Hierarchy::find()? })
    }

    /// Refuses before anything is done what could not be done to its end.
    fn check(&self, runtime: Option<&Path>) -> Result<(), GroupError> {
        let own = rustix::process::geteuid();
        if own.is_root() || scope::sockets(runtime).is_empty() {
            return Ok(());
        }
        for process in self.all()? {
            let Some(group) = self.hierarchy.group_of(&folder(process)) else { continue };
            match uid(process) {
                Some(uid) if uid != own.as_raw() && !group.ancestors().any(may_write) => {
                    return Err(GroupError::Foreign { process, uid });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The scope that the runner is in, in a group beside the container's.
    fn scope_around(&self, runner: i32, name: &str, runtime: Option<&Path>) -> Result<PathBuf, GroupError> {
        let unit = format!("{PREFIX}{name}");
        let is_scope =
            |group: &Path| group.file_name().and_then(|name| name.to_str()) == Some(&format!("{unit}.scope"));
        let group = self.hierarchy.group_of(&folder(runner)).ok_or(GroupError::Ended)?;
        let scope = match group.ancestors().find(|group| is_scope(group)) {
            Some(scope) => scope.to_path_buf(),
            None => scope::start(&format!("{unit}.scope"), None, runner, Vec::new(), runtime)?,
        };
        set_apart(&scope, runner)?;
        Ok(scope)
    }

    fn all(&self) -> Result<Vec<i32>, GroupError> {
        let entries = std::fs::read_dir("/proc").map_err(GroupError::at("/proc"))?;
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(ids.filter(|&id| self.has(id)).collect())
    }

    fn has(&self, id: i32) -> bool {
        namespace::has_process(&self.namespace, id).unwrap_or_else(|| id == self.first.id || self.is_below(id))
    }

    /// The same by the namespace's file, which not every process lets us open.
    fn is_below(&self, id: i32) -> bool {
        let Ok(file) = File::open(folder(id).join("ns/pid")) else { return false };
        let number = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
        let own = number(&self.namespace);
        let mut next = Some(file);
        while let Some(file) = next {
            if number(&file) == own {
                return true;
            }
            next = namespace::around(&file).ok().map(|around: OwnedFd| File::from(around));
        }
        false
    }

    /// Moves all who are outside of a group into it, until nobody is; how many that were.
    fn bring_to(&self, group: &Group, runtime: Option<&Path>) -> Result<usize, GroupError> {
        let begun = Instant::now();
        let mut refused: HashMap<i32, u32> = HashMap::new();
        let mut moved = 0;
        while begun.elapsed() < PATIENCE {
            let mut outside = self.all()?;
            outside.retain(|&id| self.is_outside(id, group.path()));
            if outside.is_empty() {
                return Ok(moved);
            }
            moved += outside.len();
            let failed = move_to(group, &outside, runtime)?;
            refused.retain(|id, _| failed.iter().any(|(other, _)| other == id));
            for (process, error) in failed {
                let count = refused.entry(process).or_default();
                *count += 1;
                match uid(process) {
                    Some(uid) if uid != rustix::process::geteuid().as_raw() => {
                        return Err(GroupError::Foreign { process, uid });
                    }
                    Some(_) if *count >= REFUSALS => {
                        return Err(GroupError::Move { process, path: group.path().to_path_buf(), source: error });
                    }
                    _ => {}
                }
            }
        }
        Err(GroupError::Restless(group.path().to_path_buf()))
    }

    /// Whether a process that runs is elsewhere. One whose first thread has ended may have others.
    fn is_outside(&self, id: i32, group: &Path) -> bool {
        let is_elsewhere = |folder: &Path| self.hierarchy.group_of(folder).is_some_and(|own| !own.starts_with(group));
        if !has_ended(&folder(id)) {
            return is_elsewhere(&folder(id));
        }
        let Ok(threads) = std::fs::read_dir(folder(id).join("task")) else { return false };
        threads.flatten().any(|thread| !has_ended(&thread.path()) && is_elsewhere(&thread.path()))
    }
}

/// Moves processes: by hand, or where only systemd may, by it. Returns those that were refused.
fn move_to(group: &Group, processes: &[i32], runtime: Option<&Path>) -> Result<Vec<(i32, io::Error)>, GroupError> {
    let file = group.path().join("cgroup.procs");
    let mut procs = File::options().write(true).open(&file).map_err(GroupError::at(&file))?;
    let mut refused = Vec::new();
    for &process in processes {
        match procs.write_all(process.to_string().as_bytes()) {
            // It has ended.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(error) => refused.push((process, error)),
            Ok(()) => {}
        }
    }
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_ours = |folder: &&Path| name(folder).strip_suffix(".scope").is_some_and(|unit| unit.starts_with(PREFIX));
    let (Some(scope), false) = (group.path().ancestors().find(is_ours), refused.is_empty()) else { return Ok(refused) };
    let unit = name(scope);
    let below = group.path().strip_prefix(scope).unwrap_or(group.path());
    let ids: Vec<i32> = refused.iter().map(|&(process, _)| process).collect();
    scope::admit(&unit, &format!("/{}", below.display()), &ids, runtime)
}

fn folder(process: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{process}"))
}

/// Whether a thread has ended, and is at most waited for.
fn has_ended(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    text.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}

/// The real user id of a process, as systemd looks at it.
fn uid(process: i32) -> Option<u32> {
    let text = std::fs::read_to_string(folder(process).join("status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::own_id;

    fn own() -> Members {
        let first = FirstProcess::of(own_id()).unwrap();
        let namespace = File::open("/proc/self/ns/pid").unwrap();
        let hierarchy = Hierarchy::of_test(Path::new("/sys/fs/cgroup"));
        Members { first, namespace, hierarchy }
    }

    #[test]
    fn members_are_found_by_either_means() {
        let own = own();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id().cast_signed();
        assert!(own.is_below(id) && own.has(id) && own.all().unwrap().contains(&id));
        assert!(!own.has(i32::MAX) && !own.is_below(i32::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!own.has(id));
    }

    #[test]
    fn what_has_ended_is_nowhere() {
        let own = own();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id().cast_signed();
        while !has_ended(&folder(id)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(own.has(id) && !own.is_outside(id, Path::new("/nowhere")), "one that is not waited for");
        assert!(!has_ended(&folder(own_id())));
        assert_eq!(uid(own_id()), Some(rustix::process::getuid().as_raw()));
        child.wait().unwrap();
        assert!(has_ended(&folder(id)));
        assert_eq!(uid(id), None);
    }
}
