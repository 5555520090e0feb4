//! What is known of a container besides its files: a record in its folder, written whole or not at all.
//!
//! ```text
//! containers/NAME/   the folder; making it reserves the name
//!   state            the record, JSON; only who holds the folder's lock writes it
//!   amendment        what was changed since, JSON
//!   kept             marks one that stays when it has ended
//!   upper/ work/     its changes
//!   log log.1        what it wrote in the background
//!   attach           socket of its monitor
//!   stopped          mark for the monitor: it is not to be started again
//! ```
//!
//! Nothing here is believed beyond what the kernel confirms: a record that says "running" is of a running container only
//! while the very process that it names lives in this boot.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::amendment::{Amendment, Gathered};
use crate::attendance::Attendance;
use crate::cgroup::Group;
use crate::container::ExitStatus;
use crate::exec::FirstProcess;
use crate::health::{HealthCheck, OnFailure};
use crate::secrets::Given;
use crate::spec::{MountKind, Port, Spec};
use crate::survey::{Surveyed, survey};

/// File name of the record.
pub const STATE: &str = "state";
/// A record of another form is of another version of this program.
const FORM: u32 = 2;
/// What a container is taken to have ended with whose monitor could not tell: it was killed.
const KILLED: u8 = 137;
/// How long a monitor may take to write down how its container ended.
const PATIENCE: u32 = 200;

/// Why there is no such container to be had. One line.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nothing has that name or id.
    #[error("no container with name or ID {0:?} found: no such container")]
    NotFound(String),
    /// More than one id begins so.
    #[error("more than one container has an ID that begins with {0:?}; give more of it, or a name")]
    Ambiguous(String),
    /// The folder is there and the record is not.
    #[error("{0}: the container is being started or removed; try again")]
    InTheMaking(String),
    /// Another version's record.
    #[error("{0}: its state is of another version of lrun; `lrun rm {0}` removes it")]
    Form(String),
    /// The record cannot be read.
    #[error("{name}: cannot read its state: {source}")]
    Read {
        /// The container.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What to do when a container's command has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Nothing.
    #[default]
    No,
    /// Start it again if it failed, at most so often; 0 for no limit.
    OnFailure(u32),
    /// Start it again unless it was stopped.
    Always,
}

/// A point in time, in nanoseconds since 1970.
pub type Moment = u64;

/// Now.
pub fn now() -> Moment {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

/// One start of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Boot that `first` is of.
    boot: String,
    /// Its first process.
    pub first: FirstProcess,
    /// When it was started.
    pub started: Moment,
    /// When it ended, where that was seen.
    pub finished: Option<Moment>,
    /// Exit status, where it was seen.
    pub exit: Option<u8>,
    /// Whether a monitor answers for it, rather than the program that started it.
    pub has_monitor: bool,
    /// Whether a process of it was killed because its control group had no more memory.
    #[serde(default)]
    pub had_no_memory: bool,
}

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this form; another is another program's.
    pub form: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// The image, as it was named.
    pub image: String,
    /// The image's id, without `sha256:`.
    pub image_id: String,
    /// When it was made.
    pub created: Moment,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that it is known to listen on; their host's are none.
    #[serde(default)]
    pub exposed: Vec<Port>,
    /// Secrets that it is given; what they are is looked up for each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Given>,
    /// How its health is checked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What is done beside each start.
    #[serde(default, skip_serializing_if = "Attendance::is_none")]
    pub attendance: Attendance,
    /// The part of the command that the image or the caller calls entrypoint.
    pub entrypoint: Vec<OsString>,
    /// Signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Seconds until it is killed when it was asked.
    pub stop_timeout: u64,
    /// What happens when it ends.
    pub restart: Restart,
    /// Most bytes of a log file; 0 for no limit.
    pub log_size: u64,
    /// Whether it is started with the help of a holder.
    pub holder: bool,
    /// What it is started by.
    pub spec: Spec,
    /// The control group of the last start, if it had one of its own.
    #[serde(default)]
    pub group: Option<PathBuf>,
    /// How often its monitor has started it again.
    pub restarts: u32,
    /// What was changed since it was made; already in effect in the fields that it is about.
    #[serde(skip)]
    pub amendment: Amendment,
    /// The last start.
    pub run: Option<Run>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was never started.
    Created,
    /// Its first process lives.
    Running,
    /// So it does, and its control group is stopped.
    Paused,
    /// It has ended.
    Exited,
}

impl Status {
    /// podman's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }
}

impl Record {
    /// Of a container to be.
    pub fn new(id: String, image: String, image_id: String, spec: Spec) -> Self {
        Self {
            form: FORM,
            id,
            image,
            image_id,
            created: now(),
            labels: BTreeMap::new(),
            exposed: Vec::new(),
            secrets: Vec::new(),
            health: None,
            attendance: Attendance::default(),
            entrypoint: Vec::new(),
            stop_signal: None,
            stop_timeout: 10,
            restart: Restart::No,
            log_size: 0,
            holder: true,
            spec,
            group: None,
            restarts: 0,
            amendment: Amendment::default(),
            run: None,
        }
    }

    /// Whether its monitor may start it again.
    pub fn restarts(&self) -> bool {
        self.restart != Restart::No || self.health.as_ref().is_some_and(|check| check.on_failure == OnFailure::Restart)
    }

    /// Notes that it runs.
    ///
    /// # Errors
    /// The process has gone already.
    pub fn begin(&mut self, id: i32, has_monitor: bool) -> io::Result<()> {
        let first = FirstProcess::of(id)?;
        let (boot, started) = (boot()?, now());
        self.run = Some(Run { boot, first, started, finished: None, exit: None, has_monitor, had_no_memory: false });
        Ok(())
    }

    /// Notes how it ended.
    pub fn end(&mut self, status: ExitStatus, had_no_memory: bool) {
        if let Some(run) = &mut self.run {
            run.finished = Some(now());
            run.exit = Some(status.code());
            run.had_no_memory = had_no_memory;
        }
    }

    /// Its first process, while it runs.
    pub fn running(&self) -> Option<FirstProcess> {
        let run = self.run.as_ref().filter(|run| run.finished.is_none())?;
        let is_this_boot = boot().is_ok_and(|boot| boot == run.boot);
        (is_this_boot && run.first.open().is_some()).then_some(run.first)
    }

    /// What it does now.
    pub fn status(&self) -> Status {
        match (&self.run, self.running()) {
            (None, _) => Status::Created,
            (_, Some(_)) if self.group().is_some_and(|group| group.is_frozen()) => Status::Paused,
            (_, Some(_)) => Status::Running,
            _ => Status::Exited,
        }
    }

    /// The control group of the last start.
    pub fn group(&self) -> Option<Group> {
        self.group.clone().map(Group::at)
    }

    /// What the last start ended with, once it has. One that ended unseen, with its monitor or with the machine, was killed.
    pub fn exit(&self) -> Option<u8> {
        let run = self.run.as_ref()?;
        run.exit.or_else(|| self.running().is_none().then_some(KILLED))
    }

    /// Writes it into the container's folder, whose lock the caller holds.
    pub fn write(&self, folder: impl AsFd) -> io::Result<()> {
        const DRAFT: &str = "state.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let draft = rustix::fs::openat(&folder, DRAFT, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(draft).write_all(&serde_json::to_vec(self)?)?;
        Ok(rustix::fs::renameat(&folder, DRAFT, &folder, STATE)?)
    }

    /// What the folder of a container says of it, looked at once: for one that nobody answers for.
    pub fn left_in(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(STATE)).ok()?;
        let mut record = serde_json::from_slice(&text).ok().filter(|record: &Self| record.form == FORM)?;
        record.take_changes(folder);
        Some(record)
    }

    /// The images that it is started from: its own, then those that it mounts, each as `sha256:…`.
    pub fn images(&self) -> impl Iterator<Item = String> {
        let mounted = self.spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image(image) => Some(image.id.clone()),
            MountKind::Volume { .. } | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
        });
        std::iter::once(format!("sha256:{}", self.image_id)).chain(mounted)
    }

    /// The volumes that it is started with, by name.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume { name, .. } => Some(name.as_str()),
            MountKind::Bind { .. } | MountKind::Image(_) | MountKind::Tmpfs { .. } => None,
        })
    }

    /// Takes over what was changed since it was made: by the command that reads it, and by its monitor before each start.
    pub fn take_changes(&mut self, folder: &Path) {
        let Some(amendment) = Amendment::read(folder) else { return };
        self.restart = amendment.restart.unwrap_or(self.restart);
        if let Some(wish) = &amendment.cgroup {
            self.spec.cgroup = Some(wish.clone());
        }
        self.amendment = amendment;
        if let Some(path) = self.gathered().map(|gathered| gathered.path.clone()) {
            self.group = Some(path);
        }
    }

    /// The control group that was made while the last start ran.
    pub fn gathered(&self) -> Option<&Gathered> {
        self.amendment
            .group
            .as_ref()
            .filter(|gathered| self.run.as_ref().is_some_and(|run| run.first == gathered.first))
    }

    fn read(folder: &Path, name: &str) -> Result<Self, StateError> {
        for attempt in 0.. {
            let text = match std::fs::read(folder.join(STATE)) {
                // Its command may run already, and tell others so: the record comes right after.
                Err(source) if source.kind() == io::ErrorKind::NotFound && attempt < PATIENCE && is_locked(folder) => {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                read => read.map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound if !folder.exists() => StateError::NotFound(name.to_owned()),
                    io::ErrorKind::NotFound => StateError::InTheMaking(name.to_owned()),
                    _ => StateError::Read { name: name.to_owned(), source },
                })?,
            };
            let record: Option<Self> = serde_json::from_slice(&text).ok().filter(|record: &Self| record.form == FORM);
            let mut record = record.ok_or_else(|| StateError::Form(name.to_owned()))?;
            record.take_changes(folder);
            // Of an ephemeral one nothing more is written.
            let is_unsettled = record.run.as_ref().is_some_and(|run| run.finished.is_none())
                && !record.spec.ephemeral
                && record.running().is_none();
            if !is_unsettled || attempt == PATIENCE || !is_locked(folder) {
                return Ok(record);
            }
            // Its monitor is about to write how it ended.
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(StateError::InTheMaking(name.to_owned()))
    }
}

/// A container that was looked up.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// What was known of it.
    pub record: Record,
}

impl Found {
    /// Looks again.
    ///
    /// # Errors
    /// It has gone.
    pub fn again(&self) -> Result<Self, StateError> {
        let record = Record::read(&self.path, &self.name)?;
        Ok(Self { record, ..self.clone() })
    }
}

/// The containers of a store, by the folder of their folders.
#[derive(Debug, Clone)]
pub struct Containers(PathBuf);

impl Containers {
    /// Those whose folders are in `folder`.
    pub fn within(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where the folder of a name is, or would be.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The container that a name, an id or the beginning of an id stands for. Names win.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn find(&self, wanted: &str) -> Result<Found, StateError> {
        let not_found = || StateError::NotFound(wanted.to_owned());
        // What is no name leads nowhere: not out of the folder, and not to the folder itself.
        if wanted.is_empty() || wanted.contains('/') || wanted.starts_with('.') {
            return Err(not_found());
        }
        let path = self.folder(wanted);
        if path.exists() {
            let record = Record::read(&path, wanted)?;
            return Ok(Found { name: wanted.to_owned(), path, record });
        }
        let mut found: Vec<Found> =
            self.all().into_iter().filter(|found| found.record.id.starts_with(wanted)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(StateError::Ambiguous(wanted.to_owned())),
            (None, _) => Err(not_found()),
        }
    }

    /// All folders among them, with what each says of itself now; waits for nobody.
    ///
    /// # Errors
    /// Those of the file system. No folder of folders holds none.
    pub fn survey(&self) -> io::Result<Vec<(String, Surveyed)>> {
        survey(&self.0)
    }

    /// All that have a record, the youngest first.
    pub fn all(&self) -> Vec<Found> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let read = |entry: io::Result<std::fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let path = self.folder(&name);
            let record = Record::read(&path, &name).ok()?;
            Some(Found { name, path, record })
        };
        let mut found: Vec<Found> = entries.filter_map(read).collect();
        found.sort_by(|one, other| other.record.created.cmp(&one.record.created).then(one.name.cmp(&other.name)));
        found
    }
}

/// Whether somebody answers for the container of a folder.
pub fn is_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

/// An id that no other container has.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::with_capacity(64), |id, byte| format!("{id}{byte:02x}")))
}

/// Names this boot.
pub fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(containers: &Containers, name: &str, id: &str, run: Option<Run>) -> PathBuf {
        let folder = containers.folder(name);
        std::fs::create_dir(&folder).unwrap();
        let record = Record { run, ..Record::new(id.repeat(8), "i".to_owned(), "0".to_owned(), Spec::default()) };
        record.write(File::open(&folder).unwrap()).unwrap();
        folder
    }

    fn run_of(id: i32, boot: String) -> Run {
        let first = FirstProcess::of(id).unwrap();
        Run { boot, first, started: 1, finished: None, exit: None, has_monitor: true, had_no_memory: false }
    }

    #[test]
    fn a_container_is_found_by_name_by_id_and_by_the_beginning_of_one() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().to_owned());
        make(&containers, "web", "abcd0123", None);
        make(&containers, "db", "abce4567", None);
        make(&containers, "abcd", "ffff0000", None);
        let found = |wanted: &str| containers.find(wanted).map(|found| found.name);
        assert_eq!(found("web").unwrap(), "web");
        assert_eq!(found(&"abcd0123".repeat(8)).unwrap(), "web");
        assert_eq!(found("abce").unwrap(), "db");
        assert_eq!(found("abcd").unwrap(), "abcd", "names win");
        assert!(matches!(found("abc"), Err(StateError::Ambiguous(_))));
        for wrong in ["x", "", ".", "..", "../x", "web/upper"] {
            assert!(matches!(found(wrong), Err(StateError::NotFound(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_says_that_it_runs_is_believed_only_while_its_process_lives_in_this_boot() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().to_owned());
        let own = crate::sys::process::own_id();
        make(&containers, "lives", "aa", Some(run_of(own, boot().unwrap())));
        make(&containers, "rebooted", "bb", Some(run_of(own, "another boot".to_owned())));
        let dead = Run { first: FirstProcess { id: i32::MAX, started: 0 }, ..run_of(own, boot().unwrap()) };
        make(&containers, "killed", "cc", Some(dead));
        make(&containers, "fresh", "dd", None);
        let state = |name: &str| {
            let record = containers.find(name).unwrap().record;
            (record.status(), record.exit())
        };
        assert_eq!(state("lives"), (Status::Running, None));
        assert_eq!(state("rebooted"), (Status::Exited, Some(137)));
        assert_eq!(state("killed"), (Status::Exited, Some(137)));
        assert_eq!(state("fresh"), (Status::Created, None));
    }

    #[test]
    fn a_record_that_is_torn_or_another_versions_is_no_record() {
        let scratch = tempfile::tempdir().unwrap();
        let containers = Containers::within(scratch.path().to_owned());
        let folder = make(&containers, "web", "ab", None);
        std::fs::write(folder.join(STATE), "{\"form\":2,").unwrap();
        assert!(matches!(containers.find("web"), Err(StateError::Form(_))));
        std::fs::remove_file(folder.join(STATE)).unwrap();
        assert!(matches!(containers.find("web"), Err(StateError::InTheMaking(_))));
        assert!(containers.all().is_empty());
    }
}
