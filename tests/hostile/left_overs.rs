//! A container that ends takes with it all that was born in it.

use super::attack::Arena;
use crate::need;
use crate::support::all;

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
