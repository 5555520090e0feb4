//! The life of a container: created, started, watched, stopped, started again, looked at, renamed, removed; and what
//! becomes of it when those who answer for it are killed.

use serde_json::Value;

use crate::background::{eventually, start};
use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

fn inspect(env: &Env, name: &str) -> Value {
    let array: Value = serde_json::from_str(&ok(env, &["inspect", "--type", "container", name])).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 1);
    array[0].clone()
}

fn status(env: &Env, name: &str) -> String {
    ok(env, &["inspect", "--format", "{{.State.Status}}", name]).trim().to_owned()
}

/// The processes whose parent is the container's first: none, or those of its monitor, by what `/proc` tells.
fn parent(id: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned()
}

fn kill(pid: &str) {
    assert!(std::process::Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

#[test]
fn a_container_is_created_started_stopped_and_started_again_over_its_own_changes() {
    let (env, image) = need!("a_container_is_created", debian());
    let script =
        "echo run $(cat /count 2>/dev/null); echo x >> /count; echo wrong >&2; test $(wc -l < /count) -lt 3; exit $?";
    let id = ok(&env, &["create", "--name", "job", "-e", "A=1", "--label", "k=v", &image, "sh", "-c", script]);
    let id = id.trim();
    assert_eq!(status(&env, "job"), "created");
    assert!(ok(&env, &["ps"]).lines().count() == 1, "it does not run");
    for name in [id, &id[..12], &id[..4], "job"] {
        assert_eq!(inspect(&env, name)["Id"], id);
    }
    assert_eq!(ok(&env, &["start", "job"]), "job\n");
    assert_eq!(ok(&env, &["wait", &id[..6]]), "0\n");
    let attached = env.lrun(&["start", "-a", "job"]);
    assert_eq!(attached.status.code(), Some(0), "{}", all(&attached));
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "run x\n");
    assert_eq!(String::from_utf8_lossy(&attached.stderr), "wrong\n");
    let third = env.lrun(&["start", "--attach", "job"]);
    assert_eq!(third.status.code(), Some(1), "the container's own status: {}", all(&third));
    assert_eq!(status(&env, "job"), "exited");
    let logs = env.lrun(&["logs", "job"]);
    assert_eq!(String::from_utf8_lossy(&logs.stdout), "run\nrun x\nrun x x\n");
    assert_eq!(String::from_utf8_lossy(&logs.stderr), "wrong\nwrong\nwrong\n");
    assert_eq!(ok(&env, &["rm", "--volumes", "job"]), "job\n");
    assert_eq!(env.lrun(&["exists", "job"]).status.code(), Some(1));
}

#[test]
fn one_that_ran_in_the_foreground_can_be_started_again() {
    let (env, image) = need!("one_that_ran_in_the_foreground", debian());
    let first = env.lrun(&["run", "--name", "fore", &image, "sh", "-c", "echo x >> /f; wc -l < /f; exit 7"]);
    assert_eq!((first.status.code(), String::from_utf8_lossy(&first.stdout).as_ref()), (Some(7), "1\n"));
    assert_eq!(inspect(&env, "fore")["State"]["ExitCode"], 7);
    let again = env.lrun(&["start", "-a", "fore"]);
    assert_eq!((again.status.code(), String::from_utf8_lossy(&again.stdout).as_ref()), (Some(7), "2\n"));
    let plain = env.lrun(&["run", "--no-holder", "--name", "plain", &image, "true"]);
    assert!(plain.status.success(), "{}", all(&plain));
    assert_eq!(ok(&env, &["start", "plain"]), "plain\n");
    assert_eq!(ok(&env, &["wait", "plain"]), "0\n");
    assert_eq!(ok(&env, &["rm", "fore", "plain"]), "fore\nplain\n");
}

#[test]
fn what_distrobox_asks_for_is_answered_in_its_form() {
    let (env, image) = need!("what_distrobox_asks_for", debian());
    ok(
        &env,
        &[
            "create",
            "--hostname",
            "host",
            "--name",
            "box",
            "--label",
            "manager=distrobox",
            "--label",
            "distrobox.unshare_groups=0",
            "--env",
            "HOME=/home/u",
            "--env",
            "CONTAINER_ID=box",
            "--volume",
            "/tmp:/tmp:rslave",
            "--entrypoint",
            "/bin/sh",
            &image,
            "-c",
            "echo '+ begin'; echo container_setup_done; exec sleep 1000",
        ],
    );
    let found = |words: &[&str]| env.lrun(words).status.code();
    assert_eq!(found(&["inspect", "--type", "container", "box"]), Some(0));
    assert_ne!(found(&["inspect", "--type", "container", "nobody"]), Some(0));
    assert_eq!(found(&["inspect", "--type", "image", &image]), Some(0));
    assert_ne!(found(&["inspect", "--type", "image", "box"]), Some(0));
    let images: Value =
        serde_json::from_str(&ok(&env, &["inspect", "--type", "image", "--format", "json", &image])).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 1);

    ok(&env, &["start", "box"]);
    assert_eq!(ok(&env, &["inspect", "--type", "container", "--format", "{{.State.Status}}", "box"]), "running\n");
    let four = "container_status={{.State.Status}};\nunshare_groups={{ index .Config.Labels \"distrobox.unshare_groups\" }};\n\
        {{range .Config.Env}}{{if and (ge (len .) 5) (eq (slice . 0 5) \"HOME=\")}}container_home={{slice . 5 | printf \"%q\"}}{{end}}{{end}};\n\
        {{range .Config.Env}}{{if and (ge (len .) 5) (eq (slice . 0 5) \"PATH=\")}}container_path={{slice . 5 | printf \"%q\"}}{{end}}{{end}}";
    assert_eq!(
        ok(&env, &["inspect", "--type", "container", "--format", four, "box"]),
        "container_status=running;\nunshare_groups=0;\ncontainer_home=\"/home/u\";\n\
         container_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n"
    );
    let value = inspect(&env, "box");
    let id = value["Id"].as_str().unwrap();
    assert_eq!(ok(&env, &["inspect", "--format", "{{.ID}}", "box"]), format!("{id}\n"));
    assert_eq!(value["Name"], "box");
    assert_eq!(value["ImageName"], image);
    assert_eq!(value["Config"]["Image"], image);
    assert_eq!(value["Path"], "/bin/sh");
    assert_eq!(value["Args"][0], "-c");
    assert_eq!(value["Config"]["Entrypoint"], serde_json::json!(["/bin/sh"]));
    assert_eq!(value["Config"]["Cmd"][0], "-c");
    assert_eq!(value["Config"]["Labels"]["manager"], "distrobox");
    assert_eq!(value["Mounts"][0]["Source"], "/tmp");
    assert_eq!(value["Mounts"][0]["Destination"], "/tmp");
    assert_eq!(value["Mounts"][0]["Options"], serde_json::json!(["rbind", "nosuid"]));
    assert_eq!(value["HostConfig"]["NetworkMode"], "none");

    let list = "{{.ID}}|{{.Image}}|{{.Names}}|{{.Status}}|{{.Labels}}{{.Mounts}}";
    let line = ok(&env, &["ps", "-a", "--no-trunc", "--format", list]);
    let (head, tail) = line.split_once("|Up ").unwrap();
    assert_eq!(head, format!("{id}|{image}|box"));
    assert!(tail.ends_with("|distrobox.unshare_groups=0,manager=distrobox/tmp\n"), "{tail}");
    let array: Value = serde_json::from_str(&ok(&env, &["ps", "-a", "--no-trunc", "--format", "json"])).unwrap();
    assert_eq!(
        (&array[0]["Names"], &array[0]["Labels"]["manager"]),
        (&serde_json::json!(["box"]), &"distrobox".into())
    );
    let object: Value = serde_json::from_str(&ok(&env, &["ps", "-a", "--format", "{{json .}}"])).unwrap();
    assert_eq!((&object["Names"], object["ID"].as_str().unwrap()), (&"box".into(), &id[..12]));

    eventually("its log", || {
        ok(&env, &["logs", "--since", "2025-01-01T10:00:00.000000000+00:00", "box"]).lines().count() == 2
    });
    assert_eq!(ok(&env, &["logs", "box"]), "+ begin\ncontainer_setup_done\n");
    let exec = [
        "exec",
        "--interactive",
        "--detach-keys=",
        "--user=root",
        "--workdir=/tmp",
        "--env=A=b",
        "box",
        "sh",
        "-c",
        "pwd; echo $A; exit 9",
    ];
    let output = env.lrun(&exec);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(9), "/tmp\nb\n"));
    assert_eq!(ok(&env, &["stop", "-t", "0", "box"]), "box\n");
    assert_eq!(ok(&env, &["rm", "--force", "--volumes", "box"]), "box\n");
}

#[test]
fn ps_lists_as_podman_does() {
    let (env, image) = need!("ps_lists", debian());
    let title = "CONTAINER ID  IMAGE       COMMAND     CREATED     STATUS      PORTS       NAMES\n";
    assert_eq!(ok(&env, &["ps"]), title);
    let made = ok(
        &env,
        &["create", "--name", "made", "--label", "a=1", "--label", "b", &image, "sleep", "12345678901234567890"],
    );
    start(&env, &image, &["--name", "up", "--label", "a=2"]);
    ok(&env, &["run", "--name", "done", &image, "true"]);
    let code = env.lrun(&["run", "--name", "failed", &image, "sh", "-c", "exit 4"]).status.code();
    assert_eq!(code, Some(4));
    let names = |words: &[&str]| {
        let text = ok(&env, &[&["ps", "--format", "{{.Names}}"], words].concat());
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&[]), "up");
    assert_eq!(names(&["-a"]), "done failed made up");
    assert_eq!(names(&["-l"]), "failed");
    for (filter, wanted) in [
        ("status=exited", "done failed"),
        ("status=created", "made"),
        ("exited=4", "failed"),
        ("name=a", "failed made"),
        ("label=a", "made up"),
        ("label=a=1", "made"),
        ("label=a=3", ""),
        ("ancestor=localhost/debian", "done failed made up"),
        ("ancestor=other", ""),
    ] {
        assert_eq!(names(&["-a", "--filter", filter]), wanted, "{filter}");
    }
    assert_eq!(names(&["-a", "-f", "label=a", "-f", "label=b"]), "made", "all labels must hold");
    assert_eq!(names(&["-a", "-f", "name=up", "-f", "name=made"]), "made up", "one of several names");
    assert_eq!(names(&["-a", "-f", &format!("id={}", &made[..9])]), "made");
    let line = ok(&env, &["ps", "-a", "--noheading", "-f", "name=made"]);
    assert!(
        line.starts_with(&made[..12]) && line.contains("sleep 12345678901...") && line.contains("Created"),
        "{line}"
    );
    let line = ok(&env, &["ps", "-a", "--noheading", "--no-trunc", "-f", "name=made"]);
    assert!(line.starts_with(made.trim()) && line.contains("sleep 12345678901234567890"), "{line}");
    assert_eq!(ok(&env, &["ps", "-aq", "-f", "name=made"]), format!("{}\n", &made[..12]));
    assert!(
        ok(&env, &["ps", "-a", "--format", "table {{.Names}}\\t{{.Status}}", "-f", "name=failed"])
            .contains("Exited (4) ")
    );
    let wrong = env.lrun(&["ps", "--filter", "pod=x"]);
    assert_eq!(wrong.status.code(), Some(125));

    let running = env.lrun(&["rm", "made", "nobody", "up"]);
    assert_eq!((running.status.code(), String::from_utf8_lossy(&running.stdout).as_ref()), (Some(2), "made\n"));
    assert_eq!(env.lrun(&["rm", "nobody"]).status.code(), Some(1));
    assert_eq!(env.lrun(&["kill", "done"]).status.code(), Some(125));
    assert_eq!(ok(&env, &["kill", "--all"]), "up\n");
    assert_eq!(inspect(&env, "up")["State"]["ExitCode"], 137);
    ok(&env, &["rm", "-a"]);
    assert_eq!(ok(&env, &["ps", "-aq"]), "");
}

#[test]
fn signals_timeouts_and_stop_signals_are_as_asked() {
    let (env, image) = need!("signals_timeouts", debian());
    let script = "trap 'echo hup' HUP; trap 'exit 5' USR1; trap '' TERM; echo ready; while :; do sleep 0.02; done";
    ok(&env, &["run", "-d", "--name", "s", "--stop-signal", "SIGUSR1", &image, "sh", "-c", script]);
    let log = || ok(&env, &["logs", "s"]);
    eventually("it listens", || log() == "ready\n");
    assert_eq!(ok(&env, &["kill", "-s", "HUP", "s"]), "s\n");
    eventually("it heard", || log() == "ready\nhup\n");
    ok(&env, &["stop", "s"]);
    assert_eq!(inspect(&env, "s")["State"]["ExitCode"], 5);
    assert_eq!(inspect(&env, "s")["Config"]["StopSignal"], "SIGUSR1");
    let before = inspect(&env, "s")["State"]["StartedAt"].clone();
    assert_eq!(ok(&env, &["restart", "s"]), "s\n");
    let pid = inspect(&env, "s")["State"]["Pid"].clone();
    assert_ne!(inspect(&env, "s")["State"]["StartedAt"], before);
    assert_eq!(ok(&env, &["start", "s"]), "s\n", "one that runs is left as it is");
    assert_eq!(inspect(&env, "s")["State"]["Pid"], pid);
    ok(&env, &["kill", "--signal", "KILL", "-l"]);
    assert_eq!(inspect(&env, "s")["State"]["ExitCode"], 137);
}

#[test]
fn a_killed_monitor_or_another_boot_means_that_nothing_runs() {
    let (env, image) = need!("a_killed_monitor", debian());
    start(&env, &image, &["--name", "web"]);
    let pid = inspect(&env, "web")["State"]["Pid"].to_string();
    kill(&parent(&pid));
    eventually("its end", || status(&env, "web") == "exited");
    assert_eq!(inspect(&env, "web")["State"]["ExitCode"], 137);
    assert_eq!(ok(&env, &["start", "web"]), "web\n", "and it can be started again");
    assert_eq!(status(&env, "web"), "running");

    let file = env.store.join("containers/web/state");
    let state = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    ok(&env, &["stop", "-t", "0", "web"]);
    assert!(state.contains(boot.trim()));
    std::fs::write(&file, state.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    assert_eq!(status(&env, "web"), "exited");
    ok(&env, &["start", "web"]);
    assert_eq!(status(&env, "web"), "running");
    ok(&env, &["rm", "-f", "web"]);

    // One of --rm goes with its monitor.
    start(&env, &image, &["--rm", "--name", "brief"]);
    kill(&parent(&inspect(&env, "brief")["State"]["Pid"].to_string()));
    eventually("its folder", || !env.store.join("containers/brief").exists());
}

#[test]
fn one_of_many_gets_a_name() {
    let (env, image) = need!("one_of_many", debian());
    let racers: Vec<_> = (0..8).map(|_| env.spawn("lrun", &["create", "--name", "only", &image, "true"])).collect();
    let made = racers.into_iter().map(|mut racer| racer.wait().unwrap().code()).filter(|code| *code == Some(0)).count();
    assert_eq!(made, 1);
    ok(&env, &["create", "--name", "other", &image, "true"]);
    let taken = env.lrun(&["rename", "other", "only"]);
    assert_eq!((taken.status.code(), all(&taken).contains("in use")), (Some(125), true));
    let starters: Vec<_> = (0..4).map(|_| env.spawn("lrun", &["start", "only"])).collect();
    for mut starter in starters {
        starter.wait().unwrap();
    }
    assert_eq!(ok(&env, &["wait", "only"]), "0\n");
    assert_eq!(ok(&env, &["logs", "only"]), "");
}

#[test]
fn a_container_keeps_running_under_another_name() {
    let (env, image) = need!("a_container_keeps_running", debian());
    let id = start(&env, &image, &["--name", "old"]);
    ok(&env, &["rename", "old", "new"]);
    assert_eq!(env.lrun(&["inspect", "old"]).status.code(), Some(125));
    assert_eq!(inspect(&env, "new")["Id"], id);
    assert_eq!(ok(&env, &["exec", "new", "echo", "hello"]), "hello\n");
    ok(&env, &["stop", "new"]);
    assert_eq!(inspect(&env, "new")["State"]["ExitCode"], 3);
    ok(&env, &["start", "new"]);
    ok(&env, &["rm", "-f", &id[..10]]);
    start(&env, &image, &["--rm", "--name", "brief"]);
    ok(&env, &["rename", "brief", "short"]);
    ok(&env, &["stop", "short"]);
    eventually("the folders", || std::fs::read_dir(env.store.join("containers")).unwrap().count() == 0);
}

#[test]
fn logs_are_followed_cut_and_kept_within_their_size() {
    let (env, image) = need!("logs_are_followed", debian());
    let script = "i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; printf half; sleep 0.1; echo ' and half'";
    ok(&env, &["run", "-d", "--name", "talks", &image, "sh", "-c", script]);
    let whole = "line 0\nline 1\nline 2\nline 3\nline 4\nhalf and half\n";
    assert_eq!(ok(&env, &["logs", "-f", "talks"]), whole, "to the end, and no further");
    assert_eq!(ok(&env, &["logs", "--tail", "2", "talks"]), "line 4\nhalf and half\n");
    assert_eq!(ok(&env, &["logs", "--tail", "0", "talks"]), "");
    assert_eq!(ok(&env, &["logs", "--since", "1h", "--until", "2099-01-01", "talks"]), whole);
    assert_eq!(ok(&env, &["logs", "--until", "1h", "talks"]), "");
    assert_eq!(env.lrun(&["logs", "--since", "yesterday", "talks"]).status.code(), Some(125));
    let stamped = ok(&env, &["logs", "-t", "--tail", "1", "talks"]);
    let (stamp, text) = stamped.split_once(' ').unwrap();
    assert!(stamp.len() == 35 && stamp.ends_with("+00:00") && text == "half and half\n", "{stamped}");
    let third = ok(&env, &["logs", "-t", "talks"]).lines().nth(2).unwrap().split(' ').next().unwrap().to_owned();
    assert!(ok(&env, &["logs", "--since", &third, "talks"]).starts_with("line 2\nline 3\n"));

    let many = "seq 1 5000";
    ok(&env, &["run", "-d", "--name", "many", "--log-opt", "max-size=20k", &image, "sh", "-c", many]);
    assert_eq!(ok(&env, &["wait", "many"]), "0\n");
    for file in ["log", "log.1"] {
        let size = std::fs::metadata(env.store.join("containers/many").join(file)).unwrap().len();
        assert!(size <= 20 << 10, "{file}: {size}");
    }
    assert!(ok(&env, &["logs", "many"]).ends_with("\n4999\n5000\n"));
}

#[test]
fn a_container_is_started_again_as_its_policy_says() {
    let (env, image) = need!("a_container_is_started_again", debian());
    let script = "echo x >> /n; exit $(wc -l < /n)";
    ok(&env, &["run", "-d", "--name", "twice", "--restart", "on-failure:2", &image, "sh", "-c", script]);
    eventually("its last end", || {
        let value = inspect(&env, "twice");
        value["RestartCount"] == 2 && value["State"]["ExitCode"] == 3
    });
    ok(&env, &["run", "-d", "--name", "always", "--restart", "always", &image, "sh", "-c", "echo again; sleep 0.1"]);
    eventually("three starts", || ok(&env, &["logs", "always"]).lines().count() >= 3);
    assert_eq!(ok(&env, &["stop", "always"]), "always\n");
    let count = ok(&env, &["logs", "always"]).lines().count();
    assert_eq!(status(&env, "always"), "exited");
    assert!(!lrun::state::is_locked(&env.store.join("containers/always")), "its monitor has ended");
    assert_eq!(ok(&env, &["logs", "always"]).lines().count(), count);
    assert_eq!(env.lrun(&["run", "--rm", "--restart", "always", &image, "true"]).status.code(), Some(125));
    ok(&env, &["start", "always"]);
    ok(&env, &["rm", "-f", "always"]);
}

#[test]
fn others_attach_and_leave() {
    let (env, image) = need!("others_attach", debian());
    let script = "while read line; do echo got $line; done; echo end";
    ok(&env, &["run", "-d", "-i", "--name", "ear", &image, "sh", "-c", script]);
    let mut command = env.command("sh");
    command.args(["-c", "(echo one; sleep 0.2; echo two) | lrun attach ear"]);
    assert_eq!(said(&command.output().unwrap()), "got one\ngot two\nend\n");
    assert_eq!(inspect(&env, "ear")["State"]["ExitCode"], 0);

    ok(&env, &["run", "-dit", "--name", "tty", &image, "sh", "-c", "stty size; read a; stty size; tty; exit 6"]);
    let mut command = env.command("sh");
    command.args([
        "-c",
        "(sleep 0.3; printf '\\020\\021') | script -qec 'stty rows 33 cols 77; lrun attach tty' /dev/null",
    ]);
    assert!(command.output().unwrap().status.success());
    assert_eq!(status(&env, "tty"), "running", "left, not ended");
    let mut command = env.command("sh");
    command
        .args(["-c", "(sleep 0.3; echo go; sleep 1) | script -qec 'stty rows 33 cols 77; lrun attach tty' /dev/null"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("33 77") && text.contains("/dev/pts/0"), "{text}");
    assert_eq!(output.status.code(), Some(6), "{text}");
    let foreground = env.lrun(&["attach", "ear"]);
    assert_eq!(foreground.status.code(), Some(125));
}

#[test]
fn top_counts_as_the_container_does() {
    let (env, image) = need!("top_counts", debian());
    ok(&env, &["run", "-d", "--name", "web", &image, "sh", "-c", "sleep 4711 & wait"]);
    ok(&env, &["exec", "web", "true"]);
    let text = ok(&env, &["top", "web"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(rows[0], ["USER", "PID", "PPID", "ELAPSED", "TIME", "COMMAND"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][2], rows[1][5]), ("0", "1", "0", "sh"));
    assert_eq!((rows[2][2], &rows[2][5..]), ("1", &["sleep", "4711"][..]));
    ok(&env, &["rm", "-f", "web"]);
    assert_eq!(env.lrun(&["top", "web"]).status.code(), Some(125));
}

#[test]
fn labels_and_ids_go_into_and_come_out_of_files() {
    let (env, image) = need!("labels_and_ids", debian());
    std::fs::write(env.scratch.join("labels"), "# none\nfrom=file\n\nboth=file\n").unwrap();
    let words =
        ["create", "--name", "l", "--label-file", "labels", "--label", "both=flag", "--cidfile", "cid", &image, "true"];
    let id = ok(&env, &words);
    assert_eq!(std::fs::read_to_string(env.scratch.join("cid")).unwrap(), id.trim());
    assert_eq!(inspect(&env, "l")["Config"]["Labels"], serde_json::json!({"from": "file", "both": "flag"}));
    let again = env.lrun(&["create", "--cidfile", "cid", &image, "true"]);
    assert_eq!(again.status.code(), Some(125), "{}", all(&again));
    assert_eq!(ok(&env, &["ps", "-aq"]).lines().count(), 1, "and nothing was made");
}

#[test]
fn root_can_do_all_this_too() {
    let (env, image) = need!(
        "root_can_do",
        debian().and_then(|(users, image)| {
            let env = Env::root()?;
            let tar = users.scratch.join("debian.tar");
            said(&env.lstore(&["import", "-q", "-c", "CMD [\"/bin/bash\"]", tar.to_str().unwrap_or_default(), &image]));
            Ok((env, image))
        })
    );
    start(&env, &image, &["--name", "web"]);
    eventually("its log", || ok(&env, &["logs", "web"]) == "begins\n");
    assert_eq!(ok(&env, &["exec", "web", "id", "-u"]), "0\n");
    assert_eq!(ok(&env, &["restart", "web"]), "web\n");
    ok(&env, &["stop", "web"]);
    assert_eq!(inspect(&env, "web")["State"]["ExitCode"], 3);
    ok(&env, &["rm", "web"]);
}
