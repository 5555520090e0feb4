//! Collections beside starts, checkouts, names, and power cuts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::cold::missing;
use crate::containers::debian;
use crate::need;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::loop_device::LoopDevice;
use crate::support::registry::Registry;
use crate::support::{Env, all, run, said};

/// A tar of many small files, each of its own content.
fn crowd(salt: u32, count: u32) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = (0..count).map(|number| format!("{salt} {number}").into_bytes()).collect();
    let paths: Vec<String> = (0..count).map(|number| format!("d{}/f{number}", number % 100)).collect();
    let members: Vec<_> = paths.iter().zip(&bodies).map(|(path, body)| file(path, body)).collect();
    layer(&members)
}

fn import(env: &Env, tar: &[u8], name: &str) {
    let path = env.scratch.join("import.tar");
    std::fs::write(&path, tar).unwrap();
    env.ok(&["import", "-q", path.to_str().unwrap(), name]);
}

fn signal(child: &Child, name: &str) {
    run(Command::new("kill").args([name, &child.id().to_string()])).unwrap();
}

/// Stops a process as soon as something holds. `false`: it has ended before.
fn stop_when(child: &mut Child, holds: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "it never came to that");
        std::thread::sleep(Duration::from_micros(200));
    }
    signal(child, "-STOP");
    child.try_wait().unwrap().is_none()
}

/// Every file below a folder: what it is, when it changed, and how much is in it.
fn portrait(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut stack = vec![folder.to_path_buf()];
    while let Some(path) = stack.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            stack.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let told = format!(
            "{} {:o} {} {}.{}",
            metadata.ino(),
            metadata.mode(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        found.insert(path.display().to_string(), told);
    }
    // SQLite's own, which come and go with each opening.
    found.retain(|path, _| !path.ends_with("index.db-shm") && !path.ends_with("index.db-wal"));
    found.remove(&folder.display().to_string());
    found
}

#[test]
fn a_collection_that_only_tells_changes_nothing() {
    let env = need!("a_collection_that_only_tells", Env::new());
    for (salt, name) in [(1, "named:1"), (2, "removed:1"), (3, "gone:1")] {
        import(&env, &crowd(salt, 50), name);
        env.ok(&["prepare", name]);
    }
    env.ok(&["rmi", "removed:1"]);
    // A checkout whose folder was taken away, a dead session, left-overs of an ingest and of a checkout.
    let newest = std::fs::read_dir(env.store.join("trees")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    env.ok(&["unshare", "rm", "-rf", newest.to_str().unwrap()]);
    std::fs::write(env.store.join("sessions/4711"), "").unwrap();
    std::fs::create_dir(env.store.join("objects/ffff")).unwrap();
    std::fs::write(env.store.join("objects/ffff/0"), "orphan").unwrap();
    std::fs::create_dir(env.store.join("trees/4711")).unwrap();
    if let Some(user) = &env.user {
        for path in ["sessions/4711", "objects/ffff", "objects/ffff/0", "trees/4711"] {
            std::os::unix::fs::chown(env.store.join(path), Some(user.uid), Some(user.gid)).unwrap();
        }
    }
    let before = portrait(&env.store);
    for flags in [&["gc", "-n"][..], &["gc", "-n", "--checkouts"], &["gc", "-n", "--cold"]] {
        env.ok(flags);
        let after = portrait(&env.store);
        let changed: Vec<_> = after.iter().filter(|(path, told)| before.get(*path) != Some(told)).collect();
        assert_eq!((changed, after.len()), (Vec::new(), before.len()), "{flags:?}");
    }
    let told = env.json(&["gc", "-n", "--format", "json"]);
    let done = env.json(&["gc", "--format", "json"]);
    for field in ["Images", "Layers", "Trees", "Objects", "Orphans", "Bytes", "Packs"] {
        assert_eq!(told[field], done[field], "{field}: {told} {done}");
    }
    env.assert_no_trace();
    let none = env.scratch.join("none");
    let output = env.lstore(&["--root", none.to_str().unwrap(), "gc", "-n"]);
    assert!(output.status.success() && !none.exists(), "{}", all(&output));
}

#[test]
fn a_start_beside_a_collection_waits_for_nothing() {
    let (env, image) = need!("a_start_beside_a_collection", debian());
    said(&env.lrun(&["run", "--rm", &image, "true"]));
    import(&env, &crowd(1, 20_000), "crowd:1");
    let whole = env.pool_files();
    env.ok(&["rmi", "crowd:1"]);
    // In the midst of the removal of files.
    let mut collection = env.spawn("lstore", &["gc"]);
    let folder = env.store.join("objects");
    let is_removing = || {
        let count = |path| std::fs::read_dir(path).map_or(0, Iterator::count);
        std::fs::read_dir(&folder).unwrap().map(|entry| count(entry.unwrap().path())).sum::<usize>() < whole
    };
    assert!(stop_when(&mut collection, is_removing), "it was not met in the midst");
    let begun = Instant::now();
    let output = env.lrun(&["run", "--rm", &image, "echo", "started"]);
    let took = begun.elapsed();
    let create = env.lrun(&["create", "--name", "box", &image, "true"]);
    signal(&collection, "-CONT");
    let collected = collection.wait_with_output().unwrap();
    assert!(collected.status.success(), "{}", all(&collected));
    assert_eq!(said(&output), "started\n");
    assert!(took < Duration::from_secs(2), "{took:?}");
    said(&create);
    said(&env.lrun(&["rm", "box"]));
    env.ok(&["gc"]);
    env.assert_no_trace();
}

#[test]
fn a_checkout_whose_image_is_removed_and_collected_shows_no_gaps() {
    let registry = need!("a_checkout_whose_image_is_removed", Registry::start());
    let env = need!("a_checkout_whose_image_is_removed", Env::new());
    let name = registry.push(&Image::new(&[crowd(1, 20_000)], Packing::Gzip), "dangling:1");
    // Not a probe of what the file system can do, which has no root.
    let made = || {
        let drafts = std::fs::read_dir(env.store.join("tmp")).unwrap();
        drafts.flatten().any(|draft| draft.path().join("root").exists())
    };
    let mut met = 0;
    for _ in 0..5 {
        env.ok(&["--placement", "stub", "pull", "-q", &name]);
        env.ok(&["gc", "--checkouts"]);
        let mut prepare = env.spawn("lstore", &["--placement", "stub", "prepare", &name]);
        if stop_when(&mut prepare, made) {
            env.ok(&["rmi", &name]);
            env.ok(&["gc"]);
            met += 1;
            signal(&prepare, "-CONT");
        }
        let output = prepare.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", all(&output));
        assert_eq!(missing(&env.store), Vec::<String>::new(), "no stub points at nothing");
        env.ok(&["--placement", "stub", "pull", "-q", &name]);
        env.ok(&["fsck"]);
        assert_eq!(missing(&env.store), Vec::<String>::new(), "nor after the next pull");
        if met == 2 {
            break;
        }
    }
    assert!(met > 0, "no prepare was met in the midst");
    env.ok(&["rmi", &name]);
    env.ok(&["gc"]);
    env.assert_no_trace();
    assert_eq!(env.pool_files(), 0);
}

#[test]
fn a_session_that_starts_while_a_collection_waits_keeps_its_layers() {
    let env = need!("a_session_that_starts", Env::new());
    import(&env, &crowd(1, 1), "first:1");
    // Holds up whoever writes, until it is killed.
    let hold = "import sqlite3, sys, time
index = sqlite3.connect(sys.argv[1], isolation_level=None)
index.execute('BEGIN IMMEDIATE')
print('held', flush=True)
time.sleep(60)";
    let index = env.store.join("index.db");
    let mut holder = env.command("python3");
    holder.args(["-c", hold]).arg(&index).stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let collection = env.spawn("lstore", &["gc"]);
    std::thread::sleep(Duration::from_millis(700));
    signal(&collection, "-STOP");
    holder.kill().unwrap();
    holder.wait().unwrap();

    // An import comes to where its layer is entered and its image is not.
    let tar = env.scratch.join("second.tar");
    std::fs::write(&tar, crowd(2, 20_000)).unwrap();
    let import = env.spawn("lstore", &["import", "-q", tar.to_str().unwrap(), "second:1"]);
    let stop = "import os, signal, sqlite3, sys, time
index = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
while not index.execute('SELECT count(*) FROM pin').fetchone()[0]:
    time.sleep(0.001)
time.sleep(0.005)
os.kill(int(sys.argv[2]), signal.SIGSTOP)";
    run(env.command("python3").args(["-c", stop]).arg(&index).arg(import.id().to_string())).unwrap();
    signal(&collection, "-CONT");
    let collected = collection.wait_with_output().unwrap();
    signal(&import, "-CONT");
    let imported = import.wait_with_output().unwrap();
    assert!(collected.status.success(), "{}", all(&collected));
    assert!(imported.status.success(), "{}", all(&imported));
    env.ok(&["inspect", "second:1"]);
    env.ok(&["gc"]);
    env.assert_no_trace();
}

#[test]
fn a_name_that_was_given_is_there() {
    let env = need!("a_name_that_was_given", Env::new());
    for round in 0..60 {
        import(&env, &crowd(1, 1), "first:1");
        let tag = env.spawn("lstore", &["tag", "first:1", "second:1", "third:1"]);
        let remove = env.spawn("lstore", &["rmi", "first:1"]);
        let [tag, remove] = [tag, remove].map(|child| child.wait_with_output().unwrap());
        assert!(remove.status.success(), "{round}: {}", all(&remove));
        let named: Vec<bool> =
            ["second:1", "third:1"].iter().map(|name| env.lstore(&["inspect", name]).status.success()).collect();
        assert_eq!(named, [tag.status.success(); 2], "{round}: {} {}", all(&tag), all(&remove));
        if !tag.status.success() {
            assert!(all(&tag).contains("image not known"), "{round}: {}", all(&tag));
        }
        env.ok(&["rmi", "-a"]);
    }
}

/// Runs `lstore` as in another boot.
fn rebooted(env: &Env, words: &[&str]) -> std::process::Output {
    let boot = env.scratch.join("boot_id");
    std::fs::write(&boot, "00000000-1111-2222-3333-444444444444\n").unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec lstore \"$@\"";
    env.command("unshare").args(["-m", "sh", "-c", script]).arg(&boot).args(words).output().unwrap()
}

#[test]
fn a_power_cut_in_a_collection_leaves_no_row_without_its_file() {
    for kind in ["ext4", "xfs"] {
        let test = format!("a_power_cut_in_a_collection ({kind})");
        let device = need!(&test, LoopDevice::new(kind, 512));
        let mut env = need!(&test, Env::root());
        env.store = device.store();
        let tar = crowd(1, 5_000);
        let path = env.scratch.join("import.tar");
        std::fs::write(&path, &tar).unwrap();
        env.ok(&["import", "-q", "--sync", path.to_str().unwrap(), "cut:1"]);
        env.ok(&["prepare", "cut:1"]);
        env.ok(&["rmi", "cut:1"]);
        run(Command::new("sync").arg("-f").arg(device.mountpoint())).unwrap();

        let whole = env.pool_files();
        let mut collection = env.spawn("lstore", &["gc"]);
        assert!(stop_when(&mut collection, || env.pool_files() < whole - 200), "it was not met in the midst");
        // Another program's sync brings to disk what was done to folders so far, and no content of other files.
        let script = "import fcntl, os, struct, sys
file = os.open(sys.argv[1] + '/other', os.O_CREAT | os.O_WRONLY)
os.write(file, b'x')
os.fsync(file)
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", script]).arg(device.mountpoint())).unwrap();
        collection.kill().unwrap();
        collection.wait().unwrap();
        device.restore().unwrap();

        let fsck = rebooted(&env, &["fsck"]);
        assert!(fsck.status.success(), "{kind}: {}", all(&fsck));
        said(&rebooted(&env, &["import", "-q", path.to_str().unwrap(), "cut:1"]));
        said(&rebooted(&env, &["prepare", "cut:1"]));
        said(&rebooted(&env, &["fsck"]));
        assert_eq!(missing(&env.store), Vec::<String>::new(), "{kind}");
        said(&rebooted(&env, &["gc"]));
        said(&rebooted(&env, &["fsck"]));
        assert_eq!(env.pool_files(), whole, "{kind}");
    }
}
