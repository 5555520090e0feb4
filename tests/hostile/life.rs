//! Rows about starting, ending, and what comes along.

use std::io::{BufRead, BufReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Prison;
use crate::need;
use crate::support::image::sha256;
use crate::support::{all, said, skip};

#[test]
fn row_07_the_runners_program_cannot_be_overwritten() {
    let prison = need!("row 7", Prison::open());
    let path = said(&prison.env.command("sh").args(["-c", "command -v lrun"]).output().unwrap());
    let hash = || sha256(&std::fs::read(path.trim()).unwrap());
    let before = hash();
    // It lies in wait for whatever shows up in its own process table, a joining command above all.
    let script = "cd /proc; while :; do for p in [0-9]*; do [ $p = $$ ] || for way in exe fd/3 fd/4 fd/5; do \
                  (exec 3<>/proc/$p/$way && head -c 4 /proc/$p/$way > /got) 2>/dev/null; done; done; done";
    let name = format!("row-7-{}", std::process::id());
    for init in [&[][..], &["--init"]] {
        let words = [&["run", "-d", "--name", &name], init, &[&prison.image, "sh", "-c", script]].concat();
        said(&prison.env.lrun(&words));
        for command in [&["true"][..], &["/proc/self/exe"], &["sh", "-c", "exec /proc/self/exe -c true"]] {
            for _ in 0..5 {
                prison.env.lrun(&[&["exec", &name], command].concat());
            }
        }
        // A script whose interpreter is whatever executes it.
        prison.env.lrun(&["exec", &name, "sh", "-c", "printf '#!/proc/self/exe\\n' > /trap; chmod 755 /trap"]);
        prison.env.lrun(&["exec", &name, "/trap"]);
        let _ = prison.env.lrun(&["rm", "-f", &name]);
    }
    assert_eq!(hash(), before);
    // Nor may its owner's other processes be looked into.
    assert!(!prison.run(&["--init"], "cat /proc/1/exe > /dev/null").status.success());
}

#[test]
fn row_19_a_killed_runner_leaves_nothing() {
    let prison = need!("row 19", Prison::open());
    let marker = format!("2{:08}", std::process::id());
    let before = prison.host();
    for flags in [&[][..], &["-u", "33"], &["--init"], &["--pid", "host"], &["--userns", "keep-id"], &["--no-holder"]] {
        // Zombies and orphans of its own, in sessions of their own.
        let script = format!("(setsid sleep {marker} &); (true &); echo ready; sleep {marker}");
        let words = [&["run", "--rm"], flags, &[&prison.image, "sh", "-c", &script]].concat();
        let mut process = prison.env.spawn("lrun", &words);
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        // The pipe ends when nobody inside holds it any more.
        output.read_to_string(&mut String::new()).unwrap();
        let survivors = || {
            let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
            lines.filter(|line| line.starts_with(&format!("sleep\0{marker}"))).count()
        };
        assert!((0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            survivors() == 0
        }));
        assert_eq!(prison.host(), before);
    }
}

#[test]
fn row_20_what_cannot_be_kept_is_refused_aloud() {
    let prison = need!("row 20", Prison::open());
    let broken = prison.env.scratch.join("broken.json");
    std::fs::write(&broken, "{\"defaultAction\": \"SCMP_ACT_SOMETHING\"}").unwrap();
    let broken = format!("seccomp={}", broken.display());
    for (flags, reason) in [
        (&["--security-opt", &broken][..], "seccomp profile"),
        (&["--security-opt", "seccomp=/missing.json"], "No such file"),
        (&["--kernel-memory", "1g"], "unexpected argument '--kernel-memory'"),
        (&["--security-opt", "apparmor=strict"], "AppArmor"),
        (&["--security-opt", "label=type:x_t"], "SELinux"),
        (&["--security-opt", "bogus"], "unknown --security-opt"),
    ] {
        let output = prison.run(flags, "echo ran");
        assert_eq!(output.status.code(), Some(125), "{flags:?}: {}", all(&output));
        assert!(all(&output).contains(reason) && !all(&output).contains("ran\n"), "{flags:?}: {}", all(&output));
    }
    // Without control groups of its own, as it has none where it was not let in, no limit is taken for given.
    for flags in [["--pids-limit", "5"], ["--memory", "1g"], ["--cpus", "1"], ["--cpuset-cpus", "0"]] {
        let output = prison.run(&flags, "echo ran");
        assert_eq!(output.status.code(), Some(125), "{flags:?}: {}", all(&output));
        let told = all(&output);
        assert!(told.contains("no control group for the container") && !told.contains("ran\n"), "{flags:?}: {told}");
    }
    // The helpers fail: nothing starts with fewer ids than were meant.
    let run = format!("lrun run --rm --no-holder {} echo ran", prison.image);
    let told = apart(&prison, "mount --bind /bin/false /usr/bin/newuidmap", &run);
    assert!(told.contains("newuidmap failed") && !told.contains("ran\n"), "{told}");
    // They are missing, and one id is all that there can be: said aloud, as is that it cannot be had with keep-id.
    let hide =
        "mkdir bin && cp -a /usr/bin/setpriv /usr/bin/dash bin && ln -s dash bin/sh && mount --bind bin /usr/bin";
    let told = apart(&prison, hide, &run.replace("--no-holder", "--no-holder --userns keep-id"));
    assert!(told.contains("newuidmap is missing: install the package uidmap") && !told.contains("ran\n"), "{told}");
}

/// Runs a command as the user in a mount namespace that root has prepared.
fn apart(prison: &Prison, prepare: &str, command: &str) -> String {
    let user = prison.env.user.clone().unwrap();
    let own = prison.env.command("true");
    let mut outer = Command::new("unshare");
    let script = format!(
        "{prepare}; exec setpriv --reuid {} --regid {} --clear-groups /usr/bin/sh -c '{command}'",
        user.uid, user.gid
    );
    outer.args(["-m", "sh", "-c", &script]).env_clear().current_dir(&prison.env.scratch);
    outer.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    all(&outer.output().unwrap())
}

#[test]
fn row_21_ids_are_the_callers_own() {
    let prison = need!("row 21", Prison::open());
    // Groups cannot be dropped where they were not given: the single map denies setgroups.
    let alone = "mount --bind /dev/null /etc/subuid";
    let run = format!("lrun run --rm --no-holder {} cat /proc/self/setgroups /proc/self/uid_map", prison.image);
    let told = apart(&prison, alone, &run);
    assert!(told.contains("a single user id") && told.contains("deny"), "{told}");
    // Ranges that overlap, or are another's, are refused by those who map.
    let overlap = "echo lstest:2000000:65536 > /tmp/row-21; echo lstest:2000100:65536 >> /tmp/row-21; \
                   mount --bind /tmp/row-21 /etc/subuid; mount --bind /tmp/row-21 /etc/subgid; rm -f /tmp/row-21";
    for way in ["--no-holder", "--init"] {
        let told = apart(&prison, overlap, &format!("XDG_RUNTIME_DIR= lrun run --rm {way} {} echo ran", prison.image));
        assert!(told.contains("lrun: ") && !told.contains("ran\n"), "{way}: {told}");
    }
    // A container's own map can be written once, which it was.
    prison.fails(
        &[&[], &["--security-opt", "seccomp=unconfined"]],
        &[
            "echo 0 0 4294967295 > /proc/self/uid_map",
            "echo allow > /proc/self/setgroups && echo deny > /proc/1/setgroups && false",
        ],
    );
}

#[test]
fn row_22_nothing_of_the_caller_comes_along() {
    let prison = need!("row 22", Prison::open());
    let script = "exec 7</etc/passwd 9<.; umask 0; ulimit -n 777; ulimit -c 0; trap '' TERM HUP; \
                  AWS_SECRET=x SSH_AUTH_SOCK=/x http_proxy=y LD_PRELOAD=/none lrun run --rm IMAGE \
                  sh -c 'env; umask; ulimit -n; ls /proc/self/fd; cat /proc/self/status; cat /proc/self/loginuid; pwd'";
    let script = script.replace("IMAGE", &prison.image);
    let output = prison.env.command("sh").args(["-c", &script]).output().unwrap();
    let told = said(&output);
    for secret in ["AWS_SECRET", "SSH_AUTH_SOCK", "http_proxy", "LD_PRELOAD", "LSTORE_ROOT", "XDG_RUNTIME_DIR"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    assert!(told.contains("\n0022\n777\n0\n1\n2\n3\n"), "{told}");
    assert!(told.contains("SigIgn:\t0000000000000000") && told.contains("SigBlk:\t0000000000000000"), "{told}");
    assert!(told.contains("Groups:\t0 \n") || told.contains("Groups:\t \n"), "{told}");
    assert!(told.ends_with("\n/\n") || told.ends_with("4294967295/\n"), "{told}");
}

#[test]
fn row_23_abstract_sockets_of_the_host_are_elsewhere() {
    let prison = need!("row 23", Prison::open());
    let name = format!("lrun-row-23-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let connect = format!(
        "perl -e 'socket(my $s, 1, 1, 0); print connect($s, pack(\"S a*\", 1, \"\\0{name}\")) ? \"reached\" : \"refused\"'"
    );
    assert_eq!(prison.tell(&[], &connect), "refused");
    assert_eq!(prison.tell(&["--no-holder"], &connect), "refused");
    // With the host's network it is the host's, which is why that must be asked for.
    assert_eq!(prison.tell(&["--network", "host"], &connect), "reached");
    if std::env::var_os("container").is_some() {
        skip("row 23 (host)", "the host is itself a container");
    }
}

/// Process 1 has made a user namespace that denies a choice of groups. Before the mend, who joined it kept the caller's.
#[test]
fn groups_of_the_caller_do_not_come_along_whatever_user_namespace_is_joined() {
    let prison = need!("groups", Prison::open());
    let user = prison.env.user.clone().unwrap();
    let name = format!("groups-{}", std::process::id());
    let lrun = |words: &[&str]| {
        let mut command = prison.env.command("setpriv");
        let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--groups=60001".to_owned()];
        command.uid(0).gid(0).args(ids).arg("lrun").args(words);
        said(&command.output().unwrap())
    };
    for holder in [&[][..], &["--no-holder"]] {
        let flags = [&["run", "-d", "--name", &name, "--security-opt", "seccomp=unconfined"], holder].concat();
        lrun(&[&flags[..], &[&prison.image, "unshare", "-r", "sh", "-c", "echo ready; sleep 60"]].concat());
        // It has come there when it says so.
        assert!((0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            all(&prison.env.lrun(&["logs", &name])).contains("ready")
        }));
        let look = ["exec", &name, "sh", "-c", "grep Groups /proc/self/status; cat /proc/self/setgroups"];
        let told = lrun(&look);
        lrun(&["rm", "-f", "-t", "0", &name]);
        assert_eq!(told.replace([' ', '\t'], ""), "Groups:\ndeny\n", "{holder:?}");
        // And where process 1 has stayed, the groups are those of the container.
        lrun(&[&["run", "-d", "--name", &name], holder, &[&prison.image, "sleep", "60"]].concat());
        let told = lrun(&look);
        lrun(&["rm", "-f", "-t", "0", &name]);
        assert_eq!(told.replace([' ', '\t'], ""), "Groups:\nallow\n", "{holder:?}");
    }
}

/// The null device is what a command without input reads. Before the mend a pipe in its place held who joined for ever.
#[test]
fn a_pipe_in_place_of_the_null_device_is_not_waited_for() {
    let prison = need!("null", Prison::open());
    let name = format!("null-{}", std::process::id());
    let flags = ["run", "-d", "--name", &name, "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"];
    let script = "mkfifo /fifo && mount --bind /fifo /dev/null && echo ready; sleep 60";
    said(&prison.env.lrun(&[&flags[..], &[&prison.image, "sh", "-c", script]].concat()));
    assert!((0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        all(&prison.env.lrun(&["logs", &name])).contains("ready")
    }));
    let output = prison.env.lrun(&["exec", &name, "true"]);
    let _ = prison.env.lrun(&["rm", "-f", "-t", "0", &name]);
    assert_eq!(output.status.code(), Some(125), "{}", all(&output));
    assert!(all(&output).contains("/dev/null is not the null device"), "{}", all(&output));
}

/// A folder as a standard stream is a way out of the container's root. Before the mend a file of the host's was written by it.
#[test]
fn a_folder_is_no_standard_stream() {
    let prison = need!("folder", Prison::open());
    let name = format!("folder-{}", std::process::id());
    said(&prison.env.lrun(&["run", "-d", "--name", &name, &prison.image, "sleep", "60"]));
    let folder = || std::process::Stdio::from(std::fs::File::open(&prison.env.scratch).unwrap());
    let lrun = |words: &[&str]| {
        let mut command = prison.env.command("lrun");
        command.args(words);
        command
    };
    let refused = |mut command: Command, stream: &str| {
        let output = command.output().unwrap();
        let told = all(&output);
        assert_eq!(output.status.code(), Some(125), "{told}");
        assert!(stream == "error" || told.contains(&format!("standard {stream} is a folder")), "{told}");
        assert!(!told.contains("ran\n"), "{told}");
    };
    for words in [vec!["run", "--rm", "-i", &prison.image], vec!["exec", "-i", &name]] {
        let words = [&words[..], &["echo", "ran"]].concat();
        let mut command = lrun(&words);
        command.stdin(folder());
        refused(command, "input");
        let mut command = lrun(&words);
        command.stderr(folder());
        refused(command, "error");
    }
    // Without -i nothing of the caller's input goes in, whatever it is.
    let mut command = lrun(&["exec", &name, "echo", "ran"]);
    command.stdin(folder());
    assert_eq!(said(&command.output().unwrap()), "ran\n");
    let _ = prison.env.lrun(&["rm", "-f", "-t", "0", &name]);
}

/// The keys of the caller's session. Before the mend whoever joined had them, where no filter keeps them from being asked for.
#[test]
fn who_joins_leaves_the_callers_keys_outside() {
    let prison = need!("keys", Prison::open());
    let name = format!("keys-{}", std::process::id());
    let check = "perl -e 'my ($t, $d) = (\"user\\0\", \"callerkey\\0\"); \
                 print syscall(250, 10, -3, $t, $d, 0) > 0 ? \"found\" : \"none\"'";
    let flags = ["run", "-d", "--name", &name, "--security-opt", "seccomp=unconfined", "--health-cmd", check];
    said(&prison.env.lrun(&[&flags[..], &["--health-interval", "disable", &prison.image, "sleep", "60"]].concat()));
    // A session with a key in it, then the words.
    let with_key = "my ($t, $d, $p) = (\"user\\0\", \"callerkey\\0\", \"secret\"); \
                    syscall(250, 1, 0) > 0 && syscall(248, $t, $d, $p, 6, -3) > 0 or die \"no key: $!\"; exec @ARGV";
    let told = |words: &[&str]| {
        let mut command = prison.env.command("perl");
        command.args(["-e", with_key, "--"]).args(words);
        said(&command.output().unwrap())
    };
    assert_eq!(told(&["sh", "-c", check]), "found", "the caller has it");
    assert_eq!(told(&["lrun", "exec", &name, "sh", "-c", check]), "none");
    told(&["lrun", "healthcheck", "run", &name]);
    let log = said(&prison.env.lrun(&["inspect", "--format", "{{json .State.Health}}", &name]));
    let _ = prison.env.lrun(&["rm", "-f", "-t", "0", &name]);
    assert!(log.contains("none") && !log.contains("found"), "{log}");
}
