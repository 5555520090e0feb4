//! What a store is opened in, made in, and what it leaves alone.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::containers::debian;
use crate::need;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::registry::Registry;
use crate::support::{Env, all, run, said};

/// A store as `lstore` 0.1 made it before there were markers, with one image, `old:1`.
const OLD_STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/store-0.1.tar.gz");

/// Folders with files of a user's whose names a store has too.
const FILES: [&str; 12] = [
    "tmp/thesis/chapter",
    "tmp/notes",
    "trees/1/leaf",
    "objects/1f/a",
    "layers/2",
    "packs/3",
    "nodes/ab/0123456789abcdef0123456789abcd",
    "locks/door",
    "sessions/1",
    "starts/0123456789abcdef",
    "containers/box/lid",
    "volumes/photos/cat",
];

fn give(env: &Env, path: &Path) {
    let user = env.user.clone().unwrap();
    chown(path, Some(user.uid), Some(user.gid)).unwrap();
}

/// Makes a file of the user's, with its folders.
fn put(env: &Env, root: &Path, path: &str) {
    let path = root.join(path);
    let folders: Vec<PathBuf> =
        path.ancestors().skip(1).take_while(|folder| !folder.exists()).map(Into::into).collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for folder in &folders {
        give(env, folder);
    }
    std::fs::write(&path, "mine").unwrap();
    give(env, &path);
}

/// Every path below a folder, and its own, with its mode.
fn listed(root: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let mut stack = vec![root.to_path_buf()];
    while let Some(path) = stack.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            stack.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, metadata.mode() & 0o7777);
    }
    found
}

/// A root file system of one file, as a tar in the user's scratch folder; its name there.
fn tar(env: &Env, name: &str, content: &[u8]) -> String {
    std::fs::write(env.scratch.join(name), layer(&[file("greeting", content)])).unwrap();
    name.to_owned()
}

#[test]
fn a_folder_that_is_no_store_is_left_as_it_is() {
    let mut env = need!("a_folder_that_is_no_store", Env::new());
    let tar = tar(&env, "a.tar", b"hello");
    // A folder of temporary files alone, and one with whatever a store has too.
    for (mode, files) in [(0o755, &FILES[..2]), (0o1777, &FILES[..2]), (0o755, &FILES), (0o1777, &FILES)] {
        env.store = env.scratch.join(format!("h{mode:o}-{}", files.len()));
        for path in files {
            put(&env, &env.store, path);
        }
        std::fs::set_permissions(&env.store, PermissionsExt::from_mode(mode)).unwrap();
        let before = listed(&env.store);
        for words in [
            &["gc"][..],
            &["gc", "--cold"],
            &["gc", "--dry-run"],
            &["images"],
            &["du"],
            &["info"],
            &["fsck"],
            &["fsck", "--repair"],
            &["rmi", "-a"],
            &["inspect", "x"],
            &["import", "-q", &tar, "x:1"],
        ] {
            let output = env.lstore(words);
            let told = all(&output);
            assert_eq!(listed(&env.store), before, "{words:?}: {told}");
            assert!(!output.status.success() && told.contains("is no store, and not empty"), "{words:?}: {told}");
        }
        for words in [
            &["run", "--rm", "127.0.0.1:1/x:1", "true"][..],
            &["volume", "create", "v"],
            &["volume", "prune", "-f"],
            &["secret", "create", "s", &tar],
            &["container", "prune", "-f"],
            &["info"],
        ] {
            let output = env.lrun(words);
            assert_eq!(listed(&env.store), before, "lrun {words:?}: {}", all(&output));
        }
    }
}

#[test]
fn a_command_that_only_reads_makes_nothing() {
    let mut env = need!("a_command_that_only_reads", Env::new());
    let missing = env.scratch.join("a/store");
    let empty = env.scratch.join("empty");
    std::fs::create_dir(&empty).unwrap();
    give(&env, &empty);
    std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o755)).unwrap();
    for place in [&missing, &empty] {
        env.store.clone_from(place);
        for words in [&["images"][..], &["du"], &["info"], &["fsck"], &["gc"], &["gc", "-n"], &["rmi", "-a"]] {
            env.ok(words);
        }
        assert_eq!(env.json(&["images", "--format", "json"]), serde_json::json!([]));
        for words in [&["inspect", "x"][..], &["tag", "x", "y"], &["export", "x"], &["prepare", "x"], &["rmi", "x"]] {
            assert!(!env.lstore(words).status.success(), "{words:?}");
        }
        for words in [&["ps"][..], &["info"], &["volume", "ls"], &["run", "--pull", "never", "x:1"]] {
            env.lrun(words);
        }
    }
    assert!(!missing.parent().unwrap().exists());
    assert_eq!(listed(&empty), BTreeMap::from([(empty.clone(), 0o755)]));
}

#[test]
fn a_store_is_made_in_a_missing_or_an_empty_folder_and_keeps_its_mode() {
    let mut env = need!("a_store_is_made", Env::new());
    let tar = tar(&env, "a.tar", b"hello");
    for (name, mode, is_new) in [("new", 0o700, true), ("closed", 0o700, false), ("seen", 0o755, false)] {
        env.store = env.scratch.join(name);
        if !is_new {
            std::fs::create_dir_all(env.store.join("lost+found")).unwrap();
            std::fs::set_permissions(env.store.join("lost+found"), PermissionsExt::from_mode(0o755)).unwrap();
            give(&env, &env.store);
            std::fs::set_permissions(&env.store, PermissionsExt::from_mode(mode)).unwrap();
        }
        env.ok(&["import", "-q", &tar, "x:1"]);
        env.ok(&["fsck"]);
        assert_eq!(env.store.metadata().unwrap().mode() & 0o7777, mode);
        assert_eq!(std::fs::read(env.store.join("lstore-store")).unwrap(), b"lstore store\nversion 1\n");
        for entry in std::fs::read_dir(&env.store).unwrap() {
            let entry = entry.unwrap();
            let open = entry.metadata().unwrap().mode() & 0o077;
            assert!(open == 0 || entry.file_name() == "lost+found", "{:?}: {open:o}", entry.file_name());
        }
    }
    // Others could put names of theirs in place of the store's.
    for mode in [0o777, 0o1777, 0o770] {
        env.store = env.scratch.join("shared");
        let _ = std::fs::create_dir(&env.store);
        give(&env, &env.store);
        std::fs::set_permissions(&env.store, PermissionsExt::from_mode(mode)).unwrap();
        let output = env.lstore(&["import", "-q", &tar, "x:1"]);
        assert!(!output.status.success() && all(&output).contains("chmod go-w"), "{}", all(&output));
        assert_eq!(listed(&env.store), BTreeMap::from([(env.store.clone(), mode)]));
    }
}

#[test]
fn foreign_files_in_a_store_stay_and_fsck_tells_of_them() {
    let (env, image) = need!("foreign_files", debian());
    // What a collection has something to do about, beside them.
    let tar = tar(&env, "a.tar", b"to be collected");
    env.ok(&["import", "-q", &tar, "gone:1"]);
    env.ok(&["rmi", "gone:1"]);
    let folder = std::fs::read_dir(env.store.join("objects")).unwrap().next().unwrap().unwrap().file_name();
    let inner = format!("objects/{}/notes.txt", folder.into_string().unwrap());
    let foreign = [
        "thesis/chapter",
        "tmp/thesis/chapter",
        "trees/oak",
        "trees/007/leaf",
        "objects/ABC/x",
        "objects/readme",
        &inner,
        "layers/notes",
        "packs/my-pack",
        "nodes/zz/x",
        "locks/door",
        "sessions/monday",
        "starts/first",
    ];
    for path in foreign.iter().chain(&["containers/box/lid", "containers/box/images/cat", "volumes/photos/data/cat"]) {
        put(&env, &env.store, path);
    }
    for words in [&["gc"][..], &["gc", "--cold"], &["fsck", "--repair"]] {
        env.ok(words);
    }
    said(&env.lrun(&["run", "--rm", &image, "true"]));
    said(&env.lrun(&["volume", "prune", "-f"]));
    env.ok(&["gc", "--checkouts"]);
    let lost: Vec<_> = foreign.iter().filter(|path| !env.store.join(path).exists()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(env.store.join("containers/box/lid").exists() && env.store.join("volumes/photos/data/cat").exists());
    let told = env.ok(&["fsck"]);
    for path in foreign {
        let top = ["thesis", "tmp/thesis", "trees/007", "objects/ABC", "nodes/zz"];
        let shown = top.into_iter().find(|top| path.starts_with(&format!("{top}/"))).unwrap_or(path);
        assert!(told.contains(&format!("{shown}: not the store's")), "{shown}: {told}");
    }
    assert_eq!(env.json(&["fsck", "--format", "json"])["Clean"], true);
}

#[test]
fn a_store_of_before_there_were_markers_gets_one_when_it_is_written_to() {
    let env = need!("a_store_of_before", Env::new());
    std::fs::create_dir(&env.store).unwrap();
    std::fs::set_permissions(&env.store, PermissionsExt::from_mode(0o700)).unwrap();
    give(&env, &env.store);
    let mut unpack = env.command("tar");
    need!("a_store_of_before", run(unpack.args(["-xzf", OLD_STORE, "-C"]).arg(&env.store)));
    let marker = env.store.join("lstore-store");
    assert!(env.ok(&["images"]).contains("old"));
    env.ok(&["fsck"]);
    env.ok(&["gc", "-n"]);
    assert!(!marker.exists(), "reading makes nothing");
    for words in [&["tag", "old:1", "old:2"][..], &["gc"], &["import", "-q", &tar(&env, "a.tar", b"new"), "new:1"]] {
        env.ok(words);
        assert_eq!(std::fs::read(&marker).unwrap(), b"lstore store\nversion 1\n", "{words:?}");
        std::fs::remove_file(&marker).unwrap();
    }
    env.ok(&["export", "-o", "old.tar", "old:1"]);
    let exported = run(Command::new("tar").arg("-tf").arg(env.scratch.join("old.tar"))).unwrap();
    let exported = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(exported.contains("greeting") && exported.contains("etc/passwd"), "{exported}");
    env.ok(&["prepare", "old:1"]);
    env.ok(&["rmi", "new:1"]);
    env.ok(&["gc"]);
    env.assert_no_trace();
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let env = need!("a_store_of_a_later_version", Env::new());
    env.ok(&["import", "-q", &tar(&env, "a.tar", b"hello"), "x:1"]);
    let marker = env.store.join("lstore-store");
    std::fs::write(&marker, "lstore store\nversion 2\nand what it says then\n").unwrap();
    let before = listed(&env.store);
    for words in [&["images"][..], &["gc"], &["fsck", "--repair"], &["import", "-q", "a.tar", "y:1"]] {
        let output = env.lstore(words);
        assert!(!output.status.success() && all(&output).contains("use a newer lstore"), "{words:?}: {}", all(&output));
    }
    assert_eq!(listed(&env.store), before);
    std::fs::write(&marker, "lstore store\nversion 1\n").unwrap();
    assert!(env.ok(&["images"]).contains('x'));
}

#[test]
fn a_store_that_many_make_at_once_is_one_store() {
    let mut env = need!("many_make_at_once", Env::new());
    for number in 0..8 {
        tar(&env, &format!("{number}.tar"), format!("content {number}").as_bytes());
    }
    for round in 0..5 {
        env.store = env.scratch.join(format!("deep/{round}/store"));
        let imports: Vec<_> = (0..8)
            .map(|number| env.spawn("lstore", &["import", "-q", &format!("{number}.tar"), &format!("x:{number}")]))
            .collect();
        for import in imports {
            said(&import.wait_with_output().unwrap());
        }
        assert_eq!(env.ok(&["images"]).lines().count(), 9);
        env.assert_no_trace();
    }
}

#[test]
fn a_store_whose_maker_was_killed_is_made_by_the_next() {
    let env = need!("a_store_whose_maker_was_killed", Env::new());
    let tar = tar(&env, "a.tar", b"hello");
    // Of each system call that makes something, the first of which a kill lets nothing come.
    for call in ["mkdir", "mkdirat", "openat", "flock", "pwrite64", "fsync", "renameat", "linkat"] {
        for when in (1..40).step_by(if call == "openat" { 5 } else { 3 }) {
            let _ = std::fs::remove_dir_all(&env.store);
            need!("a_store_whose_maker_was_killed", crate::support::has("strace"));
            let mut killed = env.command("strace");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            killed.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            let ended = killed.args(["lstore", "import", "-q", &tar, "x:1"]).output().unwrap();
            env.ok(&["images"]);
            env.ok(&["import", "-q", &tar, "x:1"]);
            env.ok(&["fsck"]);
            if ended.status.success() {
                break;
            }
        }
    }
}

#[test]
fn an_index_that_is_older_than_the_files_stands_in_nobodys_way() {
    let registry = need!("an_older_index", Registry::start());
    let env = need!("an_older_index", Env::new());
    env.ok(&["import", "-q", &tar(&env, "first.tar", b"first"), "first:1"]);
    // Put back from a copy, as by a backup.
    let index = env.store.join("index.db");
    let copy = std::fs::read(&index).unwrap();
    assert!(!env.store.join("index.db-wal").exists());
    for number in 0..20 {
        let name = format!("{number}.tar");
        env.ok(&["import", "-q", &tar(&env, &name, name.as_bytes()), &format!("x:{number}")]);
    }
    // Also what has a record but no objects of its own, packs, and sessions of processes that were killed.
    env.ok(&["import", "-q", "3.tar", "again:1"]);
    for number in 1..60 {
        put(&env, &env.store, &format!("sessions/{number}"));
        put(&env, &env.store, &format!("packs/{number}"));
    }
    std::fs::write(&index, copy).unwrap();
    let image = Image::new(&[layer(&[file("pulled", b"pulled")]), layer(&[file("more", b"more")])], Packing::Gzip);
    let name = registry.push(&image, "older:1");
    env.ok(&["pull", "-q", &name]);
    env.ok(&["import", "-q", &tar(&env, "last.tar", b"last"), "last:1"]);
    env.ok(&["prepare", "last:1"]);
    for name in [&name, "first:1", "last:1"] {
        env.ok(&["export", "-o", "out.tar", name]);
    }
    env.ok(&["fsck"]);
    env.ok(&["gc", "--cold"]);
    for name in [&name, "first:1", "last:1"] {
        env.ok(&["export", "-o", "out.tar", name]);
    }
    env.assert_no_trace();
}

#[test]
fn two_stores_name_their_contents_apart() {
    let one = need!("two_stores", Env::new());
    let other = need!("two_stores", Env::new());
    let names = |env: &Env| {
        env.ok(&["import", "-q", &tar(env, "a.tar", b"hello"), "x:1"]);
        let folders = std::fs::read_dir(env.store.join("objects")).unwrap();
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let (ones, others) = (names(&one), names(&other));
    assert!(ones.iter().all(|name| !others.contains(name)), "{ones:?} {others:?}");
    for name in ones.iter().chain(&others) {
        let redirect = format!("/{name}/ffffff");
        assert!(name.ends_with("000001") && redirect.len() <= 18, "{redirect}");
    }
}

#[test]
fn a_store_below_a_symbolic_link_is_a_store_like_any() {
    let (mut env, image) = need!("below_a_symbolic_link", debian());
    // As on systems whose /home is a link to /var/home.
    std::os::unix::fs::symlink(&env.scratch, env.scratch.join("home")).unwrap();
    env.store = env.scratch.join("home/store");
    assert!(env.ok(&["images"]).contains("REPOSITORY"));
    assert_eq!(said(&env.lrun(&["run", "--rm", &image, "echo", "started"])), "started\n");
    env.ok(&["import", "-q", &tar(&env, "a.tar", b"hello"), "x:1"]);
    env.ok(&["gc", "--cold"]);
    env.ok(&["export", "-o", "out.tar", "x:1"]);
    assert!(env.ok(&["info"]).contains("home/store"), "told as it was given");
    env.ok(&["fsck"]);
    // A new one, and one that is a link itself.
    env.store = env.scratch.join("home/new/store");
    env.ok(&["import", "-q", "a.tar", "x:1"]);
    std::os::unix::fs::symlink(&env.store, env.scratch.join("link")).unwrap();
    env.store = env.scratch.join("link");
    assert!(env.ok(&["images"]).contains('x'));
    // The index itself is never one.
    let index = env.store.join("index.db");
    std::fs::rename(&index, env.scratch.join("elsewhere.db")).unwrap();
    std::os::unix::fs::symlink(env.scratch.join("elsewhere.db"), &index).unwrap();
    assert!(!env.lstore(&["gc"]).status.success());
}

#[test]
fn a_store_on_nfs_says_that_one_machine_alone_may_use_it() {
    let env = need!("a_store_on_nfs", Env::new());
    need!("a_store_on_nfs", crate::support::has("strace"));
    env.ok(&["import", "-q", &tar(&env, "a.tar", b"hello"), "x:1"]);
    assert_eq!(env.json(&["info", "--format", "json"])["SharedFileSystem"], serde_json::Value::Null);
    // The kernel's answer to statfs, with NFS's magic number in it: an NFS needs a server.
    let on_nfs = |words: &[&str]| {
        let mut traced = env.command("strace");
        traced.args(["-qq", "-o", "/dev/null", "-e", "trace=fstatfs"]);
        traced.args(["-e", "inject=fstatfs:poke_exit=@arg2=6969000000000000", "lstore"]);
        traced.args(words).output().unwrap()
    };
    let told = on_nfs(&["images"]);
    let warning = "lstore: warning: the store is on NFS: only one machine may use it";
    assert!(told.status.success() && String::from_utf8_lossy(&told.stderr).contains(warning), "{}", all(&told));
    assert!(on_nfs(&["-q", "images"]).stderr.is_empty());
    assert!(said(&on_nfs(&["-q", "info"])).contains("only one machine may use it"));
    let json: serde_json::Value = serde_json::from_str(&said(&on_nfs(&["-q", "info", "--format", "json"]))).unwrap();
    assert!(json["SharedFileSystem"].as_str().unwrap().contains("NFS"), "{json}");
}
