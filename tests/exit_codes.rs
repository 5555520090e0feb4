//! podman's exit codes.

use std::process::Output;

use crate::containers::debian;
use crate::need;
use crate::support::all;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn lrun_exits_as_podman_does() {
    let (env, image) = need!("lrun_exits_as_podman_does", debian());
    let cases: [(&[&str], i32, &str); 7] = [
        (&["true"], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["no-such-command"], 127, "not found"),
        (&["/no/such/command"], 127, "not found"),
        (&["/etc/passwd"], 126, "cannot be executed"),
        (&["/etc"], 126, "cannot be executed"),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
    ];
    for (command, wanted, said) in cases {
        let words = [&["run", "--rm", image.as_str()], command].concat();
        let output = env.lrun(&words);
        assert_eq!(code(&output), wanted, "{command:?}: {}", all(&output));
        assert!(all(&output).contains(said), "{command:?}: {}", all(&output));
    }
    for words in [
        &["run", "--no-such-flag", image.as_str()][..],
        &["run", "--rm", "--pull", "never", "not-there:1"],
        &["run", "--rm", "-u", "nobody-knows", image.as_str(), "true"],
        &["run", "--rm", "-v", "/does/not/exist:/x", image.as_str(), "true"],
        &["run", "--rm", "--network", "bridge", image.as_str(), "true"],
    ] {
        let output = env.lrun(words);
        assert_eq!(code(&output), 125, "{words:?}: {}", all(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{words:?}: {}", all(&output));
    }
}

#[test]
fn a_command_that_is_killed_exits_with_128_and_the_signal() {
    let (env, image) = need!("a_command_that_is_killed", debian());
    for (signal, wanted) in [("KILL", 137), ("TERM", 143), ("INT", 130)] {
        let init = ["run", "--rm", "--init", &image, "sh", "-c"];
        let script = format!("kill -{signal} $$");
        let output = env.lrun(&[&init[..], &[&script]].concat());
        assert_eq!(code(&output), wanted, "{}", all(&output));
    }
    // From outside, to process 1 itself.
    let running = env.spawn("lrun", &["run", "--rm", &image, "sleep", "60"]);
    let id = running.id().to_string();
    let child = loop {
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let child = children.split_ascii_whitespace().next().map(str::to_owned);
        let runs = child.as_ref().is_some_and(|child| {
            std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.starts_with("sleep"))
        });
        if let (true, Some(child)) = (runs, child) {
            break child;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    crate::support::run(std::process::Command::new("kill").args(["-KILL", &child])).unwrap();
    assert_eq!(code(&running.wait_with_output().unwrap()), 137);
}
