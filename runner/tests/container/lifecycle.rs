//! Start, signals, terminals and end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::support::{Bench, Finished};

pub(crate) const TESTS: &[Test] = &[
    ("exit_statuses_are_as_podmans", exit_statuses),
    ("standard_streams_are_passed_through", streams),
    ("signals_are_passed_on", signals),
    ("the_container_dies_with_its_starter", parent_death),
    ("init_reaps_and_passes_signals_on", init),
    ("a_terminal_is_one", terminal),
    ("a_session_of_its_own_keeps_the_callers_terminal_out", session),
    ("changes_go_to_the_layer_and_the_image_stays", layer),
    ("the_layer_is_removed_with_files_of_any_owner", removal),
    ("files_replace_links_and_do_not_follow_them", etc_files),
    ("a_read_only_root_refuses_writes", read_only),
    ("bad_users_are_refused", bad_users),
];

fn exit_statuses(bench: &Bench) {
    for init in [&[][..], &["--init"]] {
        for (args, code) in [
            (&["/bin/sh", "-c", "exit 3"][..], 3),
            (&["missing"], 127),
            (&["/bin/missing"], 127),
            (&["/bin/not-executable"], 126),
            (&["not-executable"], 126),
            (&["/etc"], 126),
            (&["/bin/sh", "-c", "sh -c 'kill -9 $$'"], 137),
        ] {
            let finished = bench.container().flags(init).run(args);
            assert_eq!(finished.code, code, "{args:?} {init:?}: {finished:?}");
            assert_eq!(finished.err.lines().count(), usize::from(code != 3), "{finished:?}");
        }
    }
    // PID 1 cannot be killed from inside, so this one is killed from outside.
    let (mut starter, pid) = started(bench, &[], "exec sleep 60");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(starter.wait().unwrap().code(), Some(137));
}

/// Starts a container whose shell says "ready" before it runs `script`, and finds its PID 1 as the host numbers it.
fn started(bench: &Bench, flags: &[&str], script: &str) -> (Child, i32) {
    let mut run = bench.container();
    run.flags(flags);
    let mut command = run.command(&["/bin/sh", "-c", &format!("echo ready; {script}")]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut byte = [0];
    // Unbuffered, so that the rest stays in the pipe.
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    if line != "ready" {
        let finished = Finished::new(child.wait_with_output().unwrap());
        panic!("{line}: {finished:?}");
    }
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let pid = fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    std::mem::forget(run);
    (child, pid)
}

fn streams(bench: &Bench) {
    let run = bench.container();
    let mut command = run.command(&["/bin/sh", "-c", "cat; echo err >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let finished = Finished::new(child.wait_with_output().unwrap());
    assert_eq!((finished.out.as_str(), finished.err.as_str()), ("through", "err\n"));
    let mut run = bench.container();
    assert_eq!(run.flag("--no-input").sh("stat -Lc %t:%T /proc/self/fd/0").trim(), "1:3");
}

fn signals(bench: &Bench) {
    let send = |child: &Child, signal| kill_process(Pid::from_child(child), signal).unwrap();
    for (name, signal) in [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("USR1", Signal::USR1),
        ("QUIT", Signal::QUIT),
    ] {
        let script = format!("trap 'echo got {name}; exit 7' {name}; echo set; while :; do sleep 0.01; done");
        let (mut child, _) = started(bench, &[], &script);
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(out.next().unwrap().unwrap(), "set");
        send(&child, signal);
        assert_eq!(out.next().unwrap().unwrap(), format!("got {name}"));
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

fn gone(pid: i32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn parent_death(bench: &Bench) {
    for flags in [&[][..], &["--init"], &["--user", "app"], &["--init", "--user", "app"]] {
        let (mut child, pid) = started(bench, flags, "sleep 60 & sleep 60");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(gone(pid), "{flags:?}: PID 1 outlived its starter");
    }
}

fn init(bench: &Bench) {
    let script = "(sleep 0.01 & ) ; sleep 0.1; cat /proc/[0-9]*/stat | grep -c ' Z '; echo $$";
    let mut run = bench.container();
    let out = run.flag("--init").sh(script);
    assert_eq!(out.split_whitespace().next(), Some("0"), "zombies are reaped: {out}");
    assert_ne!(out.split_whitespace().nth(1), Some("1"), "the program is not PID 1: {out}");
    // Without a handler PID 1 would ignore it; the program behind init does not.
    let (mut child, _) = started(bench, &["--init"], "exec sleep 60");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

fn terminal(bench: &Bench) {
    for extra in [&[][..], &["--init"]] {
        let mut run = bench.container();
        run.flags(&["--terminal", "--env", "TERM=xterm"]).flags(extra);
        let finished = run.run(&[
            "/bin/sh",
            "-c",
            "tty; stat -c %t /dev/console; echo $TERM; [ -t 0 ] && echo yes; sh -c 'echo < /dev/tty' && echo own",
        ]);
        assert_eq!(finished.out, "/dev/pts/0\r\n88\r\nxterm\r\nyes\r\n\r\nown\r\n", "{extra:?}: {finished:?}");
        assert_eq!(finished.code, 0);
    }
    let mut run = bench.container();
    let mut command = run.flags(&["--terminal", "--user", "app"]).command(&["/bin/head", "-n", "1"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"line\n").unwrap();
    let finished = Finished::new(child.wait_with_output().unwrap());
    assert_eq!(finished.out, "line\r\nline\r\n", "echo and output");
    // The end of the input is told as by a key, and a terminal without input takes none.
    let mut run = bench.container();
    let mut child =
        run.flags(&["--terminal"]).command(&["/bin/cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"last\n").unwrap();
    assert_eq!(Finished::new(child.wait_with_output().unwrap()).out, "last\r\nlast\r\n");
    let mut run = bench.container();
    let mut command = run.flags(&["--terminal", "--no-input"]).command(&["/bin/sh", "-c", "sleep 0.2; echo done"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"unheard\n").unwrap();
    assert_eq!(Finished::new(child.wait_with_output().unwrap()).out, "done\r\n");
    // Much output at the very end is not cut off.
    let mut run = bench.container();
    let finished = run.flags(&["--terminal"]).run(&["/bin/sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x"]);
    assert_eq!(finished.out.len(), 200_000);
}

fn session(bench: &Bench) {
    let out = bench.container().sh("cut -d' ' -f1,6 /proc/self/stat; cut -d' ' -f7 /proc/1/stat");
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!((words[1], words[2]), ("1", "0"), "session of PID 1, without a terminal: {out}");
}

fn layer(bench: &Bench) {
    let before = listing(bench);
    let mut run = bench.container();
    run.flag("--keep")
        .sh("echo new > /srv/new; rm /etc/group; chmod 700 /root; echo x >> /etc/passwd; touch -d @0 /bin/sh");
    assert_eq!(listing(bench), before);
    assert_eq!(fs::read_to_string(run.own().join("upper/srv/new")).unwrap(), "new\n");
    assert_eq!(run.sh("cat /srv/new; ls /etc/group || echo gone"), "new\ngone\n", "a second start finds the changes");
}

/// Everything about the files of the image that a container could change.
fn listing(bench: &Bench) -> Vec<String> {
    let image = bench.image_of(bench.user);
    let mut waiting = vec![image];
    let mut lines = Vec::new();
    while let Some(path) = waiting.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        lines.push(format!(
            "{} {} {} {} {} {}",
            path.display(),
            data.mode(),
            data.uid(),
            data.len(),
            data.mtime(),
            data.mtime_nsec()
        ));
        if data.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

fn removal(bench: &Bench) {
    let run = bench.container();
    run.sh("mkdir -p /srv/a/b; touch /srv/a/b/f; chown -R 33:33 /srv/a; chmod 000 /srv/a/b /srv/a");
    assert_eq!(fs::read_dir(run.own()).unwrap().count(), 0);
    let mut run = bench.container();
    run.flag("--rm").sh("touch /srv/x");
    assert_eq!(fs::read_dir(run.own()).unwrap().count(), 0);
}

fn etc_files(bench: &Bench) {
    let mut run = bench.container();
    // Left by an earlier run, to have the next one write where it points.
    let victim = bench.directory(bench.user);
    fs::write(victim.path().join("file"), "untouched").unwrap();
    fs::create_dir(run.own().join("upper/etc")).unwrap();
    std::os::unix::fs::chown(run.own().join("upper/etc"), Some(bench.user.uid), Some(bench.user.gid)).unwrap();
    std::os::unix::fs::symlink(victim.path().join("file"), run.own().join("upper/etc/hostname")).unwrap();
    let out = run
        .flags(&["--hostname", "box", "--file", "/etc/hosts", "ours\n", "--file", "/etc/hostname", "box\n"])
        .sh("cat /etc/hosts /etc/hostname /proc/sys/kernel/hostname; stat -c '%a %F' /etc/hosts /etc/hostname");
    assert_eq!(out, "ours\nbox\nbox\n644 regular file\n644 regular file\n");
    assert_eq!(fs::read_to_string(victim.path().join("file")).unwrap(), "untouched");
}

fn read_only(bench: &Bench) {
    let mut run = bench.container();
    let finished =
        run.flags(&["--read-only", "--tmpfs", "/made"]).run(&["/bin/sh", "-c", "touch /made/x && touch /srv/x"]);
    assert_eq!(finished.code, 1);
    assert!(finished.err.contains("/srv/x") && finished.err.contains("Read-only"), "{finished:?}");
    let image = bench.image_of(bench.user);
    assert_eq!(fs::metadata(image.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
}

fn bad_users(bench: &Bench) {
    for user in ["2147483648", "4294967296", "nobody-here", "-1", "0:nogroup-here", "70000"] {
        let mut run = bench.container();
        let finished = run.flags(&["--user", user]).run(&["/bin/true"]);
        assert_eq!(finished.code, 125, "{user}");
        assert_eq!(finished.err.lines().count(), 1, "{finished:?}");
    }
}
