//! What a container sees of itself, held against what it would see if it had come another way: by the plain twin of each
//! fast path, where nothing may differ, and by podman, where what differs is known and has a reason.

mod accepted;
mod podman;
mod portrait;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::need;
use crate::support::image::debian as debian_tar;
use crate::support::{Env, all, programs, run, said, skip};
use accepted::reason;
use podman::Podman;
use portrait::{Portrait, SCRIPT, differences, parse};

/// Flags that make different containers; VOLUME stands for a folder of the host.
const FLAGS: [&str; 24] = [
    "",
    "--read-only",
    "--network host",
    "--pid host",
    "--ipc host",
    "--uts host",
    "--cgroupns host",
    "-u 1000:1000",
    "--cap-add NET_ADMIN,SYS_PTRACE --cap-drop CHOWN",
    "--cap-drop ALL --cap-add CHOWN",
    "-u 1000 --cap-add NET_ADMIN",
    "--privileged",
    "--tmpfs /t --tmpfs /u:size=1m,mode=700,ro,exec",
    "--mount type=tmpfs,target=/t --mount type=bind,source=VOLUME,target=/b,ro",
    "-v VOLUME:/plain -v VOLUME:/ro:ro",
    "-v VOLUME:/private:rprivate -v VOLUME:/slave:rslave -v VOLUME:/shared:rshared",
    "--userns keep-id",
    "--ulimit nofile=100:200 --ulimit core=0",
    "--init",
    "-w /usr/bin -e A=b -e EMPTY=",
    "--security-opt no-new-privileges",
    "--security-opt seccomp=unconfined --security-opt unmask=ALL",
    "--umask 077 --shm-size 1m --oom-score-adj 500",
    "-h box --add-host other:192.0.2.2",
];

/// A store with what of Debian the script needs: an image that podman too makes quickly.
fn image() -> Result<(Env, PathBuf, String), String> {
    let env = Env::new()?;
    let (debian, folder, tar) = (debian_tar()?, env.scratch.join("rootfs"), env.scratch.join("small.tar"));
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let excluded = ["usr/share", "usr/lib/x86_64-linux-gnu/perl*", "usr/lib/x86_64-linux-gnu/gconv", "var/lib/dpkg"];
    let excluded = excluded.iter().chain(&["var/cache", "usr/bin/perl*", "usr/lib/apt"]);
    run(Command::new("tar")
        .args(excluded.map(|path| format!("--exclude=./{path}")))
        .args(["--numeric-owner", "-xpf"])
        .arg(debian)
        .arg("-C")
        .arg(&folder))?;
    run(Command::new("tar").args(["--numeric-owner", "-cf"]).arg(&tar).arg("-C").arg(&folder).arg("."))?;
    let name = "localhost/small:1".to_owned();
    said(&env.lstore(&["import", "-q", tar.to_str().unwrap(), &name]));
    Ok((env, tar, name))
}

fn words(flags: &str, volume: &Path) -> Vec<String> {
    flags.split_whitespace().map(|word| word.replace("VOLUME", volume.to_str().unwrap())).collect()
}

fn portrait(output: &Output) -> Portrait {
    let portrait = parse(&said(output));
    assert!(portrait.len() > 100, "{}", all(output));
    portrait
}

/// Ways to the same container, of which each but the first has to show what the first does.
const WAYS: [&str; 9] = [
    "run --rm FLAGS IMAGE",
    "run --rm --no-holder FLAGS IMAGE",
    // Words that are parsed by their definition.
    "run --rm FLAGS -- IMAGE",
    // A start that finds nothing remembered; the next one does.
    "forgets; run --rm FLAGS IMAGE",
    // The first start after login.
    "without holder; run --rm FLAGS IMAGE",
    "as podman; run --rm FLAGS IMAGE",
    "in the background; run -d FLAGS IMAGE",
    "created; FLAGS IMAGE",
    "joined; run -d FLAGS IMAGE",
];

fn by(way: &str, env: &Env, image: &str, flags: &[String]) -> Output {
    let (before, line) = way.split_once("; ").unwrap_or(("", way));
    let mut line: Vec<&str> = line.split(' ').collect();
    line[..].iter_mut().filter(|word| **word == "IMAGE").for_each(|word| *word = image);
    let at = line.iter().position(|word| *word == "FLAGS").unwrap();
    line.splice(at..=at, flags.iter().map(String::as_str));
    let with = |line: &[&str], more: &[&str]| said(&env.lrun(&[line, more].concat())).trim().to_owned();
    let script = ["sh", "-c", SCRIPT];
    let removed = |output: Output, id: &str| {
        said(&env.lrun(&["rm", "-f", "-t", "0", id]));
        output
    };
    match before {
        "in the background" => {
            let id = with(&line, &script);
            said(&env.lrun(&["wait", &id]));
            removed(env.lrun(&["logs", &id]), &id)
        }
        "created" => {
            line.insert(0, "create");
            let id = with(&line, &script);
            removed(env.lrun(&["start", "-a", &id]), &id)
        }
        "joined" => {
            let id = with(&line, &["sleep", "1000"]);
            removed(env.lrun(&[&["exec", &id][..], &script].concat()), &id)
        }
        "as podman" => env.command(env.scratch.join("podman")).args(&line).args(script).output().unwrap(),
        _ => {
            if before == "forgets" {
                // Nothing is remembered of an index that has just changed.
                std::thread::sleep(std::time::Duration::from_millis(150));
                let _ = std::fs::remove_dir_all(env.store.join("starts"));
            }
            if before == "without holder" {
                std::fs::remove_file(env.scratch.join("run/lrun/holder")).unwrap();
            }
            let output = env.lrun(&[&line[..], &script].concat());
            if before == "forgets" {
                assert_ne!(std::fs::read_dir(env.store.join("starts")).unwrap().count(), 0, "{}", all(&output));
            }
            output
        }
    }
}

#[test]
fn all_ways_lead_to_the_same_container() {
    let (env, _, image) = need!("all_ways_lead_to_the_same_container", image());
    std::os::unix::fs::symlink(programs().join("lrun"), env.scratch.join("podman")).unwrap();
    let mut unequal = Vec::new();
    for flags in FLAGS {
        let words = words(flags, &env.scratch);
        let first = portrait(&by(WAYS[0], &env, &image, &words));
        for way in &WAYS[1..] {
            let mut other = portrait(&by(way, &env, &image, &words));
            if !way.contains("--rm") {
                // What is kept is written out to the disk.
                let root = other.get_mut("mount / of the file system").unwrap();
                let volatile = first["mount / of the file system"].split(',').find(|word| word.contains("volatile"));
                *root = format!("{root},{}", volatile.unwrap());
                let mut sorted: Vec<&str> = root.split(',').collect();
                sorted.sort_unstable();
                *root = sorted.join(",");
            }
            let found = differences(&first, &other);
            unequal.extend(found.iter().map(|(name, one, other)| format!("{way} {flags}: {name}: {one} | {other}")));
        }
    }
    assert!(unequal.is_empty(), "{}\n{}", WAYS[0], unequal.join("\n"));
}

#[test]
fn only_what_is_known_differs_from_podman() {
    const TEST: &str = "only_what_is_known_differs_from_podman";
    let (env, tar, image) = need!(TEST, image());
    let place = need!(TEST, Podman::new(&env));
    place.import(&env, &tar, &image);
    let mut unknown = Vec::new();
    for flags in FLAGS {
        if flags == "--ipc host" && !Path::new("/dev/mqueue").exists() {
            skip(TEST, "--ipc host: podman wants a /dev/mqueue, which this machine has not");
            continue;
        }
        let words = words(flags, place.volume());
        let script = [&image, "sh", "-c", SCRIPT];
        let mut own = place.command(&env, &programs().join("lrun"));
        let own = portrait(&own.args(["run", "--rm"]).args(&words).args(script).output().unwrap());
        let mut theirs = place.podman(&env, &["run", "--rm"]);
        // Its default is a network with a way out, and groups that only a login by systemd lets it make.
        if !flags.contains("--network") {
            theirs.arg("--network=none");
        }
        if !flags.contains("--pid") {
            theirs.arg("--cgroups=disabled");
        }
        let theirs = portrait(&theirs.args(&words).args(script).output().unwrap());
        for (name, own, theirs) in differences(&own, &theirs) {
            if reason(flags, &name, &own, &theirs).is_none() {
                unknown.push(format!("{flags}: {name}: {own} | {theirs}"));
            }
        }
    }
    assert!(unknown.is_empty(), "lrun | podman:\n{}", unknown.join("\n"));
}
