//! Health checks: made from time to time by a process beside the container, or when they are asked for.

use crate::background::eventually;
use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

fn health(env: &Env, name: &str, field: &str) -> String {
    ok(env, &["inspect", "--format", &format!("{{{{.State.Health.{field}}}}}"), name]).trim().to_owned()
}

const SLEEP: [&str; 2] = ["sleep", "1000"];

fn run(env: &Env, image: &str, name: &str, flags: &[&str]) {
    ok(env, &[&["run", "-d", "--name", name], flags, &[image], &SLEEP].concat());
}

#[test]
fn a_check_is_made_again_and_again_and_its_last_ends_are_told() {
    let (env, image) = need!("a_check_is_made", debian());
    let check = "echo looked; test -e /well";
    run(&env, &image, "web", &["--health-cmd", check, "--health-interval", "100ms", "--health-retries", "2"]);
    eventually("failures", || health(&env, "web", "Status") == "unhealthy");
    assert!(ok(&env, &["ps", "--format", "{{.Status}}"]).ends_with(" (unhealthy)\n"));
    ok(&env, &["exec", "web", "touch", "/well"]);
    eventually("a success", || health(&env, "web", "Status") == "healthy");
    assert_eq!(health(&env, "web", "FailingStreak"), "0");
    eventually("five checks", || {
        health(&env, "web", "Log | len") == "5" || {
            let log: serde_json::Value = serde_json::from_str(&health(&env, "web", "Log | json")).unwrap();
            log.as_array().unwrap().len() == 5
        }
    });
    let log: serde_json::Value = serde_json::from_str(&health(&env, "web", "Log | json")).unwrap();
    assert_eq!((&log[4]["ExitCode"], &log[4]["Output"]), (&0.into(), &"looked\n".into()));
    let names = |filter: &str| ok(&env, &["ps", "--format", "{{.Names}}", "--filter", filter]);
    run(&env, &image, "plain", &[]);
    assert_eq!((names("health=healthy"), names("health=none")), ("web\n".to_owned(), "plain\n".to_owned()));
    let config = ok(&env, &["inspect", "--format", "{{json .Config.Healthcheck}}", "web"]);
    assert!(config.contains("\"Test\":[\"CMD-SHELL\",\"echo looked; test -e /well\"]"), "{config}");
    assert!(config.contains("\"Interval\":100000000") && config.contains("\"Retries\":2"), "{config}");
    assert_eq!(health(&env, "plain", "Status"), "");

    // What was found is of one start alone, and nobody looks on when it has ended.
    ok(&env, &["stop", "-t", "0", "web"]);
    let last = health(&env, "web", "Log | json");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(health(&env, "web", "Log | json"), last);
    ok(&env, &["rm", "-f", "web", "plain"]);
}

#[test]
fn a_check_that_is_asked_for_tells_by_its_exit_status() {
    let (env, image) = need!("a_check_that_is_asked_for", debian());
    let flags =
        ["--health-cmd", "[\"test\", \"-e\", \"/well\"]", "--health-interval", "disable", "--health-retries", "1"];
    run(&env, &image, "web", &[&flags[..], &["--health-start-period", "1h"]].concat());
    let ask = |name: &str| {
        let output = env.lrun(&["healthcheck", "run", name]);
        (output.status.code(), all(&output))
    };
    assert_eq!(ask("web"), (Some(1), "unhealthy\n".to_owned()));
    assert_eq!(health(&env, "web", "Status"), "starting", "failures of the start period do not count");
    ok(&env, &["exec", "web", "touch", "/well"]);
    assert_eq!(ask("web"), (Some(0), String::new()));
    assert_eq!(health(&env, "web", "Status"), "healthy");
    ok(&env, &["stop", "-t", "0", "web"]);
    assert_eq!((ask("web").0, ask("web").1.contains("is not running")), (Some(125), true));
    run(&env, &image, "plain", &["--no-healthcheck"]);
    assert_eq!((ask("plain").0, ask("plain").1.contains("has no defined healthcheck")), (Some(125), true));
    // Whatever came of it: in its group, in a session of its own, without a parent.
    let slow = "sleep 100 & setsid sh -c 'sleep 101 & (setsid sleep 102 &) ; sleep 103' & (setsid sleep 104 &) ; exec sleep 105";
    run(&env, &image, "slow", &["--health-cmd", slow, "--health-timeout", "1s", "--health-interval", "disable"]);
    let left = |name: &str| ok(&env, &["top", name]).lines().filter(|line| line.contains("sleep 10")).count();
    assert_eq!((ask("slow").0, left("slow")), (Some(1), 1), "all but the container's own sleep has been ended");
    assert!(health(&env, "slow", "Log | json").contains("exceeded timeout"));
    run(&env, &image, "long", &["--health-cmd", slow, "--health-interval", "disable"]);
    let mut killed = env.spawn("lrun", &["healthcheck", "run", "long"]);
    eventually("all of the check", || left("long") == 8);
    killed.kill().unwrap();
    killed.wait().unwrap();
    eventually("the end of it with who asked", || left("long") == 1);
    let refused = env.lrun(&["run", "--rm", "--health-retries", "2", &image, "true"]);
    assert_eq!((refused.status.code(), all(&refused).contains("add --health-cmd")), (Some(125), true));
    ok(&env, &["rm", "-f", "web", "plain", "slow", "long"]);
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_started_again() {
    let (env, image) = need!("an_unhealthy_container", debian());
    let flags = |action| {
        ["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1", "--health-on-failure", action]
    };
    let status = |name: &str| ok(&env, &["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name]);
    run(&env, &image, "killed", &flags("kill"));
    run(&env, &image, "stopped", &[&flags("stop")[..], &["--stop-signal", "KILL"]].concat());
    for name in ["killed", "stopped"] {
        eventually("its end", || status(name) == "exited 137\n");
    }
    run(&env, &image, "again", &[&flags("restart")[..], &["--stop-signal", "KILL"]].concat());
    let count = || ok(&env, &["inspect", "--format", "{{.RestartCount}}", "again"]);
    eventually("new starts", || count().trim().parse::<u32>().unwrap() >= 2);
    ok(&env, &["stop", "-t", "0", "again"]);
    assert!(status("again").starts_with("exited"));

    // One in the foreground is looked after as well.
    let output = env.lrun(&[&["run", "--rm"], &flags("kill")[..], &[&image], &SLEEP].concat());
    assert_eq!(output.status.code(), Some(137));
    ok(&env, &["rm", "-f", "killed", "stopped", "again"]);
}
