//! The caller's terminal is the caller's: a container that was not given one by `-t` has none.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use rustix::fs::{Uid, fchown};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{SpecialCodeIndex, tcgetattr};

use super::attack::Arena;
use crate::need;
use crate::support::said;

/// A terminal of the caller's: the end at which somebody sits, and the other.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = openpt(flags).unwrap();
    unlockpt(&outer).unwrap();
    let inner = ioctl_tiocgptpeer(&outer, flags).unwrap();
    (File::from(outer), inner)
}

/// What the attacker could do to a caller's terminal that is the standard output and error, and the input of a container that
/// takes any; empty for nothing.
fn taken(arena: &Arena, words: &[&str]) -> Vec<String> {
    let (outer, inner) = terminal();
    if let Some(user) = &arena.env.user {
        // As that of a login.
        fchown(&inner, Some(Uid::from_raw(user.uid)), None).unwrap();
    }
    let before = tcgetattr(&inner).unwrap();
    let stream = || Stdio::from(inner.try_clone().unwrap());
    let mut command = arena.env.command("lrun");
    let mut process = command.args(words).stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    drop(command);
    let mut typist = outer.try_clone().unwrap();
    let (mut taken, mut has_ended) = (Vec::new(), false);
    for line in BufReader::new(outer).lines().map_while(Result::ok) {
        let line = line.trim_end();
        match line {
            "ready" => typist.write_all(b"typed by the caller\n").unwrap(),
            "end" => {
                has_ended = true;
                break;
            }
            _ if line.contains('=') && !line.ends_with("=0") => taken.push(line.to_owned()),
            _ => {}
        }
    }
    assert!(process.wait().unwrap().success() && has_ended, "{words:?}: {taken:?}");
    let after = tcgetattr(inner.as_fd()).unwrap();
    if before.special_codes[SpecialCodeIndex::VQUIT] != after.special_codes[SpecialCodeIndex::VQUIT] {
        taken.push("the modes are others than before".to_owned());
    }
    taken
}

/// The container's 1 and 2 were the caller's terminal itself, open for reading: what was typed meanwhile was read from it, its
/// modes were changed, and it was opened once more through /proc/self/fd.
fn s7(arena: &Arena) {
    let words = ["terminal"];
    let name = ["--name", "later"];
    said(&arena.env.lrun(&[&["create"], &arena.words(&name, &words)[2..]].concat()));
    said(&arena.env.lrun(&[&["run", "-d"], &arena.words(&["--name", "box"], &["stay", "60"])[2..]].concat()));
    let all = [
        arena.words(&[], &words),
        arena.words(&["-i"], &words),
        arena.words(&["--init", "--network", "host"], &words),
        vec!["exec", "box", "/attacker", "terminal"],
        vec!["exec", "-i", "box", "/attacker", "terminal"],
        vec!["start", "-a", "later"],
    ];
    let taken: Vec<String> = all
        .iter()
        .map(|words| (words, taken(arena, words)))
        .filter(|(_, taken)| !taken.is_empty())
        .map(|(words, taken)| format!("{}: {}\n", words.join(" "), taken.join(", ")))
        .collect();
    said(&arena.env.lrun(&["rm", "-f", "-t", "0", "box", "later"]));
    assert!(taken.is_empty(), "without -t the container got:\n{}", taken.concat());
}

#[test]
fn s7_the_callers_terminal_stays_the_callers() {
    s7(&need!("s7", Arena::of_user()));
}

#[test]
fn s7_the_callers_terminal_stays_the_callers_as_root() {
    s7(&need!("s7", Arena::of_root()));
}
