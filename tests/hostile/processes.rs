//! Every process of ours that exists while something is done with a container, as /proc shows it: whose namespaces it has,
//! whether it may be looked into, what it holds.
//!
//! All is done by a copy of the program that no other test runs, so that its processes are told from others' by their file.
//! They are looked at as fast as this goes, over and over, for as long as the work takes. The tables are added to the file that
//! `LSTORE_TEST_TABLE` names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attack::{Arena, TRACER};
use crate::need;
use crate::networks::let_connect;
use crate::support::{programs, run, said};

/// A group that root has in these tests: with it a file of /proc belongs to `0:GROUP` while its process may be looked into,
/// and to `0:0` when not.
const GROUP: u32 = 54_321;

/// What is there while nothing is done.
const LASTING: &str = "it runs";

/// Another container is started, with nothing that is this one's.
const START: &str = "start";

/// What was seen of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    work: String,
    process: &'static str,
    /// Namespaces: of the host, of the container, or others.
    user: &'static str,
    pid: &'static str,
    mount: &'static str,
    root: &'static str,
    is_dumpable: bool,
    power: String,
}

/// How often it was seen so, and at most with how much.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    times: usize,
    /// Beside its streams.
    descriptors: usize,
    /// Those of them that lead to files that no mount of the container shows.
    files_of_host: usize,
}

impl Held {
    fn add(&mut self, other: Self) {
        self.times += other.times;
        self.descriptors = self.descriptors.max(other.descriptors);
        self.files_of_host = self.files_of_host.max(other.files_of_host);
    }
}

fn row(seen: &Seen, held: Held) -> String {
    let Seen { work, process, user, pid, mount, root, power, .. } = seen;
    let Held { times, descriptors, files_of_host } = held;
    let dumpable = if seen.is_dumpable { "yes" } else { "no" };
    let held = format!("{descriptors}, {files_of_host}");
    format!("| {work} | {process} | {user} | {pid} | {mount} | {root} | {dumpable} | {power} | {held} | {times} |\n")
}

/// A container that runs, and the program that everything is done by.
struct Scene<'a> {
    arena: &'a Arena,
    program: PathBuf,
    name: String,
    flags: String,
    /// The host's number of its first process.
    first: String,
    /// Processes that are there for as long as it is.
    lasting: Vec<u32>,
    /// User namespaces of these that are neither the host's nor the container's: the holder's.
    between: Vec<PathBuf>,
    seen: BTreeMap<Seen, Held>,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let _ = self.arena.env.lrun(&["rm", "-f", "-t", "0", &self.name]);
    }
}

fn link(process: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_link(process.join(name)).ok()
}

/// The numbers of all processes.
fn numbers() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn own_power() -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned()
}

fn parent_of(process: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// The numbers of the mounts that a process sees.
fn mounts(process: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

impl<'a> Scene<'a> {
    fn new(arena: &'a Arena, flags: &[&str]) -> Self {
        let program = arena.env.scratch.join("lrun");
        // In place of one that may still run.
        run(Command::new("cp").args(["-p", "--remove-destination"]).arg(programs().join("lrun")).arg(&program))
            .unwrap();
        let name = "box".to_owned();
        let mut scene = Self {
            arena,
            program,
            name,
            flags: flags.join(" "),
            first: String::new(),
            lasting: Vec::new(),
            between: Vec::new(),
            seen: BTreeMap::new(),
        };
        let flags = [&["--name", "box"], flags].concat();
        said(&scene.command(&[&["run", "-d"], &arena.words(&flags, &["stay", "120"])[2..]].concat()).output().unwrap());
        let id = said(&arena.env.lrun(&["inspect", "--format", "{{.State.Pid}}", "box"]));
        id.trim().clone_into(&mut scene.first);
        scene
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.arena.env.command(&self.program);
        if self.arena.env.user.is_none() {
            command.gid(GROUP);
        }
        command.args(words);
        command
    }

    /// One look at a process of ours; `None` for others, and for one that became another meanwhile.
    fn look(&self, work: &str, id: u32, mounts: &[String]) -> Option<(Seen, Held)> {
        let process = PathBuf::from(format!("/proc/{id}"));
        let is_ours = || link(&process, "exe").is_some_and(|exe| exe == self.program);
        if !is_ours() {
            return None;
        }
        let container = PathBuf::from(format!("/proc/{}", self.first));
        let whose = |name: &str| {
            let own = link(&process, name);
            match own {
                None => None,
                own if own == link(Path::new("/proc/self"), name) => Some("host"),
                own if own == link(&container, name) => Some("container"),
                Some(own) if self.between.contains(&own) => Some("holder"),
                _ => Some("other"),
            }
        };
        let (user, pid, mount) = (whose("ns/user")?, whose("ns/pid")?, whose("ns/mnt")?);
        let root = match process.join("root") {
            root if is_same(&root, Path::new("/")) => "host",
            root if is_same(&root, &container.join("root")) => "container",
            _ => "other",
        };
        let status = process.join("status");
        let text = std::fs::read_to_string(&status).ok()?;
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let power = match field("CapEff:")?.as_str() {
            "0000000000000000" => "none".to_owned(),
            // Root's of this machine, or of a user namespace.
            all if all.ends_with("1ffffffffff") || all == own_power() => "all".to_owned(),
            some => some.to_owned(),
        };
        let mut held = Held { times: 1, ..Held::default() };
        for entry in std::fs::read_dir(process.join("fd")).ok()?.flatten() {
            let number = entry.file_name();
            if number.to_str().and_then(|number| number.parse().ok()).is_none_or(|number: u32| number < 3) {
                continue;
            }
            held.descriptors += 1;
            let Ok(file) = std::fs::metadata(entry.path()) else { continue };
            let info = std::fs::read_to_string(process.join("fdinfo").join(&number)).unwrap_or_default();
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
            let is_foreign = mount.is_some_and(|mount| mounts.iter().all(|known| known != mount));
            held.files_of_host += usize::from((file.is_file() || file.is_dir()) && is_foreign);
        }
        // Last: who joins must have hidden before. Both ids are never 0 in these tests but where the kernel says so.
        let owner = std::fs::metadata(&status).ok()?;
        let is_dumpable = (owner.uid(), owner.gid()) != (0, 0);
        let parent = field("PPid:")?;
        let is_lasting = work == LASTING || self.lasting.contains(&id);
        let (own, is_child_of_ours) =
            (std::process::id().to_string(), |id: &str| parent_of(id) == Some(std::process::id()));
        let process = match field("Name:")? {
            _ if parent == own => "the command",
            _ if id.to_string() == self.first => "init",
            name if is_lasting && name.contains("holder") => "holder",
            _ if is_lasting && parent_of(&self.first) == Some(id) => "monitor",
            _ if is_lasting => "keeper",
            _ if is_child_of_ours(&parent) => "its fork",
            _ => "further fork",
        };
        let seen = Seen { work: work.to_owned(), process, user, pid, mount, root, is_dumpable, power };
        // What it has executed would be told as ours.
        is_ours().then_some((seen, held))
    }

    /// Does something, some times, and looks on.
    fn watch(&mut self, work: &str, times: usize, mut command: impl FnMut(&Self) -> Command) {
        let over = AtomicBool::new(false);
        let mounts = mounts(Path::new(&format!("/proc/{}", self.first)));
        let scene = &*self;
        let seen = std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                let mut seen = (BTreeMap::<Seen, Held>::new(), BTreeSet::new());
                let mut next_scan = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
                    let newest: u32 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
                    let mut ids: Vec<u32> = (newest.saturating_sub(16)..=newest).collect();
                    if Instant::now() > next_scan {
                        ids.extend(numbers());
                        next_scan = Instant::now() + Duration::from_millis(3);
                    }
                    for id in ids {
                        if scene.lasting.contains(&id) {
                            continue;
                        }
                        if let Some((found, held)) = scene.look(work, id, &mounts) {
                            seen.0.entry(found).or_default().add(held);
                            seen.1.insert(id);
                        }
                    }
                }
                seen
            });
            for _ in 0..times {
                let mut child = command(scene).spawn().unwrap();
                let end = Instant::now() + Duration::from_secs(10);
                while child.try_wait().unwrap().is_none() {
                    if Instant::now() > end {
                        child.kill().unwrap();
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            // What clears up after one thing must not be taken for a part of the next.
            let remains =
                |id: &u32| link(Path::new(&format!("/proc/{id}")), "exe").is_some_and(|exe| exe == scene.program);
            let end = Instant::now() + Duration::from_secs(2);
            while work != LASTING
                && numbers().any(|id| !scene.lasting.contains(&id) && remains(&id))
                && Instant::now() < end
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            over.store(true, Ordering::Relaxed);
            looker.join().unwrap()
        });
        for (found, held) in seen.0 {
            self.seen.entry(found).or_default().add(held);
        }
        if work == LASTING {
            self.lasting = seen.1.into_iter().collect();
            let of = |process: &str| link(&Path::new("/proc").join(process), "ns/user");
            let others = self.lasting.iter().filter_map(|id| of(&id.to_string()));
            self.between = others.filter(|one| ![of("self"), of(&self.first)].contains(&Some(one.clone()))).collect();
        }
    }

    fn table(&self) -> String {
        let head = "| while | process | user | pid | mount | root | dumpable | power | descriptors, of the host's files | seen |\n\
                    |---|---|---|---|---|---|---|---|---:|---:|\n";
        head.to_owned() + &self.seen.iter().map(|(seen, held)| row(seen, *held)).collect::<String>()
    }

    /// What of ours stands in a container's namespaces hides, and has nothing of the host; what stays beside it stays outside.
    fn assert_hidden(&self) {
        if let Some(path) = std::env::var_os("LSTORE_TEST_TABLE") {
            let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
            let caller = if self.arena.env.user.is_some() { "user" } else { "root" };
            write!(file, "{caller} {}\n\n{}\n", self.flags, self.table()).unwrap();
        }
        let is_within = |seen: &Seen| [seen.user, seen.pid, seen.mount].contains(&"container");
        let told = |wrong: &dyn Fn(&Seen, Held) -> bool| {
            let wrong = self.seen.iter().filter(|(seen, held)| wrong(seen, **held));
            wrong.map(|(seen, held)| row(seen, *held)).collect::<String>()
        };
        // Who is made in new namespaces with a new container has nobody there who could look; but for that one, with processes
        // of its own, none of ours has a reason to show itself there.
        let has_own_processes =
            link(Path::new(&format!("/proc/{}", self.first)), "ns/pid") != link(Path::new("/proc/self"), "ns/pid");
        let is_beside_new =
            |seen: &Seen| has_own_processes && seen.work == START && (seen.user, seen.pid) == ("other", "host");
        let shown = told(&|seen, _| (is_within(seen) || is_beside_new(seen)) && seen.is_dumpable);
        // What will be a container needs what it is made of until it has it, and hides meanwhile.
        let is_made = |seen: &Seen| seen.work.starts_with(START);
        let holding = told(&|seen, held| seen.pid == "container" && held.files_of_host > 0 && !is_made(seen));
        let living = told(&|seen, _| seen.work == LASTING && seen.process != "init" && is_within(seen));
        assert!(
            shown.is_empty() && holding.is_empty() && living.is_empty(),
            "in the container's namespaces, and may be looked into:\n{shown}\n\
             among its processes, with files of the host's:\n{holding}\nbeside it, and lives in its namespaces:\n{living}"
        );
    }
}

/// Time to look on.
fn rest() -> Command {
    let mut sleep = Command::new("sleep");
    sleep.arg("0.1");
    sleep
}

fn review(arena: &Arena, flags: &[&str]) {
    let mut scene = Scene::new(arena, flags);
    let (file, folder) = (arena.env.scratch.join("file"), arena.env.scratch.join("out"));
    std::fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (file, folder) = (text(&file), text(&folder));
    let name = scene.name.clone();
    let inside = format!("{name}:/file");
    scene.watch(LASTING, 1, |_| rest());
    let other = format!("container:{name}");
    let joining = |flag| arena.words(&[flag, &other], &["exit"]);
    let works = [
        (START, 10, arena.words(flags, &["exit"])),
        ("start, --pid container:X", 20, joining("--pid")),
        ("start, --ipc container:X", 20, joining("--ipc")),
        ("exec", 40, vec!["exec", &name, "/attacker", "exit"]),
        ("exec -t", 20, vec!["exec", "-t", &name, "/attacker", "exit"]),
        ("health check", 40, vec!["healthcheck", "run", &name]),
        ("cp into", 20, vec!["cp", &file, &inside]),
        ("cp out of", 20, vec!["cp", &inside, &folder]),
        ("commit", 10, vec!["commit", "-q", &name, "made:1"]),
        ("diff", 10, vec!["diff", &name]),
        ("export", 10, vec!["export", "-o", "/dev/null", &name]),
        ("top", 10, vec!["top", &name]),
        ("logs", 5, vec!["logs", &name]),
        ("pause", 1, vec!["pause", &name]),
        ("unpause", 1, vec!["unpause", &name]),
    ];
    for (work, times, words) in &works {
        scene.watch(work, *times, |scene| {
            let mut command = scene.command(words);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command
        });
    }
    // As long as the container lives.
    let attach = ["attach", "--no-stdin", &name];
    let mut attached = scene.command(&attach).stdout(std::process::Stdio::null()).spawn().unwrap();
    scene.watch("attach", 1, |_| rest());
    let _ = attached.kill();
    let _ = attached.wait();
    scene.assert_hidden();
}

const CHECK: &[&str] = &["--health-cmd", "[\"/attacker\", \"exit\"]", "--health-interval", "disable"];

#[test]
fn what_joins_a_container_or_lives_beside_it_is_hidden() {
    review(&need!("processes", Arena::of_user()), CHECK);
}

#[test]
fn what_joins_a_container_or_lives_beside_it_is_hidden_as_root() {
    review(&need!("processes", Arena::of_root()), CHECK);
}

#[test]
fn what_joins_a_container_with_an_init_or_lives_beside_it_is_hidden() {
    review(&need!("processes", Arena::of_user()), &[CHECK, TRACER, &["--init", "--pid", "host"]].concat());
}

fn review_connected(arena: &Arena) {
    for program in ["pasta", "slirp4netns"] {
        need!("processes", let_connect(&arena.env, program));
        review(arena, &[CHECK, &["--network", program]].concat());
    }
}

#[test]
fn what_connects_a_container_is_hidden() {
    review_connected(&need!("processes", Arena::of_user()));
}

#[test]
fn what_connects_a_container_is_hidden_as_root() {
    review_connected(&need!("processes", Arena::of_root()));
}
