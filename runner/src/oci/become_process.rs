//! The last steps of a process of ours on its way to a command: ids, capabilities, limits, labels, filter, exec. In two
//! parts, for between them it waits to be started.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::{Gid, Uid};
use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::config::{Capabilities, IoPriority, Linux, Process, Scheduler};
use super::placement::Memory;
use super::procfs::Procfs;
use super::seccomp::Filter;
use crate::channel::Channel;
use crate::child::{During, Failure};
use crate::command::Command;
use crate::enter;
use crate::error::{Error, Stage};
use crate::host::Host;
use crate::identity;
use crate::limit::Limit;
use crate::power::drop_from_bounding_set;
use crate::pty;
use crate::seccomp::{capability_bit, capability_names};
use crate::sys::process as sys;
use crate::sys::schedule::{Turn, set_disk_turn, set_turn};
use crate::target::Root;

/// What a command may do, in the kernel's terms.
#[derive(Debug)]
pub(super) struct Confinement {
    sets: Sets,
    limits: Vec<Limit>,
    seccomp: Filter,
    /// The file of /proc to write a label to, and the label.
    label: Option<(&'static str, String)>,
    /// Execution domain.
    domain: Option<u32>,
    /// Its turn at processors.
    turn: Option<Turn>,
    /// Its turn at disks: class and priority.
    disk_turn: Option<(u16, u16)>,
    /// Where its memory comes from.
    memory: Option<Memory>,
    last_capability: u32,
    /// What is weaker than was asked for, where the specification wants that told and no more.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Confinement {
    /// Of a command in a container.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Seccomp`].
    pub(super) fn of(process: &Process, linux: &Linux) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let sets = process.capabilities.as_ref().map(|sets| Sets::of(sets, &mut warnings)).unwrap_or_default();
        // What the specification wants told, and no failure.
        if sets.inheritable & !sets.bounding != 0 {
            warnings.push("inheritable capabilities that the bounding set lacks are left out".to_owned());
        }
        let limits = process.rlimits.iter().map(limit).collect::<Result<_, _>>()?;
        let label = match (process.apparmor_profile.as_str(), process.selinux_label.as_str()) {
            ("", "") => None,
            ("", label) => Some(("thread-self/attr/exec", label.to_owned())),
            (profile, _) => Some(("thread-self/attr/apparmor/exec", format!("exec {profile}"))),
        };
        let domain = linux.personality.as_ref().map(|personality| match personality.domain.as_str() {
            "LINUX" => Ok(0),
            "LINUX32" => Ok(8),
            other => Err(Error::Refused(format!("linux.personality: the domain {other:?} is not known"))),
        });
        Ok(Self {
            seccomp: Filter::of(linux, sets.bounding)?,
            sets,
            limits,
            label,
            domain: domain.transpose()?,
            turn: process.scheduler.as_ref().map(turn).transpose()?,
            disk_turn: process.io_priority.as_ref().map(disk_turn).transpose()?,
            memory: linux.memory_policy.as_ref().map(Memory::of).transpose()?,
            last_capability: Host::probe().last_capability,
            warnings,
        })
    }
}

impl Confinement {
    /// Whether a security module is told of the command.
    pub(super) fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Opens what a label is written to: for this process and no other. To be called before the root changes.
    pub(super) fn open_label(&self, procfs: &Procfs) -> Result<Option<Label<'_>>, Failure> {
        let Some((file, text)) = &self.label else { return Ok(None) };
        Ok(Some(Label { file: procfs.writer(file).during(Stage::Label, text)?, text }))
    }

    /// Notes what a process that is in no new user namespace cannot be granted, since this one has it not.
    pub(super) fn compare_with_own(&mut self) {
        let own = rustix::thread::capabilities(None).map_or(u64::MAX, |own| own.permitted.bits());
        let lacking = self.sets.permitted & !own;
        let names = capability_names().enumerate().filter(|(number, _)| lacking & (1 << number) != 0);
        let names: Vec<String> = names.map(|(_, name)| name).collect();
        if !names.is_empty() {
            self.warnings
                .push(format!("capabilities that the runtime itself has not are left out: {}", names.join(", ")));
        }
    }
}

fn turn(wish: &Scheduler) -> Result<Turn, Error> {
    const POLICIES: [(&str, u32); 6] = [
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    const FLAGS: [(&str, u64); 7] = [
        ("SCHED_FLAG_RESET_ON_FORK", 0x01),
        ("SCHED_FLAG_RECLAIM", 0x02),
        ("SCHED_FLAG_DL_OVERRUN", 0x04),
        ("SCHED_FLAG_KEEP_POLICY", 0x08),
        ("SCHED_FLAG_KEEP_PARAMS", 0x10),
        ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
        ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ];
    let unknown = |what: &str| Error::Refused(format!("process.scheduler: {what} is not known"));
    let policy = POLICIES.into_iter().find(|(name, _)| *name == wish.policy).ok_or_else(|| unknown(&wish.policy))?.1;
    let flag = |flag: &String| FLAGS.into_iter().find(|(name, _)| name == flag).ok_or_else(|| unknown(flag));
    let flags = wish.flags.iter().map(flag).try_fold(0, |all, flag| Ok::<_, Error>(all | flag?.1))?;
    let Scheduler { nice, priority, runtime, deadline, period, .. } = *wish;
    Ok(Turn { policy, flags, nice, priority, runtime, deadline, period })
}

fn disk_turn(wish: &IoPriority) -> Result<(u16, u16), Error> {
    let class = match wish.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::Refused(format!("process.ioPriority: the class {other:?} is not known"))),
    };
    if wish.priority > 7 {
        return Err(Error::Refused(format!("process.ioPriority: {} is not within 0 to 7", wish.priority)));
    }
    Ok((class, wish.priority))
}

fn limit(limit: &super::config::Rlimit) -> Result<Limit, Error> {
    let name = limit.kind.strip_prefix("RLIMIT_").unwrap_or(&limit.kind).to_ascii_lowercase();
    if !Limit::is_known(&name) {
        return Err(Error::Refused(format!("process.rlimits: {} is not known", limit.kind)));
    }
    let value = |value: u64| (value != u64::MAX).then_some(value);
    Ok(Limit { name, soft: value(limit.soft), hard: value(limit.hard) })
}

/// Gives the command its standard streams, so that it can open them again as `/dev/stdout`. The null device stays as it is,
/// and so does what cannot change its owner.
fn give_streams(uid: u32, gid: u32) -> io::Result<()> {
    use rustix::fs::{FileType, fchown, fstat, major, minor};
    let streams = (io::stdin(), io::stdout(), io::stderr());
    for stream in [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()] {
        let stat = match fstat(stream) {
            // The caller has closed it.
            Err(rustix::io::Errno::BADF) => continue,
            stat => stat?,
        };
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) || (stat.st_uid, stat.st_gid) == (uid, gid)
        {
            continue;
        }
        let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        match fchown(stream, Some(owner.0), Some(owner.1)) {
            Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL | rustix::io::Errno::ROFS) => {}
            given => given?,
        }
    }
    Ok(())
}

impl Sets {
    fn of(wish: &Capabilities, warnings: &mut Vec<String>) -> Self {
        let mut set = |names: &[String]| {
            names.iter().fold(0, |set, name| {
                if let Some(bit) = capability_bit(name) {
                    return set | bit;
                }
                let warning = format!("unknown capability {name:?} is left out");
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                set
            })
        };
        Self {
            bounding: set(&wish.bounding),
            effective: set(&wish.effective),
            permitted: set(&wish.permitted),
            inheritable: set(&wish.inheritable),
            ambient: set(&wish.ambient),
        }
    }
}

/// What of the container the first part needs.
pub(super) struct Places<'a> {
    /// Its root, which is this process's.
    pub(super) root: Root,
    /// Where the command begins.
    pub(super) workdir: OwnedFd,
    /// What its label is written to.
    pub(super) label: Option<Label<'a>>,
}

/// A label that is to be written.
pub(super) struct Label<'a> {
    file: File,
    text: &'a str,
}

/// What a process on its way is given.
pub(super) struct Way<'a> {
    pub(super) process: &'a Process,
    pub(super) confinement: &'a Confinement,
    /// How many descriptors from 3 on the command inherits.
    pub(super) preserved: i32,
    /// Whether it may choose its groups.
    pub(super) may_set_groups: bool,
    /// Whether the container's ids are those of the terminal's file system.
    pub(super) owns_terminal: bool,
}

impl Way<'_> {
    /// The first part: all that needs the container's files or power outside of the command's. Of descriptors there are left
    /// those that the command inherits, and `kept`: what is only marked to be closed by exec can be looked at while exec
    /// works, for the process then has the command's memory already, of the container's user namespace.
    pub(super) fn begin(
        &self,
        places: Places<'_>,
        terminal: Option<OwnedFd>,
        kept: &[BorrowedFd<'_>],
    ) -> Result<Command, Failure> {
        let Places { root, workdir, label } = places;
        let (process, confinement) = (self.process, self.confinement);
        let user = &process.user;
        let identity =
            identity::look_up(&root, &user.uid.to_string(), &[]).during(Stage::User, user.uid.to_string())?;
        rustix::process::fchdir(&workdir).during(Stage::Workdir, &process.cwd)?;
        let here = rustix::process::getcwd(Vec::new()).during(Stage::Workdir, &process.cwd)?;
        if !here.as_bytes().starts_with(b"/") {
            return Err(io::Error::other("it lies outside of the container")).during(Stage::Workdir, &process.cwd);
        }
        drop((root, workdir));
        if let Some(terminal) = terminal {
            if let Some(size) = process.console_size {
                let size =
                    rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal.as_fd(), size).during(Stage::Terminal, "")?;
            }
            pty::take(&terminal, self.owns_terminal.then_some(user.uid)).during(Stage::Terminal, "")?;
        }
        if let Some(Label { mut file, text }) = label {
            file.write_all(text.as_bytes()).during(Stage::Label, text)?;
        }
        if let Some(domain) = confinement.domain {
            sys::set_personality(domain).during(Stage::Identity, "")?;
        }
        if let Some(turn) = confinement.turn {
            set_turn(turn).during(Stage::Schedule, "")?;
        }
        if let Some((class, priority)) = confinement.disk_turn {
            set_disk_turn(class, priority).during(Stage::Schedule, "")?;
        }
        if let Some(memory) = &confinement.memory {
            memory.apply().during(Stage::Schedule, "or linux.memoryPolicy")?;
        }
        for limit in &confinement.limits {
            limit.apply().during(Stage::Limit, &limit.name)?;
        }
        give_streams(user.uid, user.gid).during(Stage::User, "")?;
        let words = |words: &[String]| words.iter().map(Into::into).collect::<Vec<_>>();
        let command = Command::new(&words(&process.args), &words(&process.env), identity.home.as_deref());
        self.change_ids()?;
        // The kernel resets it with the ids, to what `fs.suid_dumpable` says.
        enter::hide().during(Stage::Identity, "")?;
        rustix::process::umask(Mode::from_raw_mode(user.umask.unwrap_or(0o022)));
        command.look().during(Stage::Exec, command.name())?;
        if process.no_new_privileges {
            rustix::thread::set_no_new_privs(true).during(Stage::Capabilities, "")?;
            self.confine()?;
        }
        sys::close_all_but_numbers(kept.iter().map(AsRawFd::as_raw_fd).chain(3..3 + self.preserved));
        // Nobody answers for it from here on but whoever adopts it.
        rustix::process::set_parent_process_death_signal(None).during(Stage::Identity, "")?;
        Ok(command)
    }

    /// The second part; comes back only with what went wrong. Who is at the other end of the channel gets the descriptor of a
    /// listener.
    pub(super) fn end(&self, command: &Command, channel: &Channel) -> Failure {
        let last = || -> Result<(), Failure> {
            self.confinement.seccomp.install(channel).during(Stage::Seccomp, "")?;
            // Without no_new_privs the filter takes a capability that the command may not have.
            if !self.process.no_new_privileges {
                self.confine()?;
            }
            Ok(())
        };
        match last() {
            Ok(()) => Failure { stage: Stage::Exec, what: command.name(), error: command.execute() },
            Err(failure) => failure,
        }
    }

    fn change_ids(&self) -> Result<(), Failure> {
        let user = &self.process.user;
        for number in 0..=self.confinement.last_capability {
            if number > 63 || self.confinement.sets.bounding & (1 << number) == 0 {
                drop_from_bounding_set(number).during(Stage::Capabilities, "")?;
            }
        }
        rustix::thread::set_keep_capabilities(true).during(Stage::Capabilities, "")?;
        // Those that are kept are the caller's own.
        let groups: Vec<Gid> = user.additional_gids.iter().map(|&gid| Gid::from_raw(gid)).collect();
        if self.may_set_groups {
            nix::unistd::setgroups(&groups).during(Stage::User, "with additionalGids")?;
        } else if !groups.is_empty() {
            let told = "with a single id no process may choose its groups";
            return Err(io::Error::other(told)).during(Stage::User, "with additionalGids");
        }
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        let explain = |errno| match errno {
            nix::errno::Errno::EINVAL => io::Error::other("the container has no such id"),
            other => other.into(),
        };
        nix::unistd::setresgid(gid, gid, gid).map_err(explain).during(Stage::User, format!("with group {gid}"))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(explain).during(Stage::User, format!("{uid}"))?;
        let have = rustix::thread::capabilities(None).during(Stage::Capabilities, "")?;
        let sets = CapabilitySets { effective: have.permitted, ..have };
        rustix::thread::set_capabilities(None, sets).during(Stage::Capabilities, "")
    }

    /// Leaves the command's own capabilities.
    fn confine(&self) -> Result<(), Failure> {
        let have = rustix::thread::capabilities(None).during(Stage::Capabilities, "")?;
        let wish = &self.confinement.sets;
        let permitted = have.permitted & CapabilitySet::from_bits_retain(wish.permitted);
        // Nor lets it inherit what the bounding set lacks.
        let inheritable = (have.permitted & CapabilitySet::from_bits_retain(wish.bounding) | have.inheritable)
            & CapabilitySet::from_bits_retain(wish.inheritable);
        let effective = permitted & CapabilitySet::from_bits_retain(wish.effective);
        rustix::thread::clear_ambient_capability_set().during(Stage::Capabilities, "")?;
        let sets = CapabilitySets { effective, permitted, inheritable };
        rustix::thread::set_capabilities(None, sets).during(Stage::Capabilities, "")?;
        // The kernel has none in the ambient set that is not in both others.
        let ambient = permitted & inheritable & CapabilitySet::from_bits_retain(wish.ambient);
        for capability in ambient.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true).during(Stage::Capabilities, "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(process: &str, linux: &str) -> Result<Confinement, Error> {
        Confinement::of(&serde_json::from_str(process).unwrap(), &serde_json::from_str(linux).unwrap())
    }

    #[test]
    fn no_capabilities_are_none_and_unknown_ones_are_told() {
        assert_eq!(of("{}", "{}").unwrap().sets.bounding, 0);
        let some =
            of(r#"{"capabilities":{"bounding":["CAP_CHOWN","CAP_FLY"],"effective":["CAP_FLY"]}}"#, "{}").unwrap();
        assert_eq!((some.sets.bounding, some.sets.effective, some.warnings.len()), (1, 0, 1));
    }

    #[test]
    fn limits_filters_and_domains_that_are_not_known_are_refused() {
        assert!(of(r#"{"rlimits":[{"type":"RLIMIT_LUCK","soft":1,"hard":1}]}"#, "{}").is_err());
        assert!(of("{}", r#"{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"}}"#).is_err());
        assert!(of(r#"{"scheduler":{"policy":"SCHED_LUCK"}}"#, "{}").is_err());
        assert!(of(r#"{"scheduler":{"policy":"SCHED_IDLE","flags":["SCHED_FLAG_X"]}}"#, "{}").is_err());
        assert!(of(r#"{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#, "{}").is_err());
        assert!(of("{}", r#"{"personality":{"domain":"AMIGA"}}"#).is_err());
        let limits =
            of(r#"{"rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":18446744073709551615}]}"#, "{}").unwrap();
        assert_eq!(limits.limits, [Limit { name: "nofile".to_owned(), soft: Some(1), hard: None }]);
    }
}
