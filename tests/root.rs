//! Run by root everything works too, on root's own store.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::need;
use crate::support::image::{Image, Packing, debian, everything};
use crate::support::registry::Registry;
use crate::support::{Env, ROOT_RANGE, all, said};

/// A store of root's with a Debian.
fn root_with_debian() -> Result<(Env, &'static str), String> {
    let (env, tar) = (Env::root()?, debian()?);
    said(&env.lstore(&["import", tar.to_str().unwrap(), "debian:12"]));
    Ok((env, "debian:12"))
}

/// The ids that the host has for a container's first process.
fn ids_on_host(env: &Env, name: &str) -> String {
    let id = said(&env.lrun(&["inspect", "--format", "{{.State.Pid}}", name]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.trim())).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().next();
    format!("{}:{}", line("Uid:").unwrap(), line("Gid:").unwrap())
}

/// `lrun` by root on a machine that has no subordinate ids for it.
fn without_range(env: &Env, words: &[&str]) -> Output {
    let script = "mount --bind /dev/null /etc/subuid && exec lrun \"$@\"";
    env.command("unshare").args(["--mount", "sh", "-c", script, "sh"]).args(words).output().unwrap()
}

#[test]
fn root_pulls_runs_and_collects() {
    let registry = need!("root_pulls_runs", Registry::start());
    let env = need!("root_pulls_runs", Env::root());
    let tar = need!("root_pulls_runs", debian());
    let name = registry.push(&Image::new(&[std::fs::read(tar).unwrap()], Packing::Zstd), "debian:12");
    env.ok(&["pull", "-q", &name]);
    let output = env.lrun(&[
        "run",
        "--rm",
        &name,
        "sh",
        "-c",
        "cat /proc/self/uid_map; grep CapEff /proc/1/status; ls /sys/class/net",
    ]);
    let told = said(&output);
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(words, ["0", &ROOT_RANGE.0.to_string(), "65536", "CapEff:", "00000000a80425fb", "lo"]);
    // Root can make devices; in a container's root they open nothing.
    let device = env.lrun(&["run", "--rm", &name, "sh", "-c", "mknod /zero c 1 5 && head -c 1 /zero"]);
    assert!(!device.status.success(), "{}", all(&device));
    env.ok(&["fsck"]);
    env.ok(&["rmi", "-a"]);
    env.ok(&["gc"]);
    assert_eq!(env.pool_files(), 0);
}

#[test]
fn root_keeps_devices_of_an_image() {
    let registry = need!("root_keeps_devices", Registry::start());
    let env = need!("root_keeps_devices", Env::root());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    let output = env.lstore(&["pull", &name]);
    assert!(output.status.success() && !all(&output).contains("device files were left out"), "{}", all(&output));
}

#[test]
fn roots_containers_have_subordinate_ids_and_their_files_the_images() {
    let (env, image) = need!("roots_containers", root_with_debian());
    let (first, own) = (ROOT_RANGE.0, |id: u32| format!("{0}:{0}", ROOT_RANGE.0 + id));
    let inside = |command: &str| said(&env.lrun(&["exec", "box", "sh", "-c", command]));
    let work = "touch /made && chown 5:6 /made && chmod 600 /made && echo told > /dev/stdout && sleep 1000";
    said(&env.lrun(&["run", "-d", "--name", "box", "-v", "data:/etc/apt", image, "sh", "-c", work]));
    assert_eq!(ids_on_host(&env, "box"), own(0), "root inside is nobody on the host");
    assert_eq!(inside("stat -c %u:%g / /etc/shadow /made /etc/apt"), "0:0\n0:42\n5:6\n0:0\n");
    assert_eq!(
        inside("cat /proc/self/uid_map").split_whitespace().collect::<Vec<_>>(),
        ["0", &first.to_string(), "65536"]
    );
    let maps = said(&env.lrun(&["inspect", "--format", "{{.HostConfig.IDMappings.UidMap}}", "box"]));
    assert_eq!(maps, format!("[0:{first}:65536]\n"));
    let upper = std::fs::metadata(env.store.join("containers/box/upper/made")).unwrap();
    assert_eq!((upper.uid(), upper.gid()), (5, 6), "on disk whose it is in the image");
    assert_eq!(said(&env.lrun(&["logs", "box"])), "told\n", "a pipe of the monitor's was opened anew");
    assert_eq!(said(&env.lrun(&["exec", "-u", "www-data", "box", "id", "-u"])), "33\n");

    // In and out, also what only root may look at.
    let (folder, file) = (env.scratch.join("folder"), env.scratch.join("folder/file"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, "secret").unwrap();
    for (path, mode) in [(&file, 0o600), (&folder, 0o700)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    said(&env.lrun(&["cp", &text(&folder), "box:/in"]));
    assert_eq!(inside("cat /in/file && stat -c %u:%g:%a /in/file"), "secret0:0:600\n");
    said(&env.lrun(&["cp", "box:/made", &text(&folder)]));
    assert_eq!(std::fs::metadata(folder.join("made")).unwrap().uid(), 0, "what comes out is the caller's");

    // What it changed, seen from the image's side, and after another start.
    assert_eq!(said(&env.lrun(&["diff", "box"])), "A /in\nA /in/file\nA /made\n");
    said(&env.lrun(&["commit", "-q", "box", "box:1"]));
    let look = ["run", "--rm", "--userns", "host", "-v", "data:/v", "box:1", "sh", "-c"];
    let seen = said(&env.lrun(&[&look[..], &["stat -c %u:%g /made /v"]].concat()));
    assert_eq!(seen, "5:6\n0:0\n", "whatever the ids of the process are");
    said(&env.lrun(&["restart", "-t", "0", "box"]));
    assert_eq!((inside("stat -c %u /made"), ids_on_host(&env, "box")), ("5\n".to_owned(), own(0)));

    // Who joins it has its ids; who is all-powerful the host's, as is who asks.
    let map = ["cat", "/proc/self/uid_map"];
    let shown = |flags: &[&str]| {
        let told = said(&env.lrun(&[&["run", "--rm"], flags, &[image], &map].concat()));
        told.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!((shown(&["--network", "container:box"]), shown(&["--privileged"])), (first, 0));
    assert_eq!((shown(&["--privileged", "--userns", "private"]), shown(&["--userns", "host"])), (first, 0));
    said(&env.lrun(&["rm", "-f", "-t", "0", "box"]));
    assert_eq!(std::fs::read_dir(env.store.join("containers")).unwrap().count(), 0);
}

#[test]
fn what_root_binds_is_nobodys_in_its_containers() {
    let (env, image) = need!("what_root_binds", root_with_debian());
    let bound = env.scratch.join("bound");
    std::fs::create_dir(&bound).unwrap();
    std::fs::set_permissions(&bound, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(bound.join("public"), "").unwrap();
    let bind = format!("{}:/b", bound.display());
    let try_all =
        "stat -c %u:%g /b; ls /b; touch /b/new; chown 0 /b; chmod 777 /b; mknod /sda b 8 0 && head -c1 /sda; true";
    let told = all(&env.lrun(&["run", "--rm", "-v", &bind, image, "sh", "-c", try_all]));
    assert!(told.starts_with("65534:65534\n") && told.matches("denied").count() == 2, "{told}");
    assert_eq!(told.matches("Operation not permitted").count(), 3, "owner, mode, and a device: {told}");
    assert_eq!(std::fs::read_dir(&bound).unwrap().count(), 1);
    // All power within is none without.
    let powerful =
        ["--pid", "host", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL"];
    let attempts = "for attempt in 'echo x > /proc/sys/kernel/core_pattern' 'ls /proc/1/root/' 'cat /proc/1/environ' 'kill -0 1' \
        'mknod /s b 8 0' 'chown 0 /b' 'mount -o bind /b /mnt && ls /mnt'; do sh -c \"$attempt\" && echo \"done: $attempt\"; done; true";
    let told = all(&env.lrun(&[&["run", "--rm", "-v", &bind], &powerful[..], &[image, "sh", "-c", attempts]].concat()));
    assert!(told.contains("denied") && !told.contains("done:"), "{told}");
    // With ids mapped they are whose they are on disk, and can be given away there.
    let mapped = |options: &str, command: &str| {
        env.lrun(&["run", "--rm", "-v", &format!("{bind}:{options}"), image, "sh", "-c", command])
    };
    let told = said(&mapped("idmap", "stat -c %u:%g /b && touch /b/new && stat -c %u /b/new && rm /b/new"));
    assert_eq!(told, "0:0\n0\n");
    let ids = format!("idmap=uids=0-{}-1;gids=@0-7-1", ROOT_RANGE.0 + 5);
    assert_eq!(said(&mapped(&ids, "stat -c %u:%g /b")), "5:7\n");
    said(&mapped("U", "stat -c %u:%g /b/public | grep 0:0"));
    assert_eq!(std::fs::metadata(bound.join("public")).unwrap().uid(), ROOT_RANGE.0, "given to the container");
    let user = ["-u", "www-data", "-v", &format!("{bind}:U"), image, "touch", "/b/public"];
    said(&env.lrun(&[&["run", "--rm"], &user[..]].concat()));
    assert_eq!(std::fs::metadata(bound.join("public")).unwrap().uid(), ROOT_RANGE.0 + 33);
    std::os::unix::fs::chown(&bound, Some(0), Some(0)).unwrap();
    std::os::unix::fs::chown(bound.join("public"), Some(0), Some(0)).unwrap();
    said(&env.lrun(&["run", "--rm", "-u", "33:42", "-v", &format!("{bind}:idmap,U"), image, "touch", "/b/public"]));
    let given = std::fs::metadata(&bound).unwrap();
    assert_eq!((given.uid(), given.gid()), (33, 42));
    // A device that is given can be used, and no other of the host's is.
    let device = env.scratch.join("device");
    said(&env.command("mknod").arg("-m600").arg(&device).args(["c", "1", "5"]).output().unwrap());
    let use_it = "stat -c %u:%a /d; head -c1 /d | wc -c; head -c1 /b/device; true";
    let given = format!("--device={}:/d", device.display());
    let there = format!("{}:/b", env.scratch.display());
    let told = all(&env.lrun(&["run", "--rm", &given, "-v", &there, image, "sh", "-c", use_it]));
    assert!(told.starts_with("0:600\n1\n") && told.contains("cannot open '/b/device'"), "{told}");
    let refused = env.lrun(&["run", "--rm", "-v", "/proc/fs:/b:idmap", image, "true"]);
    assert!(all(&refused).contains("idmap: the kernel does not show the files of /proc/fs"), "{}", all(&refused));
    // The way there need not be open to the container.
    std::fs::set_permissions(&bound, PermissionsExt::from_mode(0o755)).unwrap();
    let inner = format!("{}:/f:ro", bound.join("public").display());
    std::os::unix::fs::chown(&bound, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&env.scratch, PermissionsExt::from_mode(0o700)).unwrap();
    said(&env.lrun(&["run", "--rm", "-v", &inner, image, "cat", "/f"]));
}

#[test]
fn ids_of_a_containers_own_are_no_other_containers() {
    let (env, image) = need!("ids_of_a_containers_own", root_with_debian());
    let run = |flags: &[&str]| env.lrun(&[&["run", "-d"], flags, &[image, "sleep", "1000"]].concat());
    let started: Vec<_> = std::thread::scope(|scope| {
        let runs = ["a", "b"].map(|name| scope.spawn(move || run(&["--userns", "auto", "--name", name])));
        runs.map(|run| said(&run.join().unwrap())).to_vec()
    });
    assert_eq!(started.len(), 2);
    said(&run(&["--userns", "auto:size=1000", "--name", "c"]));
    let own = |name: &str| ids_on_host(&env, name).split(':').next().unwrap().parse::<u32>().unwrap() - ROOT_RANGE.0;
    let mut found = [own("a"), own("b")];
    found.sort_unstable();
    assert_eq!((found, own("c")), ([65_536, 131_072], 196_608), "the first are those of all others");
    assert_eq!(said(&env.lrun(&["exec", "c", "stat", "-c", "%u:%g", "/etc/shadow"])), "0:42\n");
    let refused = run(&["--userns", "auto"]);
    assert!(all(&refused).contains("no 65536 subordinate ids in a row are left"), "{}", all(&refused));
    said(&env.lrun(&["rm", "-f", "-t", "0", "b", "c"]));
    said(&run(&["--userns", "auto", "--name", "d"]));
    said(&env.lrun(&["rm", "-f", "-t", "0", "a", "d"]));

    // Without any, root's containers have its own, and are told to; ids of their own they cannot have.
    let map = ["cat", "/proc/self/uid_map"];
    let output = without_range(&env, &[&["run", "--rm", image], &map[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.lines().count() == 1 && told.contains("has the host's ids: no subordinate ids for root"), "{told}");
    assert!(said(&output).contains("4294967295"));
    let info = |output: Output| serde_json::from_str::<serde_json::Value>(&said(&output)).unwrap()["Ids"].to_string();
    let why = info(without_range(&env, &["info", "--format", "json"]));
    assert!(why.contains("the host's (run by root): no subordinate ids for root in /etc/subuid"), "{why}");
    assert!(info(env.lrun(&["info", "--format", "json"])).contains(&format!("{} ", ROOT_RANGE.0)));
    let quiet = without_range(&env, &[&["run", "--rm", "--userns", "host", image], &map[..]].concat());
    assert!(all(&quiet).contains("4294967295") && quiet.stderr.is_empty(), "{}", all(&quiet));
    for asked in ["auto", "private"] {
        let refused = without_range(&env, &[&["run", "--rm", "--userns", asked, image], &map[..]].concat());
        assert!(!refused.status.success() && all(&refused).contains("usermod --add-subuids"), "{}", all(&refused));
    }
    // Nor on a file system that cannot show its files with other ids.
    let script = "mkdir ram && mount -t ramfs none ram && cp \"$(command -v lrun)\" ram && lrun run --rm --rootfs ram /lrun --version";
    let output = env.command("unshare").args(["--mount", "sh", "-c", script]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said(&output).starts_with("lrun ") && told.contains("has the host's ids: the kernel does not show the files")
    );
}
