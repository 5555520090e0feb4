//! A machine whose power can fail, and what its store must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::image::{Image, Packing, dir, file, layer, link, sha256};
use crate::support::listing::{Listing, differences, of_directory, of_layers, of_stubs};
use crate::support::loop_device::LoopDevice;
use crate::support::{Env, all, programs, run};

/// Random numbers that a seed gives again (a linear congruential generator).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[usize::try_from(self.below(choice.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count.div_ceil(4)).flat_map(|_| u32::try_from(self.next()).unwrap_or(7).to_le_bytes()).collect()
    }
}

/// An image that can be imported, and what it is.
#[derive(Debug)]
struct Known {
    layout: PathBuf,
    id: String,
    chain_id: String,
    oracle: Listing,
}

/// What is done to the store.
#[derive(Debug, Clone)]
enum Work {
    Import { image: usize, name: String, sync: bool },
    Prepare(String),
    Tag { from: String, to: String },
    Remove(String),
    Collect(&'static [&'static str]),
}

/// A machine with a store on a file system of its own.
#[derive(Debug)]
pub struct Machine<'d> {
    device: &'d LoopDevice,
    env: Env,
    placement: String,
    boot: PathBuf,
    boots: u64,
    images: Vec<Known>,
    /// What each name stands for by what was answered.
    names: BTreeMap<String, usize>,
    /// What must be there after a cut: acknowledged with `--sync` and untouched since.
    durable: BTreeMap<String, usize>,
    /// What happened so far, for who reads of a failure.
    pub context: String,
}

const NAMES: [&str; 5] = ["localhost/a:1", "localhost/b:1", "localhost/c:1", "localhost/d:1", "localhost/e:1"];

impl<'d> Machine<'d> {
    pub fn new(device: &'d LoopDevice, placement: &str) -> Result<Self, String> {
        for program in ["python3", "setpriv", "unshare"] {
            crate::support::has(program)?;
        }
        let env = Env::at(&device.store())?;
        let boot = env.scratch.join("boot_id");
        let images = images(&env.scratch);
        let mut machine = Self {
            device,
            env,
            placement: placement.to_owned(),
            boot,
            boots: 0,
            images,
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            context: String::new(),
        };
        machine.begin_boot();
        Ok(machine)
    }

    /// Why the placement cannot be used here.
    pub fn refusal(&self) -> Option<String> {
        let word = self.placement[..1].to_uppercase() + &self.placement[1..];
        let told = self.env.json(&["info", "--format", "json"])["Placements"][word].to_string();
        (!told.contains("works here")).then_some(told)
    }

    fn begin_boot(&mut self) {
        self.boots += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}\n", std::process::id(), self.boots);
        std::fs::write(&self.boot, id).unwrap();
    }

    /// `lstore` under this machine's boot.
    fn command(&self, words: &[&str]) -> Command {
        let user = self.env.user.as_ref().unwrap();
        let mut command = self.env.command("unshare");
        // The mount needs root, all else is the user's.
        std::os::unix::process::CommandExt::uid(&mut command, 0);
        std::os::unix::process::CommandExt::gid(&mut command, 0);
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec setpriv \"$@\"";
        command
            .args(["-m", "sh", "-c", script])
            .arg(&self.boot)
            .args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--clear-groups".to_owned()])
            .arg(programs().join("lstore"))
            .args(["--placement", &self.placement])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn lstore(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.lstore(words);
        assert!(output.status.success(), "{}: lstore {}: {}", self.context, words.join(" "), all(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Imports two images that share contents, so that they are on the disk, and then makes their checkouts.
    pub fn import_and_check_out_later(&mut self) {
        for (image, name) in [(1, NAMES[0]), (2, NAMES[1])] {
            let layout = self.images[image].layout.to_str().unwrap().to_owned();
            self.ok(&["import", "-q", "--sync", &layout, name]);
            self.names.insert(name.to_owned(), image);
            self.durable.insert(name.to_owned(), image);
        }
        self.ok(&["gc", "--checkouts"]);
        run(&mut Command::new("sync")).unwrap();
        self.prepare_all();
    }

    pub fn prepare_all(&self) {
        for name in self.names.keys() {
            self.ok(&["prepare", name]);
        }
    }

    /// Inode numbers of the checkouts' folders.
    pub fn trees(&self) -> BTreeMap<PathBuf, u64> {
        let trees = std::fs::read_dir(self.env.store.join("trees")).unwrap().map(Result::unwrap);
        let number = |entry: &std::fs::DirEntry| std::os::unix::fs::MetadataExt::ino(&entry.metadata().unwrap());
        trees.map(|entry| (entry.path(), number(&entry))).collect()
    }

    fn choose(&self, random: &mut Random) -> Work {
        let known: Vec<&String> = self.names.keys().collect();
        let name = |random: &mut Random| (*random.one_of(&NAMES)).to_owned();
        if known.is_empty() {
            return Work::Import { image: 0, name: name(random), sync: random.below(2) == 0 };
        }
        let image = usize::try_from(random.below(self.images.len() as u64)).unwrap();
        match random.below(12) {
            0..=3 => Work::Import { image, name: name(random), sync: random.below(3) == 0 },
            4..=5 => Work::Prepare((*random.one_of(&known)).clone()),
            6 => Work::Tag { from: (*random.one_of(&known)).clone(), to: name(random) },
            7..=8 => Work::Remove((*random.one_of(&known)).clone()),
            9 => Work::Collect(&["gc"]),
            10 => Work::Collect(&["gc", "--checkouts"]),
            _ => Work::Collect(&["gc", "--cold"]),
        }
    }

    fn words<'w>(&'w self, work: &'w Work) -> Vec<&'w str> {
        match work {
            Work::Import { image, name, sync } => {
                let mut words = vec!["import", "-q"];
                words.extend(sync.then_some("--sync"));
                words.extend([self.images[*image].layout.to_str().unwrap(), name]);
                words
            }
            Work::Prepare(name) => vec!["prepare", name],
            Work::Tag { from, to } => vec!["tag", from, to],
            Work::Remove(name) => vec!["rmi", name],
            Work::Collect(words) => words.to_vec(),
        }
    }

    /// From now on nobody can say what a name that is worked on stands for.
    fn begin(&mut self, work: &Work) {
        match work {
            Work::Import { name, .. } | Work::Tag { to: name, .. } | Work::Remove(name) => {
                self.durable.remove(name);
            }
            Work::Prepare(_) | Work::Collect(_) => {}
        }
    }

    fn acknowledge(&mut self, work: Work) {
        match work {
            Work::Import { image, name, sync } => {
                if sync {
                    self.durable.insert(name.clone(), image);
                }
                self.names.insert(name, image);
            }
            Work::Tag { from, to } => {
                let image = self.names[&from];
                self.names.insert(to, image);
            }
            Work::Remove(name) => {
                self.names.remove(&name);
            }
            Work::Prepare(_) | Work::Collect(_) => {}
        }
    }

    /// Does something to its end.
    pub fn work(&mut self, random: &mut Random) {
        let work = self.choose(random);
        self.context = format!("{}; {}", self.context, self.words(&work).join(" "));
        self.begin(&work);
        self.ok(&self.words(&work));
        self.acknowledge(work);
    }

    /// Does something, until the power fails.
    pub fn work_until(&mut self, moment: Duration, random: &mut Random) {
        let work = self.choose(random);
        self.context = format!("{}; {} for {moment:?}", self.context, self.words(&work).join(" "));
        self.begin(&work);
        let mut child = self.command(&self.words(&work)).spawn().unwrap();
        std::thread::sleep(moment);
        let ended = child.try_wait().unwrap();
        if ended.is_some_and(|status| status.success()) {
            self.acknowledge(work);
        }
        self.device.cut().unwrap();
        end(&mut child);
    }

    /// The power is back.
    pub fn boot_again(&mut self) {
        self.device.restore().unwrap_or_else(|reason| panic!("{}: {reason}", self.context));
        self.begin_boot();
    }

    /// What must hold after a cut.
    pub fn check(&mut self, random: &mut Random) {
        let first = self.listed();
        self.ok(&["fsck"]);
        for (name, image) in &self.durable {
            let found = first.get(name);
            assert_eq!(found, Some(&(self.images[*image].id.clone(), false)), "{}: {name}", self.context);
        }
        self.compare_checkouts();
        let incomplete: Vec<_> = first.iter().filter(|(_, (_, incomplete))| *incomplete).collect();
        if random.below(2) == 0 {
            for (name, (id, _)) in incomplete {
                let layout = self.images[self.number(id)].layout.to_str().unwrap().to_owned();
                self.ok(&["import", "-q", &layout, name]);
            }
            assert!(self.listed().values().all(|(_, incomplete)| !incomplete), "{}", self.context);
        }
        self.ok(&["fsck", "--repair"]);
        self.ok(&["fsck"]);
        let now = self.listed();
        assert!(now.values().all(|(_, incomplete)| !incomplete), "{}", self.context);
        // Checkouts that are made now must not be built from what the cut tore.
        for name in now.keys() {
            self.ok(&["prepare", name]);
        }
        self.compare_checkouts();
        self.names = now.iter().map(|(name, (id, _))| (name.clone(), self.number(id))).collect();
        // What was read back from the disk as whole is there to stay.
        let whole = first.into_iter().filter(|(_, (_, incomplete))| !incomplete);
        self.durable = whole.map(|(name, (id, _))| (name, self.number(&id))).collect();
    }

    fn number(&self, id: &str) -> usize {
        self.images.iter().position(|image| image.id == id).unwrap()
    }

    /// Each name with the id of its image, and whether that is incomplete.
    fn listed(&self) -> BTreeMap<String, (String, bool)> {
        let told: serde_json::Value = serde_json::from_str(&self.ok(&["images", "--format", "json"])).unwrap();
        let mut names = BTreeMap::new();
        for row in told.as_array().unwrap() {
            for name in row["Names"].as_array().unwrap() {
                let incomplete = row["Incomplete"].as_bool().unwrap_or(false);
                names.insert(name.as_str().unwrap().to_owned(), (row["Id"].as_str().unwrap().to_owned(), incomplete));
            }
        }
        names
    }

    /// Every checkout that the index knows shows what GNU tar extracts.
    fn compare_checkouts(&self) {
        let ask = "import sqlite3, sys; \
            [print(*row) for row in sqlite3.connect(sys.argv[1]).execute('SELECT id, chain_id, placement FROM tree')]";
        let index = self.env.store.join("index.db");
        let rows = run(self.env.command("python3").args(["-c", ask]).arg(index)).unwrap();
        let mut seen = BTreeSet::new();
        for row in String::from_utf8_lossy(&rows.stdout).lines() {
            let words: Vec<&str> = row.split(' ').collect();
            let [id, chain_id, placement] = words[..] else { panic!("{}: {row}", self.context) };
            let image = self.images.iter().find(|image| image.chain_id == chain_id).unwrap();
            let root = self.env.store.join("trees").join(id).join("root");
            assert!(root.exists(), "{}: checkout {id} is gone", self.context);
            let found = match placement {
                "stub" => of_stubs(&root, &self.env.store.join("objects"), &self.env.scratch),
                _ => of_directory(&root),
            };
            let differences = differences(&image.oracle, &mine(found));
            let some = &differences[..differences.len().min(3)];
            assert!(some.is_empty(), "{}: checkout {id}: {}", self.context, some.join("\n"));
            assert!(seen.insert((chain_id, placement)), "{}: two checkouts of one image", self.context);
        }
    }
}

/// A command that may hang on a dead file system is waited for, then killed.
fn end(child: &mut Child) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whose the files are is another test's concern.
fn mine(mut listing: Listing) -> Listing {
    for entry in listing.values_mut() {
        entry.owner = (0, 0);
    }
    listing
}

/// Four images over three layers, some files of which are alike.
fn images(scratch: &Path) -> Vec<Known> {
    let mut random = Random(1);
    let layers: Vec<Vec<u8>> = ["base", "tools", "app"].iter().map(|name| some_layer(name, &mut random)).collect();
    let stacks: [&[usize]; 4] = [&[0], &[0, 1], &[0, 1, 2], &[2]];
    let known = |(number, stack): (usize, &&[usize])| {
        let layers: Vec<Vec<u8>> = stack.iter().map(|&layer| layers[layer].clone()).collect();
        let image = Image::new(&layers, Packing::Zstd);
        let layout = scratch.join(format!("layout{number}"));
        image.write_layout(&layout);
        std::fs::set_permissions(&layout, PermissionsExt::from_mode(0o755)).unwrap();
        let oracle = mine(of_layers(&layers, &scratch.join(format!("oracle{number}"))));
        let mut chain_id = sha256(&layers[0]);
        for above in &layers[1..] {
            chain_id = sha256(format!("{chain_id} {}", sha256(above)).as_bytes());
        }
        Known { layout, id: sha256(&image.config).trim_start_matches("sha256:").to_owned(), chain_id, oracle }
    };
    stacks.iter().enumerate().map(known).collect()
}

/// A layer of files of all sizes, some of them alike but for their times, with links and what removes others.
fn some_layer(name: &str, random: &mut Random) -> Vec<u8> {
    let folders: Vec<String> = (0..8).map(|number| format!("{name}/d{number}")).collect();
    let paths: Vec<String> = (0..200).map(|number| format!("{name}/d{}/f{number}", number % 8)).collect();
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for number in 0..200 {
        let body = match number % 10 {
            0 => b"alike in all layers".to_vec(),
            1 => random.bytes(300_000 / 20),
            _ => {
                let size = 1 + random.below(9000);
                random.bytes(size)
            }
        };
        bodies.push(body);
    }
    let hard = format!("{name}/hard");
    let soft = format!("{name}/soft");
    let whiteout = ".wh.base".to_owned();
    let mut members = vec![dir("./"), dir(name)];
    members.extend(folders.iter().map(|folder| dir(folder)));
    members.extend(paths.iter().zip(&bodies).map(|(path, body)| file(path, body)));
    members.push(link(&hard, &paths[3], tar::EntryType::Link));
    members.push(link(&soft, "d1/f1", tar::EntryType::Symlink));
    if name == "app" {
        members.push(file(&whiteout, b""));
    }
    layer(&members)
}
