//! A container that ends takes with it all that was born in it.

use super::attack::{Arena, joins};
use crate::need;
use crate::support::{all, said};

/// Whether a process still runs whose command line has this word.
fn lives(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.starts_with("/attacker\0") && line.contains(word))
}

/// A process that has left its mount namespace, or its user namespace too, outlived its container: the keeper went by the
/// mount namespace alone.
fn s9(arena: &Arena) {
    let power = ["--pid", "host", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"];
    let mut outlived = Vec::new();
    for (index, namespaces) in ["mount", "user,mount", "user,mount,twice"].iter().enumerate() {
        for (turn, more) in [&[][..], &["--init"], &["--network", "host"]].iter().enumerate() {
            // Seconds that no other test's process is told.
            let seconds = format!("1{index}{turn}.{:06}", std::process::id());
            let flags = [&power[..], more].concat();
            let output = arena.env.lrun(&arena.words(&flags, &["leave", &seconds, namespaces]));
            assert!(output.status.success(), "{flags:?} {namespaces}: {}", all(&output));
            let is_gone = (0..100).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                !lives(&seconds)
            });
            if !is_gone {
                outlived.push(format!("{} leaving {namespaces}\n", flags.join(" ")));
            }
        }
    }
    assert!(outlived.is_empty(), "these outlived their containers:\n{}", outlived.concat());
}

#[test]
fn s9_no_process_outlives_its_container_by_leaving_its_namespaces() {
    s9(&need!("s9", Arena::of_user()));
}

#[test]
fn s9_no_process_outlives_its_container_by_leaving_its_namespaces_as_root() {
    s9(&need!("s9", Arena::of_root()));
}

/// Processes that make others and end, faster than a list of all processes is read: before the mend one in two chains went on.
#[test]
fn s9_no_chain_of_processes_outlives_its_container() {
    let arena = need!("s9", Arena::of_user());
    for turn in 0..6 {
        let seconds = format!("2{turn}.{:06}", std::process::id());
        said(&arena.env.lrun(&arena.words(&["--pid", "host"], &["chain", &seconds])));
        let is_gone = (0..250).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            !lives(&seconds)
        });
        assert!(is_gone, "turn {turn}: a process outlived its container");
    }
}

/// The keeper of a container without a pid namespace of its own killed all that had its mount namespace, which it knew by a number
/// that the kernel gives again: 27 of 800 containers that were started beside or after such ones
/// were killed for them, or failed to start.
#[test]
fn s9_no_container_is_killed_for_another_that_has_ended() {
    let arena = need!("s9", Arena::of_user());
    said(&arena.env.lrun(&[&["run", "-d"], &arena.words(&["--name", "box"], &["stay", "3000"])[2..]].concat()));
    let (mut killed, flags) = (Vec::new(), ["--pid", "container:box"]);
    for _ in 0..joins() / 4 {
        let output = arena.env.lrun(&arena.words(&flags, &["exit"]));
        killed.extend((!output.status.success()).then_some(output));
        let words = arena.words(&flags, &["stay", "0.02"]);
        let next = [(); 3].map(|()| arena.env.spawn("lrun", &words));
        let outputs = next.map(|process| process.wait_with_output().unwrap());
        killed.extend(outputs.into_iter().filter(|output| !output.status.success()));
    }
    said(&arena.env.lrun(&["rm", "-f", "-t", "0", "box"]));
    let told: Vec<String> = killed.iter().map(all).collect();
    assert!(killed.is_empty(), "{} of {}: {told:?}", killed.len(), joins());
}
