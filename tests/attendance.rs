//! What is done beside a start, what a container takes over from the caller and from others, and flags that are refused.

use std::os::unix::net::UnixDatagram;

use crate::background::eventually;
use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, programs, run, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

#[test]
fn a_start_is_attended_as_it_was_asked_for() {
    let (env, image) = need!("a_start_is_attended", debian());
    let socket = env.scratch.join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    run(std::process::Command::new("chmod").arg("666").arg(&socket)).unwrap();
    ok(&env, &["create", "--name", "base", "-v", "data:/data", &image, "sleep", "1000"]);
    let flags = ["--pidfile", "pid", "--conmon-pidfile", "runner", "--log-driver", "none", "--sdnotify", "conmon"];
    let begin = [&["run", "-d", "--replace", "--name", "web", "--requires", "base"], &flags[..]].concat();
    let mut begin = [&begin[..], &[&image, "sh", "-c", "echo unseen; sleep 1000"]].concat();
    let mut command = env.command(programs().join("lrun"));
    said(&command.args(&begin).env("NOTIFY_SOCKET", &socket).output().unwrap());
    let number = |file: &str| std::fs::read_to_string(env.scratch.join(file)).unwrap();
    assert_eq!(ok(&env, &["inspect", "--format", "{{.State.Pid}}", "web"]).trim(), number("pid"));
    let mut told = [0; 100];
    let count = systemd.recv(&mut told).unwrap();
    assert_eq!(std::str::from_utf8(&told[..count]).unwrap(), format!("MAINPID={}\nREADY=1", number("runner")));
    assert_eq!(ok(&env, &["inspect", "--format", "{{.State.Status}}", "base"]), "running\n", "it is required");
    let logs = env.lrun(&["logs", "web"]);
    assert!(logs.status.code() == Some(125) && all(&logs).contains("--log-driver none"), "{}", all(&logs));

    let old = number("pid");
    begin.splice(7.., [&image, "sleep", "1001"]);
    ok(&env, &begin);
    assert_eq!(ok(&env, &["top", "web", "args"]).lines().last(), Some("sleep 1001"), "another has its name");
    eventually("the end of the one before", || !std::path::Path::new(&format!("/proc/{old}")).exists());

    assert_eq!(env.lrun(&["run", "--rm", "--timeout", "1", &image, "sleep", "1000"]).status.code(), Some(137));
    let script = "grep -c ' /data ' /proc/mounts; echo x > /data/f";
    let taken = env.lrun(&["run", "--rm", "--volumes-from", "base:ro", &image, "sh", "-c", script]);
    assert!(all(&taken).starts_with("1\n") && all(&taken).contains("Read-only"), "{}", all(&taken));
    // What does not run goes at once: of these, what has the label.
    ok(&env, &["create", "--name", "old", "--label", "job=ci", &image, "true"]);
    ok(&env, &["create", "--name", "kept", &image, "true"]);
    assert_eq!(ok(&env, &["prune", "-f", "--filter", "label=job", "--filter", "until=1h"]), "");
    let id = ok(&env, &["inspect", "--format", "{{.Id}}", "old"]);
    assert_eq!(ok(&env, &["prune", "-f", "--filter", "label=job=ci"]), id);
    assert_eq!(ok(&env, &["prune", "-f"]).lines().count(), 1, "neither of those that run");
    assert_eq!(ok(&env, &["ps", "-aq"]).lines().count(), 2);
    ok(&env, &["rm", "-f", "web", "base"]);
}

#[test]
fn a_command_gets_what_of_the_callers_was_asked_for_and_nothing_else() {
    let (env, image) = need!("a_command_gets", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    let merged = run(&["--env-merge", "PATH=${PATH}:/x", "--unsetenv", "container"], "echo $PATH; echo $container");
    assert!(merged.ends_with(":/x\n\n"), "{merged}");
    assert_eq!(run(&["--tz", "Europe/Berlin"], "tail -n 1 /etc/localtime"), "CET-1CEST,M3.5.0,M10.5.0/3\n");
    assert_eq!(run(&["--chrootdirs", "/srv"], "cmp /etc/hosts /srv/etc/hosts && echo same"), "same\n");
    std::fs::write(env.scratch.join("h"), "192.0.2.9 nine").unwrap();
    let hosts = run(
        &["--hosts-file", "h", "--no-hostname", "-h", "box"],
        "cat /etc/hosts; grep -q box /etc/hostname || echo other",
    );
    assert_eq!(hosts, "192.0.2.9 nine\n127.0.1.1\tbox\nother\n");
    assert_eq!(run(&["--personality", "LINUX32"], "uname -m"), "i686\n");

    std::fs::write(env.scratch.join("f"), "handed on").unwrap();
    let with_descriptor = |words: &[&str]| {
        let mut command = env.command("sh");
        command.args(["-c", "exec \"$@\" 3< f 9<&-", "sh"]).arg(programs().join("lrun")).args(words).output().unwrap()
    };
    let script = "cat <&3; echo; readlink /proc/self/fd/4 || echo none";
    let handed = with_descriptor(&["run", "--rm", "--preserve-fds", "1", &image, "sh", "-c", script]);
    assert_eq!(said(&handed), "handed on\nnone\n");
    let by_number = ["run", "--rm", "--preserve-fd", "3", &image, "sh", "-c", script];
    assert_eq!(said(&with_descriptor(&by_number)), "handed on\nnone\n");
    let missing = with_descriptor(&["run", "--rm", "--preserve-fd", "3,9", &image, "true"]);
    assert!(all(&missing).contains("hand on the descriptor 9"), "{}", all(&missing));
    let refused = env.lrun(&["run", "--rm", "--pod", "x", &image, "true"]);
    assert!(refused.status.code() == Some(125) && all(&refused).contains("there are no pods"), "{}", all(&refused));
}
