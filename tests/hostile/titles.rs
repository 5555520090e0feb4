//! What others can read of the processes that a container leaves beside it: no word of the caller's.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use super::attack::{Arena, Gains, joins};
use crate::background::eventually;
use crate::need;
use crate::support::{programs, said};

/// Stands for a token that a container is given; also in the attacker.
const SECRET: &str = "secret-of-the-caller";

/// Processes of the runner's own program that live now, but for this one's child: number, command line and environment.
fn ours(but: u32) -> Vec<(u32, String, String)> {
    let program = std::fs::metadata(programs().join("lrun")).unwrap();
    let is_it = |folder: &Path| {
        std::fs::metadata(folder.join("exe")).is_ok_and(|exe| (exe.dev(), exe.ino()) == (program.dev(), program.ino()))
    };
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', " ");
    let numbered = std::fs::read_dir("/proc").unwrap().flatten();
    let numbered = numbered.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let ours = numbered.filter(|(id, folder)| *id != but && is_it(folder));
    ours.map(|(id, folder)| (id, read(&folder.join("cmdline")), read(&folder.join("environ")))).collect()
}

/// What another user's ps shows.
fn shown_to_others() -> String {
    let mut ps = std::process::Command::new("ps");
    String::from_utf8_lossy(&ps.args(["-e", "-ww", "-o", "args"]).uid(65534).gid(65534).output().unwrap().stdout)
        .into_owned()
}

/// The whole command line of the first start was shown for as long as the holder lived, and that of `run -d` as long as its
/// monitor and keeper did.
fn s8(arena: &Arena) {
    // One that no other test shows at the same time.
    let secret = format!("{SECRET}-{}", if arena.env.user.is_some() { "user" } else { "root" });
    let token = format!("TOKEN={secret}");
    let told = |when: &str, but: u32| {
        let ours = ours(but);
        let is_told = |text: &str| text.contains(&secret);
        let mut told: Vec<String> = ours
            .iter()
            .filter(|(_, line, environment)| is_told(line) || is_told(environment))
            .map(|(id, line, environment)| format!("{when}, {id}: {line} | {}\n", is_told(environment)))
            .collect();
        assert!(!ours.is_empty(), "{when}: no process of ours was found");
        if but == 0 && shown_to_others().contains(&secret) {
            told.push(format!("{when}: shown to others\n"));
        }
        told
    };
    let mut all = Vec::new();
    for flags in [&[][..], &["--init"], &["--pid", "host"], &["--restart", "always"]] {
        let flags = [&["--name", "box", "-e", &token], flags].concat();
        let words = [&["run", "-d"], &arena.words(&flags, &["stay", "60"])[2..]].concat();
        said(&arena.env.command("lrun").args(&words).env("SECRET", &secret).output().unwrap());
        all.extend(told(&flags.join(" "), 0));
        said(&arena.env.lrun(&["rm", "-f", "-t", "0", "box"]));
    }
    // While the caller's own command is there, which says what it says.
    let words = arena.words(&["--name", "box", "-e", &token], &["stay", "60"]);
    let mut caller = arena.env.command("lrun").args(&words).env("SECRET", &secret).spawn().unwrap();
    let is_running = || !said(&arena.env.lrun(&["ps", "-q"])).is_empty();
    eventually("the container", is_running);
    all.extend(told("run", caller.id()));
    said(&arena.env.lrun(&["stop", "-t", "1", "box"]));
    caller.wait().unwrap();
    assert!(all.is_empty(), "the caller's words are seen:\n{}", all.concat());
}

#[test]
fn s8_nothing_of_the_caller_is_shown_by_what_stays_beside_a_container() {
    s8(&need!("s8", Arena::of_user()));
}

#[test]
fn s8_nothing_of_the_caller_is_shown_by_what_stays_beside_a_container_as_root() {
    s8(&need!("s8", Arena::of_root()));
}

/// Whoever is in the container, of whatever user, could read what a command that joins was called with: the command line of a
/// process is anybody's to read, and until it executes the command that was the caller's. 129 of 200 commands and 171 of 200
/// containers that joined showed it.
#[test]
fn s8_who_joins_shows_nothing_of_the_caller_inside() {
    for arena in [need!("s8", Arena::of_user()), need!("s8", Arena::of_root())] {
        let token = format!("TOKEN={SECRET}");
        let words = ["exec", "-e", &token];
        let exec = arena.attack(&["--init"], &["arguments"]).during(joins(), "exec -e TOKEN=...", |name| {
            arena.env.lrun(&[&words[..], &[name, "/attacker", "exit"]].concat())
        });
        let start = |name: &str| {
            let other = format!("container:{name}");
            arena.env.lrun(&arena.words(&["--pid", &other, "-e", &token], &["exit"]))
        };
        let run = arena.attack(&[], &["arguments"]).during(joins(), "run --pid container:X -e TOKEN=...", start);
        Gains::assert_none_though_seen(&[exec, run]);
    }
}

/// Process 1 of `--init` is ours for as long as the container lives.
#[test]
fn s8_an_init_shows_nothing_of_the_caller_inside() {
    for arena in [need!("s8", Arena::of_user()), need!("s8", Arena::of_root())] {
        let token = format!("TOKEN={SECRET}");
        let words = arena.words(&["--init", "-e", &token], &["arguments"]);
        let told = said(&arena.env.lrun(&words));
        assert_eq!(told, "arguments=0\n", "in /proc/1/cmdline");
    }
}
