//! Containers in the background: `run -d`, `exec`, `stop`, `rm`.

use std::process::Stdio;

use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, said};

/// Starts one that says so, and on SIGTERM takes its leave with status 3.
pub fn start(env: &Env, image: &str, flags: &[&str]) -> String {
    let script = "trap 'echo leaves; exit 3' TERM; echo begins; while :; do sleep 0.05; done";
    let words = [&["run", "-d"], flags, &[image, "sh", "-c", script]].concat();
    said(&env.lrun(&words)).trim().to_owned()
}

fn log(env: &Env, name: &str) -> String {
    String::from_utf8_lossy(&env.lrun(&["logs", name]).stdout).into_owned()
}

pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..400 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("{what}: not within ten seconds");
}

#[test]
fn a_container_runs_on_is_stopped_and_removed() {
    let (env, image) = need!("a_container_runs_on", debian());
    let id = start(&env, &image, &["--name", "web"]);
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    eventually("the log", || log(&env, "web") == "begins\n");
    let again = env.lrun(&["run", "-d", "--name", "web", &image, "true"]);
    assert_eq!((again.status.code(), all(&again).contains("in use")), (Some(125), true), "{}", all(&again));
    let refused = env.lrun(&["rm", "web"]);
    assert!(!refused.status.success() && all(&refused).contains("lrun stop web"), "{}", all(&refused));

    assert_eq!(said(&env.lrun(&["stop", "web"])), "web\n");
    assert_eq!(log(&env, "web"), "begins\nleaves\n");
    assert_eq!(said(&env.lrun(&["inspect", "--format", "{{.State.ExitCode}}", "web"])), "3\n");
    assert_eq!(said(&env.lrun(&["stop", "web"])), "web\n", "one that has ended is stopped");
    assert_eq!(said(&env.lrun(&["rm", "web"])), "web\n");
    assert!(!env.store.join("containers/web").exists());
    let missing = env.lrun(&["rm", "web"]);
    assert!(!missing.status.success() && all(&missing).contains("no such container"));
    assert!(env.lrun(&["rm", "-f", "web"]).status.success());
}

#[test]
fn what_does_not_listen_is_killed_and_rm_leaves_nothing() {
    let (env, image) = need!("what_does_not_listen", debian());
    // Files of another id, which only the user's namespace can remove.
    let script = "mkdir /d; touch /d/f; chown -R 33:33 /d; trap '' TERM; while :; do sleep 0.05; done";
    said(&env.lrun(&["run", "-d", "--name", "deaf", &image, "sh", "-c", script]));
    eventually("its file", || env.store.join("containers/deaf/upper/d/f").exists());
    assert_eq!(said(&env.lrun(&["stop", "-t", "0", "deaf"])), "deaf\n");
    said(&env.lrun(&["rm", "deaf"]));
    said(&env.lrun(&["run", "-d", "--rm", "--name", "brief", &image, "sleep", "1000"]));
    said(&env.lrun(&["rm", "-f", "brief"]));
    eventually("the folders", || std::fs::read_dir(env.store.join("containers")).unwrap().count() == 0);
}

#[test]
fn a_start_in_the_background_that_fails_says_so_as_in_the_foreground() {
    let (env, image) = need!("a_start_in_the_background", debian());
    for (command, wanted) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let output = env.lrun(&["run", "-d", "--name", "x", &image, command]);
        assert_eq!(output.status.code(), Some(wanted), "{}", all(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{}", all(&output));
    }
    eventually("the folders", || std::fs::read_dir(env.store.join("containers")).unwrap().count() == 0);
}

#[test]
fn exec_joins_with_the_containers_own_confinement() {
    let (env, image) = need!("exec_joins", debian());
    start(&env, &image, &["--rm", "--name", "web", "-e", "A=image", "-w", "/usr", "--hostname", "inside"]);
    let exec =
        |flags: &[&str], script: &str| said(&env.lrun(&[&["exec"], flags, &["web", "sh", "-c", script]].concat()));
    // What confines process 1 confines a further one; the numbers of processes apart.
    let keys = "^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Seccomp_filters|Cap...):";
    let own = exec(&[], &format!("grep -E '{keys}' /proc/self/status"));
    assert_eq!(own, exec(&[], &format!("grep -E '{keys}' /proc/1/status")));
    assert!(own.contains("a80425fb"), "{own}");
    let signals = exec(&[], "grep -E '^Sig(Blk|Ign):' /proc/self/status");
    assert_eq!(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "none is held back or ignored");
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let script = format!("readlink /proc/1/ns/{namespace} /proc/self/ns/{namespace} | sort -u | wc -l");
        assert_eq!(exec(&[], &script), "1\n", "{namespace}");
    }
    assert_eq!(exec(&[], "hostname; pwd; echo $A; ls /proc/self/fd | wc -l"), "inside\n/usr\nimage\n4\n");
    assert_eq!(
        exec(&["-e", "A=mine", "-w", "/tmp", "-u", "www-data"], "pwd; echo $A; id -un"),
        "/tmp\nmine\nwww-data\n"
    );
    let codes: [(&[&str], i32); 5] = [
        (&["exec", "web", "sh", "-c", "exit 7"], 7),
        (&["exec", "web", "sh", "-c", "kill -9 $$"], 137),
        (&["exec", "web", "no-such-command"], 127),
        (&["exec", "-w", "/no/such/folder", "web", "true"], 125),
        (&["exec", "nobody-knows", "true"], 125),
    ];
    for (words, wanted) in codes {
        let output = env.lrun(words);
        assert_eq!(output.status.code(), Some(wanted), "{words:?}: {}", all(&output));
    }
    let mut command = env.command("script");
    // Its input stays open: at the end of it `script` types one more character, which may come before or after the command.
    command.args(["-qec", "lrun exec -it web tty", "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let _open = process.stdin.take();
    assert_eq!(said(&process.wait_with_output().unwrap()).trim(), "/dev/pts/0");

    // Nobody's command outlives who asked for it.
    let mut process = env.spawn("lrun", &["exec", "web", "sleep", "4711"]);
    eventually("the command", || exec(&[], "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").contains("sleep 4711"));
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("its end", || !exec(&[], "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").contains("sleep 4711"));

    said(&env.lrun(&["stop", "web"]));
    let output = env.lrun(&["exec", "web", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", all(&output));
}
